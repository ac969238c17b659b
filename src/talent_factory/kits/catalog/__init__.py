"""Know the kits of a folder without reading them again: one SQLite file that may be deleted at any time."""

from __future__ import annotations
