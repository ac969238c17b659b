"""How a set of images stands: what is made, what is under way, what it cost, what the rest would cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from talent_factory.core.errors import DatasetError
from talent_factory.core.records import Record, read_record
from talent_factory.datagen.cast import CAST_FILE, CastManifest, load_cast
from talent_factory.datagen.commission import BY_USER, ORDER_FILE, Commission
from talent_factory.datagen.ledger import LEDGER_FILE, LIVE, RESERVED, Attempt, Ledger
from talent_factory.datagen.planning import plan_slots, take_over
from talent_factory.datagen.portrait import normalise
from talent_factory.datagen.recipes import load_recipe
from talent_factory.datagen.retry import GaveUp, next_rung
from talent_factory.datagen.style import plan_style
from talent_factory.datagen.style_cast import STYLE_FILE, StyleCast, load_style
from talent_factory.datagen.style_plan import found, plan_sheets
from talent_factory.datagen.subjects import PER_GRID
from talent_factory.providers.port import ImageEditor

# A job in one of these is paid and only has to be brought home.
_PAID = ("submitted", "fetched")


class OpenJob(Record):
    """A job that was asked for and is not finished here; `job` is the provider's id, once it is known."""

    slot: str
    state: str
    job: str = ""
    message: str = ""


class Part(Record):
    """One image (of an actor) or sheet (of a style)."""

    number: int
    name: str
    title: str
    state: Literal["planned", "done", "failed"]
    file: str = ""
    code: str = ""
    error: str = ""
    cost_usd: float = 0.0
    url: str = ""
    verdict: str = ""


class Overview(Record):
    """All that can be told of a set without asking anybody. `spent_usd` is settled, `reserved_usd` is held
    for what is under way; `lost` counts images that were paid perhaps and cannot be had; `checked` says
    whether every finished image was looked at.
    """

    folder: Path
    kind: Literal["actor", "style"]
    token: str
    provider: str
    model: str
    target: int
    done: int
    checked: bool
    parts: tuple[Part, ...]
    open: tuple[OpenJob, ...]
    attempts: dict[str, int]
    lost: int
    spent_usd: float
    reserved_usd: float
    resumable: bool

    @property
    def failed(self) -> tuple[Part, ...]:
        """The parts that failed."""
        return tuple(part for part in self.parts if part.state == "failed")

    @property
    def undelivered(self) -> tuple[Part, ...]:
        """Images that are made and did not reach their store."""
        return tuple(part for part in self.parts if part.state == "done" and part.error)

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        # more than wanted: it was ended before the best were chosen
        return self.done == self.target and self.checked and not self.open and not self.undelivered


class Quote(Record):
    """What a run would ask for: `todo` requests, of which `paid` are paid already and only collected.

    `most_usd` is more than `cost_usd` where rejected pictures are replaced; `spent_usd` is what earlier runs
    in this folder spent or hold. Failures that a provider bills come on top.
    """

    unit: Literal["image", "sheet"]
    todo: int
    paid: int
    price_usd: float
    cost_usd: float
    most_usd: float
    spent_usd: float
    provider: str
    model: str
    as_of: str

    def sentence(self) -> str:
        """The price in words."""
        count = self.todo - self.paid
        text = f"{count} {self.unit}{'s' if count != 1 else ''} by {self.provider}"
        text += f" {self.model}" if self.model else ""
        text += f" cost about ${self.cost_usd:.2f} (${self.price_usd:.3f} each"
        text += f", as of {self.as_of})" if self.as_of else ")"
        if self.most_usd > self.cost_usd:
            text += f", ${self.most_usd:.2f} at most when rejected ones are replaced"
        if self.paid:
            text += f"; {self.paid} more are paid already and only collected"
        if self.spent_usd:
            text += f"; ${self.spent_usd:.2f} were spent or reserved here before"
        return text


def quote_actor(portrait: Path, *, folder: Path, order: Commission, editor: ImageEditor) -> Quote:
    """What `cast_actor` would ask for. Raises PortraitError, ConfigError like it; writes nothing."""
    assert order.actor is not None
    planned = plan_slots(
        normalise(portrait),
        name=portrait.name,
        token=order.token,
        options=order.actor,
        recipe=load_recipe(order.actor.recipe),
        editor=editor,
    )
    slots = take_over(planned, folder).slots
    keys = [slot.key for slot in slots if slot.state != "done"]
    return _quote("image", keys, folder, editor, pay_again=order.actor.pay_again)


def quote_style(picture: Path, *, folder: Path, order: Commission, editor: ImageEditor, vision: str) -> Quote:
    """What `cast_style` would ask for first, and at most; `vision` is the name of the one that looks.

    Raises PortraitError; writes nothing.
    """
    options = order.style
    assert options is not None
    source = normalise(picture)
    first = len(plan_style(options=options, editor=editor).steps)
    most = options.max_sheets * (1 if options.mode == "grid" else PER_GRID)
    before = _style_before(folder, source.sha256, vision)
    if before is None:
        return _quote("sheet", [""] * first, folder, editor, further=most - first)
    if len(before.kept) >= options.count and not before.failed:
        first = min(first, len(before.sheets))
    # sheets of earlier runs beyond the first ones are asked for already
    asked = min(most, max(first, len(before.sheets)))
    planned = plan_sheets(1, asked, picture=source.sha256, card=before.card, options=options, editor=editor)
    todo = [sheet.key for sheet in planned if found(sheet, folder).state != "done"]
    whole = not todo and len(before.kept) >= options.count
    return _quote("sheet", todo, folder, editor, further=0 if whole else most - asked)


def overview_of(folder: Path) -> Overview:
    """How the set in `folder` stands.

    Raises DatasetError when there is none, FileError when its files are damaged.
    """
    attempts = _attempts(folder)
    resumable = (folder / ORDER_FILE).is_file() or (folder / CAST_FILE).is_file()
    money = {
        "spent_usd": sum(a.cost for a in attempts if a.state not in RESERVED) / 1e6,
        "reserved_usd": sum(a.price for a in attempts if a.state in RESERVED) / 1e6,
    }
    facts = {
        **money,
        "folder": folder,
        "open": [
            OpenJob(slot=a.slot, state=a.state, job=a.job, message=a.message)
            for a in attempts
            if a.state in LIVE
        ],
        "attempts": dict(sorted(Counter(a.state for a in attempts).items())),
        "lost": sum(a.state == "lost" for a in attempts),
        "resumable": resumable,
    }
    if (folder / CAST_FILE).is_file():
        facts |= _of_cast(load_cast(folder))
    elif (folder / STYLE_FILE).is_file():
        facts |= _of_style(load_style(folder))
    elif (folder / ORDER_FILE).is_file():
        facts |= _of_order(folder)
    else:
        raise DatasetError(
            f"{folder} holds no cast", remedy="make one: talent cast actor PORTRAIT --token TOKEN"
        )
    return Overview.model_validate(facts)


def sets_in(casts: Path) -> tuple[Path, ...]:
    """The folders of a workspace's `casts/` that hold a set, by name; those of programs last."""
    if not casts.is_dir():
        return ()
    known = (ORDER_FILE, CAST_FILE, STYLE_FILE)
    folders = (*sorted(casts.iterdir()), *sorted(casts.glob(f"{BY_USER}/*/*/*")))
    return tuple(folder for folder in folders if any((folder / name).is_file() for name in known))


def name_of(folder: Path) -> str:
    """What a set is called in lists: its folder, with user and actor where a program cast it."""
    parts = folder.parts
    return "/".join(parts[-3:]) if BY_USER in parts[-4:-3] else folder.name


def _quote(
    unit: Literal["image", "sheet"],
    keys: Sequence[str],
    folder: Path,
    editor: ImageEditor,
    *,
    further: int = 0,
    pay_again: bool = False,
) -> Quote:
    can = editor.capabilities()
    attempts = _attempts(folder)
    if not pay_again:
        keys = [key for key in keys if not _given_up([a for a in attempts if a.key == key])]
    home = {a.key for a in attempts if a.state in _PAID and a.provider == editor.name}
    paid = sum(key in home for key in keys)
    cost = (len(keys) - paid) * can.price_usd
    return Quote(
        unit=unit,
        todo=len(keys),
        paid=paid,
        price_usd=can.price_usd,
        cost_usd=cost,
        most_usd=cost + max(0, further) * can.price_usd,
        spent_usd=sum(a.price if a.state in RESERVED else a.cost for a in attempts) / 1e6,
        provider=editor.name,
        model=can.model,
        as_of=can.price_as_of,
    )


def _given_up(history: Sequence[Attempt]) -> bool:
    """Whether this image is not asked for again: lost, or refused by the filter for good."""
    try:
        # faults of earlier runs do not count against a new one
        next_rung(history, run=max((attempt.run for attempt in history), default=0) + 1)
    except GaveUp:
        return True
    return False


def _attempts(folder: Path) -> tuple[Attempt, ...]:
    path = folder / LEDGER_FILE
    if not path.is_file() or not path.stat().st_size:
        return ()
    ledger = Ledger(path, provider="", remote=True)
    try:
        return ledger.everything()
    finally:
        ledger.close()


def _style_before(folder: Path, sha256: str, vision: str) -> StyleCast | None:
    """The style set whose card a new run would keep."""
    try:
        before = load_style(folder)
    except DatasetError:
        return None
    return before if before.picture.sha256 == sha256 and before.vision == vision else None


def _of_cast(cast: CastManifest) -> dict[str, object]:
    parts = [
        Part(
            number=slot.number,
            name=slot.name,
            title=slot.title,
            state=slot.state,
            file=slot.file,
            code=slot.code,
            error=slot.error,
            cost_usd=slot.cost_usd,
            url=slot.url,
            verdict=_worst([check.verdict for check in slot.checks]),
        )
        for slot in cast.slots
    ]
    return {
        "kind": "actor",
        "token": cast.token,
        "provider": cast.provider,
        "model": cast.model,
        "target": cast.target,
        "done": len(cast.done),
        "checked": all(slot.checks for slot in cast.done),
        "parts": parts,
    }


def _worst(verdicts: Sequence[str]) -> str:
    return next((verdict for verdict in ("fail", "warn", "pass") if verdict in verdicts), "")


def _of_style(cast: StyleCast) -> dict[str, object]:
    parts = [
        Part(
            number=sheet.number,
            name=f"sheet_{sheet.number}",
            title=f"{sum(t.image > 0 for t in cast.tiles if t.sheet == sheet.number)} of "
            f"{len(sheet.subjects)} kept",
            state=sheet.state,
            file=sheet.file,
            code=sheet.code,
            error=sheet.error,
            cost_usd=sheet.cost_usd,
        )
        for sheet in cast.sheets
    ]
    return {
        "kind": "style",
        "token": cast.token,
        "provider": cast.provider,
        "model": cast.model,
        "target": cast.target,
        "done": len(cast.kept),
        "checked": True,
        "parts": parts,
    }


def _of_order(folder: Path) -> dict[str, object]:
    """A run that was killed before its manifest was written."""
    order = read_record(folder / ORDER_FILE, Commission)
    target = order.style.count if order.style else 0
    if order.actor:
        planned = order.actor.count or len(load_recipe(order.actor.recipe).slots)
        target = min(order.actor.keep or planned, planned)
    return {
        "kind": order.kind,
        "token": order.token,
        "provider": order.provider,
        "model": order.model or "",
        "target": target,
        "done": 0,
        "checked": True,
        "parts": (),
    }
