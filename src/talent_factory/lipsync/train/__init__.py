"""Train the network that speaks, exactly resumable, on one process or several."""
