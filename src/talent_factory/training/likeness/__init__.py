"""Which checkpoint is best: draw, measure, choose, say how sure that is."""
