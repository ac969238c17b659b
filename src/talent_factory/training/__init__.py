"""Teach a base model one actor or one style as a LoRA."""

from __future__ import annotations

import logging

# Diffusers loads it where it is installed, and it then remarks on kernels for language models.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
