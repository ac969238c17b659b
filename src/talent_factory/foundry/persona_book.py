"""The personas of a workspace: list, read and write them, and make one of kits, sliders and words."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from talent_factory.core.config import parse
from talent_factory.core.errors import KitError, TalentError, UsageError
from talent_factory.core.workspace import exclusive
from talent_factory.foundry.blend import Mix
from talent_factory.foundry.discover import Ingredient, check_same_base, read_ingredient
from talent_factory.foundry.persona import (
    Persona,
    PersonaKit,
    check_persona_id,
    read_persona,
    revised,
    write_persona,
)
from talent_factory.foundry.persona_draw import (
    check_base,
    fetch_kit,
    find_base,
    finish_of,
    own_kit,
    template_of,
)
from talent_factory.foundry.persona_edit import split_dials
from talent_factory.foundry.persona_field import DIALS
from talent_factory.kits.index import kit_folders


@dataclass(frozen=True)
class Dial:
    """A slider as asked for: the kits at its ends as typed (`ID` or `ID:WEIGHT`), and where it stands."""

    low: str
    high: str
    value: float = 0.5


def persona_path(folder: Path, persona_id: str) -> Path:
    """The file of a persona. Raises UsageError for a text that is no id."""
    return folder / f"{check_persona_id(persona_id)}.json"


def load_persona(folder: Path, persona_id: str) -> Persona:
    """The persona `folder/ID.json`.

    Raises UsageError when there is none, naming the nearest, or when the file is of another persona;
    FileError or ConfigError when it cannot be used.
    """
    path = persona_path(folder, persona_id)
    if not path.exists():
        near = difflib.get_close_matches(persona_id, persona_ids(folder), n=1, cutoff=0.5)
        remedy = f"did you mean {near[0]}?" if near else "talent persona list shows what there is"
        raise UsageError(f"there is no persona {persona_id} in {folder}", remedy=remedy)
    persona = read_persona(path)
    if persona.id != persona_id:
        raise UsageError(f"{path} is the persona {persona.id}", remedy=f"call the file {persona.id}.json")
    return persona


def persona_ids(folder: Path) -> list[str]:
    """The names of all persona files, sorted; whether they can be read is another question."""
    return sorted(path.stem for path in folder.glob("*.json") if not path.name.startswith("."))


def list_personas(folder: Path) -> list[tuple[str, Persona | TalentError]]:
    """All personas by id; in the place of one that cannot be used stands why."""
    found: list[tuple[str, Persona | TalentError]] = []
    for name in persona_ids(folder):
        try:
            found.append((name, load_persona(folder, name)))
        except TalentError as error:
            found.append((name, error))
    return found


def add_persona(folder: Path, persona: Persona, *, anew: bool = False) -> Path:
    """Write a new persona and return its file. Raises UsageError when it exists and shall stay."""
    path = persona_path(folder, persona.id)
    with exclusive(folder):
        if path.exists() and not anew:
            raise UsageError(
                f"there is a persona {persona.id} already",
                remedy=f"talent persona set {persona.id} changes it; --replace makes it anew",
            )
        write_persona(path, persona)
    return path


def change_persona(folder: Path, persona_id: str, change: Callable[[Persona], Mapping[str, Any]]) -> Persona:
    """Write a persona with the fields that `change` makes of it, as its next version, and return it.

    Raises what `load_persona`, `change` and `revised` raise; then the file stays as it is.
    """
    load_persona(folder, persona_id)
    with exclusive(folder):
        before = load_persona(folder, persona_id)
        after = revised(before, change(before), remedy="talent persona set --help")
        if after != before:
            write_persona(persona_path(folder, persona_id), after)
    return after


def follow_rename(folder: Path, old: str, new: str) -> tuple[str, ...]:
    """Let the personas of a folder name a kit by its new id; returns those that did, as their next version.

    The digest they keep still says which kit they mean. Personas that cannot be read stay as they are.
    """
    users = [
        persona.id
        for _, persona in list_personas(folder)
        if isinstance(persona, Persona) and any(kit.id == old for kit in persona.kits)
    ]
    for persona_id in users:
        change_persona(folder, persona_id, lambda persona: _with_id(persona, old, new))
    return tuple(users)


def _with_id(persona: Persona, old: str, new: str) -> dict[str, Any]:
    plain = persona.model_dump(mode="json", include={"kits", "sliders", "choice"})
    return cast("dict[str, Any]", _replaced(plain, old, new))


def _replaced(node: Any, old: str, new: str) -> Any:
    """A JSON document with `new` in the place of every text that is `old`."""
    if isinstance(node, dict):
        return {key: _replaced(value, old, new) for key, value in node.items()}
    if isinstance(node, list):
        return [_replaced(value, old, new) for value in node]
    return new if node == old else node


def compose(
    persona_id: str,
    kits: Sequence[str],
    *,
    root: Path,
    base: str = "mini",
    dials: Mapping[str, Dial] | None = None,
    mixing: Mapping[str, object] | None = None,
    words: Mapping[str, Any] | None = None,
) -> Persona:
    """A persona of kits below `root`, each as `ID`, `ID:WEIGHT` or `ID:WEIGHT@BEGIN-END`.

    `dials` add the kits at their ends; `mixing` are further fields of `Mix`, `words` of `Persona`. Prompts
    and finish come from the first identity where none are given. Raises UsageError, BaseError or KitError.
    """
    check_persona_id(persona_id)
    found, base_use = find_base(base, None, persona_id=persona_id)
    ends = {name: (dial.low, dial.high) for name, dial in (dials or {}).items()}
    texts = [*kits, *(text for pair in ends.values() for text in pair)]
    uses = {text: read_ingredient(text, root, base_folder=found.kit_folder) for text in texts}
    for use in uses.values():
        check_base(use.kit, found)
    check_same_base(list(uses.values()))
    given = {name: value for name, value in (words or {}).items() if value not in (None, "", (), [], {})}
    draw = {"threads": usual_threads(), **given.pop("draw", {})}
    fields = {
        **_from_identity(list(uses.values())),
        **given,
        "draw": draw,
        **Mix(**dict(mixing or {})).model_dump(exclude={"ingredients"}),
        "id": persona_id,
        "base": base_use.model_dump(),
        "kits": [PersonaKit.of(use).model_dump() for use in uses.values()],
        "sliders": {
            name: {"low": uses[low].kit.id, "high": uses[high].kit.id, "value": (dials or {})[name].value}
            for name, (low, high) in ends.items()
        },
    }
    return parse(Persona, fields, source=f"persona {persona_id}", remedy="talent persona new --help")


def usual_threads() -> int:
    """The processor's threads that a new persona draws with: OMP_NUM_THREADS, else one a core."""
    import psutil

    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdecimal() and 1 <= int(asked) <= 1024:
        return int(asked)
    return psutil.cpu_count(logical=False) or os.cpu_count() or 1


def _from_identity(uses: Sequence[Ingredient]) -> dict[str, Any]:
    """Prompts, negatives and finish of the first identity, or of the first kit without one."""
    if not uses:
        raise UsageError(
            "a persona needs a kit", remedy="talent persona new ID --identity avatar.identity.NAME"
        )
    kit = next((use.kit for use in uses if use.kit.manifest.is_identity), uses[0].kit)
    negatives = [kit.manifest.negatives or "", *kit.prompts.negative_prompts]
    templates = dict.fromkeys(template_of(prompt, kit) for prompt in kit.prompts.positive_prompts)
    return {
        "prompts": list(templates),
        "negatives": ", ".join(dict.fromkeys(text for text in negatives if text)),
        "finish": finish_of(kit),
    }


def accept(persona: Persona, *, root: Path, base: str | None = None, kits: bool = False) -> dict[str, Any]:
    """The changes that take another base, or the kits as they are now; every kit must fit the base.

    Whoever takes them gives up what the persona drew before. Raises KitError or BaseError.
    """
    if base is None and not kits:
        return {}
    revision = persona.base.revision if base is None else None
    found, use = find_base(base or persona.base.name, revision, persona_id=persona.id)
    fresh = []
    for kit in persona.kits:
        if kits:
            now = own_kit(kit.id, root=root, found=found)
        else:
            now = fetch_kit(kit, root=root, found=found, persona_id=persona.id)
        fresh.append(kit.model_copy(update={"sha256": now.sha256}).model_dump(mode="json"))
    return {"base": use.model_dump(), "kits": fresh}


def read_dials(texts: Sequence[str], *, root: Path) -> dict[str, Dial]:
    """Sliders as typed: `NAME=LOW,HIGH` names the kits, `NAME=VALUE` the place.

    Without kits the well-known ones of that name are taken. Raises UsageError or KitError.
    """
    ends, places = split_dials(texts)
    dials = {name: Dial(low=low, high=high) for name, (low, high) in ends.items()}
    for name, value in places.items():
        if not 0.0 <= value <= 1.0:
            raise UsageError(
                f"slider {name} goes from 0 to 1, not to {value:g}", remedy=f"write --slider {name}=0.5"
            )
        known = dials.get(name)
        dials[name] = replace(known, value=value) if known else well_known_dial(name, value, root=root)
    return dials


def well_known_dial(name: str, value: float, *, root: Path) -> Dial:
    """The kits of a dial of Persona Foundry, out of those that lie below `root`.

    Raises UsageError for a name it does not have, KitError when one of the kits is missing.
    """
    if name not in DIALS:
        raise UsageError(
            f"the ends of slider {name[:40]!r} are not known", remedy=f"--slider {name}=LOW_ID,HIGH_ID"
        )
    here = {path.name for path in kit_folders(root)} if root.is_dir() else set()
    ends = []
    for candidates in DIALS[name]:
        match = next((talent_id for talent_id in candidates if talent_id in here), None)
        if match is None:
            raise KitError(
                f"slider {name} needs the kit {candidates[0]}, which is not in {root}",
                remedy=f"talent kit import FILE, or name others: --slider {name}=LOW_ID,HIGH_ID",
            )
        ends.append(match)
    return Dial(low=ends[0], high=ends[1], value=value)
