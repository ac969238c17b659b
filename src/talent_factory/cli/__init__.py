"""The `talent` command: thin shells that parse, call and show."""
