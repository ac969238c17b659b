"""What can be measured about a finished image, and what only a person can say; advice, never a judge."""

from __future__ import annotations
