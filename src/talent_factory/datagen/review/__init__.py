"""Keep and reject by hand: a person's word on an image, which outranks every metric."""

from __future__ import annotations
