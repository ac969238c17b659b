"""The kits of the workspace as the service shows them: from the catalog, looked through now and then."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any, cast

from talent_factory.core.errors import KitError
from talent_factory.core.workspace import Workspace, check_id
from talent_factory.kits.catalog.catalog import Catalog
from talent_factory.kits.catalog.choice import Wish
from talent_factory.kits.keys import base_of
from talent_factory.kits.manifest import EXAMPLES_FOLDER, PREVIEW_FILE, read_manifest, read_prompts
from talent_factory.service.places import regular_file
from talent_factory.service.wire import Family, KitDetail, KitSummary

# Looking through ten thousand kits takes a second: it is done at most in a tenth of the time.
_PAUSE_SECONDS, _PAUSE_SHARE = 1.0, 10.0
# A manifest's own words are bounded by the validator; a list is to stay small.
_LIST_CHARS = 500
PREVIEW_BYTES = 32 << 20


class Shelf:
    """Valid kits, listed, found and opened; safe for many threads."""

    def __init__(self, place: Workspace) -> None:
        self._place = place
        self._lock = threading.Lock()
        self._kits: dict[str, KitSummary] = {}
        self._fresh_until = 0.0
        place.talents.mkdir(parents=True, exist_ok=True)
        self._catalog = Catalog(place.talents)

    def close(self) -> None:
        """Let go of the catalog."""
        with self._lock:
            self._catalog.close()

    def kits(
        self, *, kind: str | None = None, base: str | None = None, family: str | None = None
    ) -> list[KitSummary]:
        """The valid kits by id, of one kind, made for one base and for one family of bases if named."""
        with self._lock:
            self._look()
            found = list(self._kits.values())
        return [
            kit
            for kit in found
            if kind in (None, kit.kind) and base in (None, kit.base) and family in (None, kit.family)
        ]

    def search(self, text: str, *, limit: int) -> list[KitSummary]:
        """The valid kits whose words fit `text`, the best first."""
        with self._lock:
            self._look()
            hits = self._catalog.search(text, wish=Wish(valid=True), limit=limit)
            return [self._kits[hit.id] for hit in hits if hit.id in self._kits]

    def kit(self, talent_id: str) -> KitDetail:
        """One valid kit. Raises UsageError for what is no id, KitError when there is no such kit."""
        summary = self._summary(talent_id)
        folder = self._place.talents / talent_id
        manifest, prompts = read_manifest(folder), read_prompts(folder)
        return KitDetail(
            **summary.model_dump(),
            rank=manifest.lora_rank,
            size_mb=manifest.size_mb,
            prompts=prompts.positive_prompts,
            negatives=prompts.negative_prompts,
            has_preview=self._picture(talent_id) is not None,
            manifest=manifest.model_dump(mode="json", exclude_none=True),
        )

    def preview(self, talent_id: str) -> Path:
        """The file of a kit's picture. Raises UsageError for what is no id, KitError when there is none."""
        self._summary(talent_id)
        path = self._picture(talent_id)
        if path is None:
            raise KitError(f"{talent_id} has no preview", remedy=f"talent kit examples {talent_id}")
        return path

    def _picture(self, talent_id: str) -> Path | None:
        folder = self._place.talents / talent_id
        names: list[tuple[str, ...]] = [(PREVIEW_FILE,)]
        names += [(EXAMPLES_FOLDER, path.name) for path in sorted((folder / EXAMPLES_FOLDER).glob("*.png"))]
        found = filter(None, (regular_file(folder, *parts) for parts in names))
        return next((path for path in found if path.stat().st_size <= PREVIEW_BYTES), None)

    def _summary(self, talent_id: str) -> KitSummary:
        check_id(talent_id)
        with self._lock:
            self._look()
            # a kit that just came or went is seen at once, whatever the last look said
            if (talent_id in self._kits) != (self._place.talents / talent_id).is_dir():
                self._look(now=True)
            found = self._kits.get(talent_id)
        if found is None:
            raise KitError(f"there is no valid kit {talent_id}", remedy="GET /kits lists them")
        return found

    def _look(self, *, now: bool = False) -> None:
        """Bring the list up to date when the last look is some time ago, or `now`."""
        begun = time.monotonic()
        if begun < self._fresh_until and not now:
            return
        changes = self._catalog.update()
        if changes.read or changes.gone or not self._kits:
            self._kits = {entry["id"]: _summarised(entry) for entry in self._catalog.entries()}
        took = time.monotonic() - begun
        self._fresh_until = time.monotonic() + max(_PAUSE_SECONDS, _PAUSE_SHARE * took)


def _summarised(entry: dict[str, Any]) -> KitSummary:
    metadata = cast("dict[str, Any]", entry["metadata"] or {})
    return KitSummary(
        id=entry["id"],
        kind="identity" if entry["id"].startswith("avatar.identity.") else "style",
        token=entry["token"],
        base=entry["base_model"],
        family=cast("Family", base_of(entry["base_model"], entry["sdx_version"])),
        default_weight=entry["default_weight"],
        description=str(metadata.get("description") or "")[:_LIST_CHARS],
        tags=tuple(metadata.get("tags") or ()),
    )
