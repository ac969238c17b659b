"""The module commands that users of the format know; each is a shell around one call."""

from __future__ import annotations
