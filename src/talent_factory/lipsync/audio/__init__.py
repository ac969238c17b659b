"""Sound: read from any container, turned into features of frames, and into what the network listens to."""
