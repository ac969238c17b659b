"""A trained actor speaks: a picture or a video and sound become a video."""
