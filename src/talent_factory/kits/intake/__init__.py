"""Take kits in: archives, kit folders, and LoRA files of other programs, none of them trusted."""

from __future__ import annotations
