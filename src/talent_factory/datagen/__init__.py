"""From one portrait to a set of training images: reading it, recipes, casting, contact sheet."""

from __future__ import annotations
