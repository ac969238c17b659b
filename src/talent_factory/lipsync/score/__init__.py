"""How well a mouth follows its sound, in numbers that can fail."""
