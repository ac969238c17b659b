"""Which kits of a listing are wanted, and in which order."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, get_args

from talent_factory.core.errors import KitError, UsageError
from talent_factory.core.records import Record
from talent_factory.kits.keys import expected_modules

Kind = Literal["identity", "style"]
Sort = Literal["name", "date", "size", "rank", "weight", "token", "base"]
SORTS: tuple[str, ...] = get_args(Sort)
KINDS: tuple[str, ...] = get_args(Kind)
BASES = ("mini", "sd15", "sdxl")
_ORDERS = {
    "name": "folder",
    "date": "created DESC, folder",
    "size": "size_mb DESC, folder",
    "rank": "rank DESC, folder",
    "weight": "weight DESC, folder",
    "token": "token = '', token, folder",
    "base": "base = '', base, folder",
}
_REVISION = re.compile(r"[0-9a-f]{64}")


class Wish(Record):
    """What kits must be to be listed; a field that is None asks for nothing.

    `base` is mini, sd15 or sdxl, or the revision of one base (64 hex digits); kits that state another
    revision do not fit. All of `tags` must be there. `date` is newest first, numbers are largest first.
    """

    base: str | None = None
    kind: Kind | None = None
    tags: tuple[str, ...] = ()
    valid: bool | None = None
    sort: Sort = "name"

    def where(self) -> tuple[str, list[object]]:
        """Return the condition in SQL, over the columns of `kits`, with its values."""
        parts, values = ["1"], list[object]()
        if self.base is not None:
            parts.append("kits.base_revision = ?" if _REVISION.fullmatch(self.base) else "kits.base = ?")
            values.append(self.base)
        if self.kind is not None:
            parts.append("kits.kind = ?")
            values.append(self.kind)
        if self.valid is not None:
            parts.append("kits.valid = ?")
            values.append(int(self.valid))
        for tag in self.tags:
            parts.append("instr(kits.tags, ?) > 0")
            values.append(f"\n{tag.strip().casefold()}\n")
        return " AND ".join(parts), values

    def order(self) -> str:
        """Return the order in SQL."""
        return _ORDERS[self.sort]


def wish(
    *, fits: str | None = None, kind: str | None = None, tags: tuple[str, ...] = (), sort: str = "name"
) -> Wish:
    """Return the wish that words from a command line mean; `fits` as in `base_named`.

    Raises UsageError for a kind or an order that does not exist, KitError for a base that cannot be read.
    """
    for word, choices, option in ((kind, KINDS, "--kind"), (sort, SORTS, "--sort")):
        if word is not None and word not in choices:
            raise UsageError(f"{option} {word[:40]!r} is none", remedy=f"choose {', '.join(choices)}")
    return Wish.model_validate(
        {"base": base_named(fits) if fits else None, "kind": kind, "tags": tags, "sort": sort}
    )


def base_named(text: str) -> str:
    """Return mini, sd15 or sdxl for one of these names or for a model whose modules are the same.

    `text` may also be a folder in diffusers form, a checkpoint that carries its shapes, or a base revision.
    Raises UsageError for other words, KitError when the model is none of the three.
    """
    if text in BASES or _REVISION.fullmatch(text):
        return text
    place = Path(text).expanduser()
    if not place.exists():
        raise UsageError(
            f"there is no base {text[:120]!r}", remedy="write mini, sd15, sdxl or the folder of a model"
        )
    modules = dict(expected_modules(place))
    for name in BASES:
        if modules == dict(expected_modules(name)):
            return name
    raise KitError(
        f"{place} has other modules than mini, sd15 and sdxl",
        remedy="talent render --base FOLDER says of one kit whether it fits",
    )
