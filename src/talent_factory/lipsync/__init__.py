"""The actor speaks: a mouth that follows audio, from clips to a trained network to a video."""
