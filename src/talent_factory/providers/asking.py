"""What may be asked of a model of the registry, checked before anything is sent or paid."""

from __future__ import annotations

import re
from collections.abc import Collection

from talent_factory.core.errors import ProviderError, ProviderRefused
from talent_factory.providers.models import SAFETY_REQUESTED, ModelCard
from talent_factory.providers.port import EditRequest

SAFETY = "safety_tolerance"


def check_request(
    request: EditRequest, card: ModelCard, *, service: str, options: Collection[str] = ()
) -> None:
    """Raises ProviderRefused for an empty prompt, an aspect, seed or option that the model does not take."""
    slot = f"slot {request.slot}"
    if not request.prompt.strip():
        raise ProviderRefused(
            f"{slot}: {card.name} reads words, and there is no prompt", remedy="name one in the recipe"
        )
    if not card.any_aspect and request.aspect not in card.aspects:
        raise ProviderRefused(
            f"{slot}: {card.name} makes no {request.aspect} pictures",
            remedy="one of " + ", ".join(card.aspects),
        )
    if request.seed > card.max_seed:
        raise ProviderRefused(
            f"{slot}: {card.name} takes seeds up to {card.max_seed}", remedy="use a smaller seed"
        )
    unknown = set(request.options) - set(options)
    if unknown:
        raise ProviderRefused(
            f"{slot}: {service} knows no option {min(unknown)!r}",
            remedy="one of " + (", ".join(sorted(options)) or "none"),
        )


def safety_asked(request: EditRequest) -> int:
    """The safety_tolerance that is wanted: the request's option, else 6. Raises ProviderRefused if odd."""
    text = request.options.get(SAFETY, str(SAFETY_REQUESTED))
    if not re.fullmatch(r"[0-6]", text):
        raise ProviderRefused(
            f"slot {request.slot}: safety_tolerance {text[:20]!r} is no number from 0 to 6",
            remedy="say 0 to 6",
        )
    return int(text)


def clamped(request: EditRequest, card: ModelCard) -> dict[str, object]:
    """What was asked for but is sent otherwise, for records."""
    wanted = safety_asked(request)
    sent = card.clamp_safety(wanted)
    return {} if sent in (wanted, None) else {SAFETY: {"requested": wanted, "sent": sent}}


def check_id(job_id: str, *, service: str, pattern: str = r"[A-Za-z0-9_-]{1,128}") -> None:
    """Raises ProviderError for a job id that no such service gives; ids become parts of addresses."""
    if not re.fullmatch(pattern, job_id):
        raise ProviderError(
            f"{job_id[:60]!r} is no id of a {service} job", remedy="check the ledger's provider"
        )
