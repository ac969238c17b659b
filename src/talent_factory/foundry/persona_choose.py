"""Let a persona mix its kits in the way that was measured best, and remember why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from talent_factory.core.errors import BaseError, KitError, UsageError
from talent_factory.core.events import Reporter
from talent_factory.core.records import read_record
from talent_factory.foundry.discover import Ingredient
from talent_factory.foundry.persona import Persona
from talent_factory.foundry.persona_draw import open_persona
from talent_factory.foundry.ways import MixChoice


def read_choice(path: Path) -> MixChoice:
    """What `talent mix choose` wrote. Raises FileError when the file is none."""
    return read_record(path, MixChoice)


def choose_for(persona: Persona, *, root: Path, out: Path, reporter: Reporter) -> MixChoice:
    """Draw every way of mixing the persona's identity and style into `out`, measure them and choose.

    Raises UsageError unless it has one of each, and what `choose_and_keep` raises.
    """
    from talent_factory.foundry.choose_mix import choose_and_keep

    opened = open_persona(persona, root=root)
    identities = [use for use in persona.kits if opened.kits[use.id].manifest.is_identity]
    styles = [use for use in persona.kits if use not in identities]
    if len(identities) != 1 or len(styles) != 1:
        raise UsageError(
            f"ways to mix are compared for one identity and one style, {persona.id} has "
            f"{len(identities)} and {len(styles)}",
            remedy=f"talent mix choose IDENTITY STYLE, then talent persona set {persona.id} --choice FILE",
        )
    pair = [Ingredient(kit=opened.kits[use.id], weight=use.weight) for use in (*identities, *styles)]
    return choose_and_keep(opened.base, pair, out=out, reporter=reporter)


def apply_choice(persona: Persona, choice: MixChoice) -> dict[str, Any]:
    """The fields of `persona` as `choice` would have them; kits that it does not speak of stay.

    Raises KitError or BaseError when it was made with other bytes than the persona has.
    """
    if choice.base_revision != persona.base.revision:
        raise BaseError(
            f"the choice was made on another base ({choice.base_revision[:12]}) than {persona.id} has",
            remedy=f"talent mix choose {choice.identity} {choice.style}",
        )
    best = choice.best
    known = {use.id: use for use in best.kits}
    for use in best.kits:
        own = persona.kit(use.id)
        if own.sha256 != use.sha256:
            raise KitError(
                f"the choice was made with other weights of {use.id}: {use.sha256[:12]}, here "
                f"{own.sha256[:12]}",
                remedy=f"talent mix choose {choice.identity} {choice.style}",
            )
    kits = []
    for own in persona.kits:
        plain = own.model_dump(mode="json")
        if own.id in known:
            plain |= known[own.id].model_dump(mode="json", include={"weight", "blocks", "begin", "end"})
        kits.append(plain)
    return {
        "kits": kits,
        "projection": best.projection,
        "switch": best.switch,
        "choice": choice.model_dump(mode="json"),
    }
