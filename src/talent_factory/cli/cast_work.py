"""Carrying out one order of images: price first, then consent, then work, then the result."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from talent_factory.cli.common import reporter, shell
from talent_factory.core.errors import Cancelled, UsageError

if TYPE_CHECKING:
    from talent_factory.core.plan import Plan
    from talent_factory.core.stop import StopSignal
    from talent_factory.datagen.cast import CastManifest
    from talent_factory.datagen.commission import Commission
    from talent_factory.datagen.delivery import Delivery
    from talent_factory.datagen.overview import Quote
    from talent_factory.datagen.style_cast import StyleCast
    from talent_factory.providers.port import ImageEditor
    from talent_factory.providers.vision.port import Vision

_DRAINING = (
    "stopping: nothing new is asked for, images under way are waited for; Ctrl-C again leaves at once "
    "(their ids are kept)"
)


@dataclass(frozen=True)
class Outcome:
    """What a run brought: the manifest, the images by number, and where they were delivered to."""

    made: CastManifest | StyleCast
    folder: Path
    images: dict[int, Path]
    spent_usd: float
    urls: tuple[str, ...]
    undelivered: str

    @property
    def complete(self) -> bool:
        """Whether every image was made and has reached its store."""
        return len(self.images) >= self.made.target and not self.undelivered


def plan_of(order: Commission, picture: Path, folder: Path) -> tuple[Plan, Quote]:
    """What `carry_out` would do and cost; asks nobody and needs no key."""
    with _editor(order, to_plan=True) as editor:
        _check_aspect(order, editor)
        quote = _quote(order, picture, folder, editor, vision=order.vision)
        return _plan(order, picture, folder, editor), quote


def carry_out(order: Commission, picture: Path, folder: Path, *, yes: bool) -> Outcome:
    """Make the images of `order` after the user agreed to the price.

    Raises what `cast_actor` and `cast_style` raise, UsageError where nobody can be asked, Cancelled.
    """
    from talent_factory.datagen.commission import check_folder, keep_order

    check_folder(order, folder)
    with _editor(order) as editor:
        # of an actor the embedded analyser has nothing to say that the checks do not say
        vision = _vision(order) if order.style is not None or order.vision != "embedded" else None
        looks = vision.name if vision is not None else ""
        _check_aspect(order, editor)
        quote = _quote(order, picture, folder, editor, vision=looks)
        delivery = _delivery(order)
        _agree(quote, order, yes=yes)
        keep_order(order, folder)
        with _interruptible(folder) as stop:
            made = _made(order, picture, folder, editor, vision, delivery, stop)
    return _outcome(order, made, folder, delivery)


def _check_aspect(order: Commission, editor: ImageEditor) -> None:
    """Refuse a shape that no image of the order could have, before a price is shown or a file written."""
    wish = order.actor.aspect if order.actor is not None else None
    if wish is None:
        return
    can = editor.capabilities()
    who = can.model or editor.name
    if can.aspects and not can.any_aspect and wish not in can.aspects:
        raise UsageError(f"{who} makes no {wish} pictures", remedy="one of " + ", ".join(can.aspects))
    across, down = map(int, wish.split(":"))
    if max(across, down) > 4 * min(across, down):
        raise UsageError(f"aspect {wish} is too narrow to hold a portrait", remedy="stay within 4:1 and 1:4")


def _made(
    order: Commission,
    picture: Path,
    folder: Path,
    editor: ImageEditor,
    vision: Vision | None,
    delivery: Delivery | None,
    stop: StopSignal,
) -> CastManifest | StyleCast:
    from talent_factory.datagen.actor import cast_actor
    from talent_factory.datagen.follow import check_slots
    from talent_factory.datagen.style import cast_style

    with reporter() as listener:
        if order.actor is not None:
            cast = cast_actor(
                picture,
                out=folder,
                token=order.token,
                options=order.actor,
                editor=editor,
                reporter=listener,
                stop=stop,
                # of more than are wanted only the chosen ones go out, at the end
                deliver=None if order.actor.keep else delivery,
            )
            return cast if vision is None else check_slots(folder, vision, reporter=listener)
        assert order.style is not None
        assert vision is not None
        return cast_style(
            picture,
            out=folder,
            token=order.token,
            options=order.style,
            editor=editor,
            vision=vision,
            reporter=listener,
            stop=stop,
        )


@contextmanager
def _interruptible(folder: Path) -> Iterator[StopSignal]:
    from talent_factory.core.stop import graceful_stop

    try:
        with graceful_stop("" if shell().quiet else _DRAINING) as stop:
            yield stop
    except KeyboardInterrupt:
        raise Cancelled(
            "left at once; images that are under way are paid and can be collected",
            remedy=f"talent cast resume {folder}",
        ) from None


@contextmanager
def _editor(order: Commission, *, to_plan: bool = False) -> Iterator[ImageEditor]:
    from talent_factory.datagen.access import KEY_VARIABLES, base_url_of, key_of
    from talent_factory.providers.catalog import make_editor

    key = key_of(order.provider)
    if to_plan and key is None and order.provider in KEY_VARIABLES:
        key = "a-plan-sends-nothing"
    editor = make_editor(
        order.provider,
        model=order.model,
        key=key,
        base_url=base_url_of(order.provider),
        models_file=order.models_file,
        upload=order.upload,
    )
    try:
        yield editor
    finally:
        close = getattr(editor, "close", None)
        if close is not None:
            close()


def _vision(order: Commission) -> Vision:
    from talent_factory.datagen.access import key_of
    from talent_factory.providers.vision.catalog import make_vision

    return make_vision(
        order.vision,
        model=order.vision_model,
        key=key_of("openai") if order.vision == "openai" else None,
        notice=None if shell().quiet else _notice,
    )


def _notice(text: str) -> None:
    print(text, file=sys.stderr)


def _plan(order: Commission, picture: Path, folder: Path, editor: ImageEditor) -> Plan:
    from talent_factory.datagen.actor import plan_cast
    from talent_factory.datagen.style import plan_style

    if order.actor is not None:
        return plan_cast(picture, out=folder, token=order.token, options=order.actor, editor=editor)
    assert order.style is not None
    return plan_style(options=order.style, editor=editor)


def _quote(order: Commission, picture: Path, folder: Path, editor: ImageEditor, *, vision: str) -> Quote:
    from talent_factory.datagen.overview import quote_actor, quote_style

    if order.actor is not None:
        return quote_actor(picture, folder=folder, order=order, editor=editor)
    return quote_style(picture, folder=folder, order=order, editor=editor, vision=vision)


def _agree(quote: Quote, order: Commission, *, yes: bool) -> None:
    """Say what it costs and let the user agree; free work needs no consent."""
    if quote.most_usd <= 0:
        return
    text = quote.sentence()
    options = order.actor or order.style
    if options is not None and options.budget_usd is not None:
        text += f"; the budget is ${options.budget_usd:.2f}"
    if yes:
        if not shell().quiet:
            print(text, file=sys.stderr)
        return
    if not sys.stdin.isatty():
        raise UsageError(
            f"{text}: there is no terminal to ask whether that is agreed",
            remedy="add --yes to agree, or --estimate to see the plan",
        )
    if not typer.confirm(f"{text}. Go on?", err=True):
        raise Cancelled(
            "not agreed: nothing was asked for, nothing is paid", remedy="talent cast providers shows prices"
        )


def _delivery(order: Commission) -> Delivery | None:
    """Where finished images go besides the folder; known to work before anything is paid."""
    if order.store is None:
        return None
    from talent_factory.datagen.delivery import Delivery
    from talent_factory.storage.catalog import open_store

    delivery = Delivery(
        open_store(order.store),
        user_id=order.user_id or "local",
        actor_id=order.actor_id or order.token,
        kind=order.kind,
    )
    delivery.check()
    return delivery


def _outcome(
    order: Commission, made: CastManifest | StyleCast, folder: Path, delivery: Delivery | None
) -> Outcome:
    from talent_factory.datagen.cast import CastManifest
    from talent_factory.datagen.overview import overview_of

    if isinstance(made, CastManifest):
        images = {slot.number: folder / slot.file for slot in made.done}
    else:
        images = {tile.image: folder / tile.file for tile in made.kept}
    if delivery is not None:
        delivery.put_rest(images)
        _withdraw(made, delivery)
    errors = () if delivery is None else tuple(delivery.errors.values())
    urls = {} if delivery is None else delivery.urls
    return Outcome(
        made=made,
        folder=folder,
        images=images,
        spent_usd=overview_of(folder).spent_usd,
        urls=tuple(urls[number] for number in images if number in urls),
        undelivered=errors[0].message if errors else "",
    )


def _withdraw(made: CastManifest | StyleCast, delivery: Delivery) -> None:
    """Take back what an earlier run delivered and this one has set aside."""
    from talent_factory.datagen.cast import CastManifest

    if isinstance(made, CastManifest):
        for slot in made.made:
            if slot.url and not slot.kept:
                delivery.withdraw(slot.number)
