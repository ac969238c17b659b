"""What every room stands on: files, records, config, locks, events, errors; no images and no torch."""
