"""Take a persona file in, ours or Persona Foundry's, with the kits and the base of this machine."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from talent_factory.core.errors import ConfigError, KitError
from talent_factory.foundry.persona import Persona, check_persona_id, parse_persona, read_persona_data
from talent_factory.foundry.persona_book import compose, read_dials
from talent_factory.foundry.persona_draw import find_base, open_persona
from talent_factory.foundry.persona_field import (
    FieldPersona,
    identity_candidates,
    is_field_form,
    manner_of,
    parse_field,
)
from talent_factory.kits.index import kit_folders


def import_persona(
    path: Path,
    *,
    root: Path,
    persona_id: str | None = None,
    identity: str | None = None,
    dials: Sequence[str] = (),
    base: str | None = None,
) -> Persona:
    """The persona in a file, made for the kits below `root`.

    Of ours the base and every kit must be here with the very bytes; a file of Persona Foundry names neither,
    so its identity is `avatar.identity.dot_NAME` and its sliders move the well-known styles, unless
    `identity` and `dials` (`NAME=LOW,HIGH`) say otherwise.
    Raises FileError, ConfigError, UsageError, KitError or BaseError.
    """
    data = read_persona_data(path)
    if is_field_form(data):
        field = parse_field(data, source=str(path))
        return _of_field(
            field, root=root, persona_id=persona_id, identity=identity, dials=dials, base=base or "mini"
        )
    if identity or dials:
        raise ConfigError(
            f"{path} names its own kits", remedy="leave out --identity and --slider, or change it afterwards"
        )
    persona = parse_persona(data, source=str(path))
    _, use = find_base(base or persona.base.name, persona.base.revision, persona_id=persona.id)
    changes = {"base": use, **({"id": check_persona_id(persona_id)} if persona_id else {})}
    persona = persona.model_copy(update=changes)
    open_persona(persona, root=root)
    return persona


def _of_field(
    field: FieldPersona,
    *,
    root: Path,
    persona_id: str | None,
    identity: str | None,
    dials: Sequence[str],
    base: str,
) -> Persona:
    name = persona_id or re.sub(r"[^a-z0-9_]", "_", field.dot_id.lower())
    places = [f"{slider}={value!r}" for slider, value in field.sliders.items()]
    version = field.version if re.fullmatch(r"\d{1,6}\.\d{1,6}\.\d{1,6}", field.version) else "1.0.0"
    return compose(
        check_persona_id(name),
        [identity or _find_identity(field.dot_id, root)],
        root=root,
        base=base,
        dials=read_dials([*dials, *places], root=root),
        words={**manner_of(field), "version": version},
    )


def _find_identity(dot_id: str, root: Path) -> str:
    here = {path.name for path in kit_folders(root)} if root.is_dir() else set()
    candidates = identity_candidates(dot_id)
    for talent_id in candidates:
        if talent_id in here:
            return talent_id
    raise KitError(
        f"the persona needs the identity kit {candidates[0][:100]}, which is not in {root}",
        remedy="talent kit import FILE, or name another with --identity",
    )
