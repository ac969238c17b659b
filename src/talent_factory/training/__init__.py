"""Teach a base model one actor or one style as a LoRA."""
