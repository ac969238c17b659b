"""Clips as users have them: what they say of themselves, where they lie, and how samples are drawn."""
