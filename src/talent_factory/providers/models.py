"""The registry of models: what each takes, costs and how long it lives, read from data."""

from __future__ import annotations

import tomllib
from datetime import UTC, date, datetime
from functools import cache
from importlib import resources
from pathlib import Path

from pydantic import Field, model_validator

from talent_factory.core.config import parse
from talent_factory.core.errors import ConfigError, ProviderRefused, UsageError
from talent_factory.core.records import Record
from talent_factory.providers.port import Aspect, Capabilities

SAFETY_REQUESTED = 6
_MAX_BYTES = 1 << 20


class ModelCard(Record):
    """One model of one provider. `id` is what the provider calls it, `name` what users type.

    `price_usd` is for one image with one portrait, about 1 megapixel each; `as_of` the day all this was
    checked. `safety` is the range of `safety_tolerance` with an input image; None where there is no such
    dial. `input` names fields of the provider's API, `fixed` holds values that are always sent.
    """

    provider: str = Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,100}$")
    id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/:@-]{0,140}$")
    as_of: date
    default: bool = False
    price_usd: float = Field(ge=0, le=100)
    note: str = ""
    aspects: tuple[Aspect, ...] = ()
    any_aspect: bool = False
    safety: tuple[int, int] | None = None
    max_in_flight: int = Field(default=1, ge=1, le=40)
    result_ttl_s: float | None = Field(default=None, gt=0)
    seed: bool = True
    max_seed: int = Field(default=2**31 - 1, ge=1, lt=2**63)
    network: bool = True
    recoverable: bool = False
    resumable: bool = False
    input: dict[str, str] = Field(default_factory=dict)
    fixed: dict[str, str | bool | int | float] = Field(default_factory=dict)
    retired_on: date | None = None
    replaced_by: str = ""

    @model_validator(mode="after")
    def _holds_together(self) -> ModelCard:
        if not self.any_aspect and not self.aspects:
            raise ValueError("needs aspects, or any_aspect = true")
        if self.safety is not None and self.safety[0] > self.safety[1]:
            raise ValueError("safety must be [least, most]")
        return self

    def clamp_safety(self, requested: int = SAFETY_REQUESTED) -> int | None:
        """The `safety_tolerance` to send for the one that is wanted; None where there is no such dial."""
        if self.safety is None:
            return None
        return max(self.safety[0], min(self.safety[1], requested))

    def capabilities(self) -> Capabilities:
        """The port's view of this model."""
        return Capabilities(
            model=self.name,
            any_medium=True,
            aspects=self.aspects,
            any_aspect=self.any_aspect,
            price_usd=self.price_usd,
            price_as_of=self.as_of.isoformat(),
            max_in_flight=self.max_in_flight,
            seed=self.seed,
            max_seed=self.max_seed,
            network=self.network,
            recoverable=self.recoverable,
            resumable=self.recoverable or self.resumable,
            safety=self.safety,
            result_ttl_s=self.result_ttl_s,
        )


class Registry(Record):
    """All rows of a file; the first of a provider that says `default`, else its first, is its default."""

    version: int = Field(ge=1, le=1)
    model: tuple[ModelCard, ...] = ()

    @model_validator(mode="after")
    def _names_are_unique(self) -> Registry:
        names = [(card.provider, card.name) for card in self.model]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"{'/'.join(min(twice))} stands twice")
        return self


def read_models(path: Path) -> tuple[ModelCard, ...]:
    """The rows of a user's own registry file.

    Raises ConfigError when it is missing, too large, not TOML, or a row does not fit.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", remedy="check the path") from None
    return _parse(data, str(path))


def model_names(provider: str) -> tuple[str, ...]:
    """The names that `model_card` takes for a provider, the default first."""
    return tuple(card.name for card in listed_models(provider))


def listed_models(provider: str) -> tuple[ModelCard, ...]:
    """All shipped rows of a provider, the default first, retired ones as well."""
    cards = [card for card in _shipped() if card.provider == provider]
    return tuple(sorted(cards, key=lambda card: not card.default))


def model_card(
    provider: str, name: str | None = None, *, own: Path | None = None, today: date | None = None
) -> ModelCard:
    """A provider's model by name or by the provider's own id, or its default.

    Rows of the user's file `own` come before those that are shipped. Raises UsageError for a name that is not
    known, and ProviderRefused for a model that is no longer offered.
    """
    cards = (*(read_models(own) if own else ()), *_shipped())
    cards = tuple(card for card in cards if card.provider == provider)
    if name is None:
        found = next((card for card in cards if card.default), cards[0] if cards else None)
    else:
        found = next((card for card in cards if name in (card.name, card.id)), None)
    if found is None:
        known = ", ".join(dict.fromkeys(card.name for card in cards)) or "none"
        raise UsageError(
            f"{provider} has no model {name!r} in the registry",
            remedy=f"one of {known}, or a row of your own",
        )
    if found.retired_on is not None and found.retired_on <= (today or datetime.now(UTC).date()):
        raise ProviderRefused(
            f"{provider} retired {found.name} on {found.retired_on.isoformat()}",
            remedy=f"use --model {found.replaced_by}" if found.replaced_by else "choose another model",
        )
    return found


def _parse(data: bytes, where: str) -> tuple[ModelCard, ...]:
    if len(data) > _MAX_BYTES:
        raise ConfigError(f"{where} is too large for a list of models", remedy="check the path")
    try:
        tree = tomllib.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where} is not valid TOML: {error}", remedy="correct the line named") from None
    return parse(Registry, tree, source=where).model


@cache
def _shipped() -> tuple[ModelCard, ...]:
    file = resources.files("talent_factory.providers") / "models.toml"
    return _parse(file.read_bytes(), "models.toml")
