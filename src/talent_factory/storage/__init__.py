"""Where finished images are put: one port, a local folder by default, S3 and what speaks like it."""

from __future__ import annotations
