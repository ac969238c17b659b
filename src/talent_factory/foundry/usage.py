"""Who uses a kit: the personas and the renders of a workspace."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from talent_factory.core.errors import FileError, UsageError
from talent_factory.core.events import Reporter, SilentReporter
from talent_factory.core.files import read_json
from talent_factory.core.workspace import Workspace
from talent_factory.foundry.recipe import read_recipe

_MAX_PERSONA_BYTES = 4 << 20


class Use(NamedTuple):
    """How a kit is used: the personas that name it, and how many renders hold it."""

    personas: tuple[str, ...] = ()
    renders: int = 0


class Uses(NamedTuple):
    """All uses in a workspace, by kit id and, of renders, by the sha256 of the weights too."""

    personas: dict[str, tuple[str, ...]]
    renders_by_id: Counter[str]
    renders_by_weights: Counter[str]

    def of(self, talent_id: str, weights: str = "") -> Use:
        """Return the uses of one kit; its `weights` find the renders it made under another id."""
        known = self.renders_by_weights[weights] if weights else 0
        return Use(self.personas.get(talent_id, ()), max(known, self.renders_by_id[talent_id]))


def find_uses(place: Workspace, *, renders: bool = True, reporter: Reporter | None = None) -> Uses:
    """Look through the personas and, unless told otherwise, the renders and reports of a workspace.

    Pictures that carry no recipe of ours are passed over.
    """
    personas: dict[str, list[str]] = {}
    for path in sorted(place.personas.glob("*.json")):
        for talent_id in dict.fromkeys(_ids(_document(path))):
            personas.setdefault(talent_id, []).append(path.stem)
    by_id: Counter[str] = Counter()
    by_weights: Counter[str] = Counter()
    pictures = _pictures((place.root / "renders", place.reports)) if renders else []
    for done, path in enumerate(pictures, start=1):
        try:
            kits = read_recipe(path).kits
        except UsageError:
            kits = ()
        by_id.update(kit.id for kit in kits)
        by_weights.update(kit.sha256 for kit in kits)
        if len(pictures) > 500 and done % 100 == 0:
            (reporter or SilentReporter()).progress("read renders", done, len(pictures), unit="image")
    return Uses({name: tuple(found) for name, found in personas.items()}, by_id, by_weights)


def _pictures(folders: Iterable[Path]) -> list[Path]:
    return [path for folder in folders for path in sorted(folder.rglob("*.png")) if path.is_file()]


def _document(path: Path) -> Any:
    """A persona as plain JSON: also one that cannot be used any more keeps its kits from being unused."""
    try:
        return read_json(path) if path.stat().st_size <= _MAX_PERSONA_BYTES else None
    except (FileError, OSError, json.JSONDecodeError):
        return None


def _ids(document: Any) -> Iterator[str]:
    """Every text in a document that begins as talent ids do."""
    open_nodes = [document]
    while open_nodes:
        node = open_nodes.pop()
        if isinstance(node, str) and node.startswith(("avatar.identity.", "avatar.style.")):
            yield node
        elif isinstance(node, dict):
            open_nodes.extend([*node.keys(), *node.values()])
        elif isinstance(node, list):
            open_nodes.extend(node)
