"""Images with captions and one manifest, ready to train on."""

from __future__ import annotations
