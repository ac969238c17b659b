"""Talking heads that are drawn, not filmed: clips whose every byte and whose truth is known."""
