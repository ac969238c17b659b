"""What a request means in a workspace: checked before it is queued, checked again and drawn by a worker."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from talent_factory.core.errors import KitError, UsageError
from talent_factory.core.events import Reporter
from talent_factory.core.stop import StopSignal
from talent_factory.core.workspace import Workspace
from talent_factory.foundry.compat import compatibility
from talent_factory.foundry.persona_book import load_persona
from talent_factory.foundry.persona_draw import open_persona
from talent_factory.foundry.session import Session, prepare, shoot
from talent_factory.service.wire import (
    MAX_IMAGES,
    BaseSummary,
    KitUsed,
    MixAnswer,
    MixAsk,
    PairFit,
    RenderAsk,
)
from talent_factory.training.resolve import resolve_base

# What a picture costs grows with its area; larger ones are for `talent render`.
MAX_SIDE = 2048
_OPTIONS = ("negative", "steps", "guidance", "size", "batch")


def named_bases(given: tuple[str, ...]) -> dict[str, str]:
    """The bases that requests may name, by a name that tells no path: `mini`, else the last part of it.

    Raises UsageError when two would have the same name.
    """
    named: dict[str, str] = {}
    for text in given or ("mini",):
        name = Path(text).name
        if name in named:
            raise UsageError(f"two bases are called {name}", remedy="rename the folder of one")
        named[name] = text
    return named


def bases_shown(bases: Mapping[str, str]) -> tuple[BaseSummary, ...]:
    """What to tell of the bases. Raises BaseError for one that is not on this machine."""
    found = {name: resolve_base(where) for name, where in bases.items()}
    return tuple(
        BaseSummary(name=name, family="mini" if base.form == "mini" else base.family)
        for name, base in found.items()
    )


def check_mix(ask: MixAsk, *, place: Workspace, bases: Mapping[str, str]) -> Session:
    """The mix of a request with a prompt that stands for any. Raises UsageError, BaseError or KitError."""
    if not ask.kits:
        raise UsageError("a mix needs a kit", remedy='send {"kits": ["avatar.identity.NAME:1.0"]}')
    return prepare(
        ask.kits,
        root=place.talents,
        base=_base(ask.base, bases),
        prompts=["any"],
        seeds=[0],
        options={},
        mixing=_mixing(ask),
    )


def check_render(ask: RenderAsk, *, place: Workspace, bases: Mapping[str, str]) -> Session:
    """The session of a request; loads no model. Raises UsageError, BaseError or KitError."""
    if ask.size is not None and not all(64 <= side <= MAX_SIDE and side % 8 == 0 for side in ask.size):
        raise UsageError(
            f"size {ask.size[0]}x{ask.size[1]} is not possible",
            remedy=f"use multiples of 8 from 64 to {MAX_SIDE}",
        )
    session = _persona_session(ask, place, bases) if ask.persona else _kit_session(ask, place, bases)
    if len(session.order.shots) > MAX_IMAGES:
        raise UsageError(f"a job draws at most {MAX_IMAGES} images", remedy="name prompts, or fewer seeds")
    return session


def _kit_session(ask: RenderAsk, place: Workspace, bases: Mapping[str, str]) -> Session:
    return prepare(
        ask.kits,
        root=place.talents,
        base=_base(ask.base, bases),
        prompts=ask.prompts,
        seeds=ask.seeds,
        options=_options(ask),
        mixing=_mixing(ask),
        kind=ask.kind or "",
    )


def _persona_session(ask: RenderAsk, place: Workspace, bases: Mapping[str, str]) -> Session:
    """A persona with its own numbers, wherever the request names none."""
    persona = load_persona(place.personas, ask.persona or "")
    # a path in the file of a persona is no leave to read there
    base = _base(Path(persona.base.name).name, bases)
    return open_persona(persona, root=place.talents, base=base).session(
        prompts=ask.prompts,
        seeds=ask.seeds if "seeds" in ask.model_fields_set else (),
        options=_options(ask),
    )


def _options(ask: RenderAsk) -> dict[str, object]:
    """What the asker wrote; the rest is left to the foundry or to the persona."""
    named = ((name, getattr(ask, name)) for name in _OPTIONS if name in ask.model_fields_set)
    return {name: value for name, value in named if value is not None}


def kit_digests(session: Session) -> dict[str, str]:
    """The digests of the weights a session uses, by kit."""
    return {use.kit.id: use.kit.sha256 for use in session.mix.ingredients}


def check_unchanged(session: Session, digests: Mapping[str, str]) -> None:
    """Raise KitError when a kit is no longer the one that a job was taken in with."""
    for talent_id, digest in kit_digests(session).items():
        if digests.get(talent_id) != digest:
            raise KitError(
                f"{talent_id} changed after the job was taken in "
                f"(from {digests.get(talent_id, 'nothing')[:12]} to {digest[:12]})",
                remedy="send the request again",
            )


def draw(session: Session, *, out: Path, reporter: Reporter, stop: StopSignal, preview: int = 0) -> int:
    """Render into `out`, keeping what lies there already; returns the number of images.

    With `preview` = N a picture of the moment is written every N steps.

    Raises Cancelled when `stop` was requested before the last image.
    """
    images, _ = shoot(session, out=out, reporter=reporter, stop=stop, preview=preview)
    return len(images)


def mix_answer(session: Session, ask: MixAsk) -> MixAnswer:
    """What to tell about a mix that was checked."""
    kits = tuple(
        KitUsed(
            id=use.kit.id, sha256=use.kit.sha256, weight=use.weight, begin=use.begin, end=use.end
        )
        for use in session.mix.ingredients
    )  # fmt: skip
    pairs = tuple(
        PairFit(first=pair.first, second=pair.second, score=pair.score, words=pair.words)
        for pair in compatibility(session.mix.ingredients)
    )
    return MixAnswer(base=ask.base, kits=kits, warning=session.warning, pairs=pairs)


def _base(name: str, bases: Mapping[str, str]) -> str:
    if name not in bases:
        raise UsageError(
            f"this service has no base {name!r}", remedy=f"use one of: {', '.join(sorted(bases))}"
        )
    return bases[name]


def _mixing(ask: MixAsk) -> dict[str, object]:
    return {"projection": ask.projection, "switch": ask.switch}
