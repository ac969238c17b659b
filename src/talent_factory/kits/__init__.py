"""Talent Kits: write, validate and index the folders that are shipped; numpy and images, never torch."""

from __future__ import annotations
