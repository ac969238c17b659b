"""A judge of lips and sound that is trained here: two towers that meet where both belong together."""
