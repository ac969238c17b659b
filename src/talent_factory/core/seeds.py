"""Randomness as a pure function of names and indices, never of a generator's history."""

from __future__ import annotations

import hashlib


def derive_seed(*parts: str | int) -> int:
    """A seed in 0 .. 2^63 - 1 from the sha256 over the parts: the same on every machine, at any time.

    Each part is fed with its type and length, so ("ab", "c") and ("a", "bc"), or 1 and "1", differ.
    """
    digest = hashlib.sha256()
    for part in parts:
        text = str(int(part)) if isinstance(part, int) else part
        data = text.encode("utf-8")
        digest.update(f"{'i' if isinstance(part, int) else 's'}{len(data)}:".encode() + data)
    return int.from_bytes(digest.digest()[:8], "big") >> 1
