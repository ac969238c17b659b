"""Cast a style: about twenty square images from one picture, by grids that are cut, checked and topped up."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from talent_factory.core.errors import Cancelled, DatasetError, ProviderError, TalentError
from talent_factory.core.events import Reporter
from talent_factory.core.files import clear_leftovers, json_text, sha256_bytes, write_bytes, write_text
from talent_factory.core.plan import Plan, PlanStep
from talent_factory.core.records import write_record
from talent_factory.core.stop import StopSignal
from talent_factory.core.workspace import check_token, exclusive
from talent_factory.datagen.cast import PortraitFacts
from talent_factory.datagen.grid import U8, Cell, cut, find_cells
from talent_factory.datagen.order import Made, Terms
from talent_factory.datagen.portrait import normalise, save_portrait
from talent_factory.datagen.stamp import stamp
from talent_factory.datagen.style_cast import (
    GRIDS,
    IMAGES,
    PICTURE_FILE,
    STYLE_FILE,
    StyleCast,
    StyleSheet,
    StyleTile,
    load_style,
)
from talent_factory.datagen.style_plan import (
    StyleOptions,
    check_editor,
    found,
    medium_of,
    order_of,
    plan_sheets,
    sheet_file,
    style_caption,
)
from talent_factory.datagen.style_sheet import write_style_sheet
from talent_factory.datagen.subjects import PER_GRID, load_subjects
from talent_factory.datagen.window import make_images
from talent_factory.providers.port import ImageEditor
from talent_factory.providers.vision.embedded import same_picture
from talent_factory.providers.vision.measures import fingerprint, read_rgb
from talent_factory.providers.vision.port import StyleCard, TileVerdict, Vision

__all__ = ["StyleOptions", "cast_style", "plan_style"]


def cast_style(
    picture: Path,
    *,
    out: Path,
    token: str,
    options: StyleOptions,
    editor: ImageEditor,
    vision: Vision,
    reporter: Reporter,
    stop: StopSignal | None = None,
) -> StyleCast:
    """Make `options.count` images in the style of `picture` into `out` and return `out/style_cast.json`.

    Sheets go out together; another one only while too few tiles survive the checks. A sheet that is there and
    was made from the same inputs is never made again; the style card of the same picture and vision is kept.
    Raises PortraitError, UsageError (a provider without styles), ProviderError when not one image came about,
    ProviderRefused and PolicyRefused with all that was made kept, Cancelled, DiskFull, WorkspaceBusy.
    """
    check_token(token)
    check_editor(editor)
    source = normalise(picture)
    with exclusive(out):
        for folder in (out, out / GRIDS, out / IMAGES):
            clear_leftovers(folder)
        before = _before(out)
        if before is None or before.picture.sha256 != source.sha256 or not (out / PICTURE_FILE).is_file():
            save_portrait(source, out / PICTURE_FILE)
        facts = PortraitFacts(
            file=PICTURE_FILE,
            source=picture.name,
            sha256=source.sha256,
            width=source.image.width,
            height=source.image.height,
            notes=source.notes,
        )
        known = before and before.picture.sha256 == facts.sha256 and before.vision == vision.name
        # looking may cost money: the card of an earlier run over the same picture serves, and is kept at once
        card = before.card if before and known else vision.style_card(out / PICTURE_FILE)
        cast = _blank(token, options, editor, vision, facts, card)
        if not known:
            _write_if_new(out / STYLE_FILE, cast)
        studio = _Studio(out, options, editor, vision, reporter, stop)
        reporter.event("style.begin", target=cast.target, provider=cast.provider)
        cast, stopped = studio.fill(cast)
        cast = _keep_best(cast, out, options)
        _write_if_new(out / STYLE_FILE, cast)
        write_style_sheet(cast, out)
    reporter.event("style.end", **cast.counts())
    _end(cast, stopped, stop)
    return cast


def plan_style(*, options: StyleOptions, editor: ImageEditor) -> Plan:
    """What `cast_style` would ask for before any check has failed; pure."""
    check_editor(editor)
    can = editor.capabilities()
    sheets = _first_count(options)
    megapixels = options.long_side**2 / 1e6
    seconds = (30.0 if can.network else 4.0 * megapixels) / max(1, min(options.in_flight, can.max_in_flight))
    steps = tuple(
        PlanStep(
            name=f"sheet {number:02d}",
            detail="nine subjects" if options.mode == "grid" else "one subject",
            seconds=seconds,
            memory_mb=200 + 60 * megapixels,
            disk_mb=2.4 * megapixels,
            cost_usd=can.price_usd,
            state="todo",
        )
        for number in range(1, sheets + 1)
    )
    return Plan(title=f"cast a style by {editor.name}: {options.count} images", steps=steps)


def _first_count(options: StyleOptions) -> int:
    size = PER_GRID if options.mode == "grid" else 1
    return min(_limit(options), -(-options.count // size))


def _limit(options: StyleOptions) -> int:
    return options.max_sheets * (1 if options.mode == "grid" else PER_GRID)


def _before(out: Path) -> StyleCast | None:
    """The record of an earlier run, if there is a readable one."""
    try:
        return load_style(out)
    except DatasetError:
        return None


def _blank(
    token: str,
    options: StyleOptions,
    editor: ImageEditor,
    vision: Vision,
    facts: PortraitFacts,
    card: StyleCard,
) -> StyleCast:
    can = editor.capabilities()
    return StyleCast(
        token=token,
        provider=editor.name,
        model=can.model,
        method=can.methods.get(medium_of(options), ""),
        vision=vision.name,
        mode=options.mode,
        target=options.count,
        seed=options.seed,
        subjects_version=load_subjects().version,
        picture=facts,
        card=card,
        sheets=(),
    )


class _Studio:
    """Makes sheets and turns them into tiles until enough tiles are good."""

    def __init__(
        self,
        out: Path,
        options: StyleOptions,
        editor: ImageEditor,
        vision: Vision,
        reporter: Reporter,
        stop: StopSignal | None,
    ) -> None:
        self._out, self._options, self._editor = out, options, editor
        self._vision, self._reporter, self._stop = vision, reporter, stop
        self._prints: list[np.ndarray] = []

    def fill(self, cast: StyleCast) -> tuple[StyleCast, TalentError | None]:
        wanted, stopped = _first_count(self._options), None
        while wanted and stopped is None and not (self._stop is not None and self._stop.requested):
            cast, stopped = self._round(cast, wanted)
            good = sum(tile.verdict.ok for tile in cast.tiles)
            size = PER_GRID if self._options.mode == "grid" else 1
            short = -(-max(0, self._options.count - good) // size)
            # a sheet that failed is tried again by the next run, not replaced by a dearer one in this
            wanted = 0 if cast.failed else min(short, _limit(self._options) - len(cast.sheets))
        return cast, stopped

    def _round(self, cast: StyleCast, count: int) -> tuple[StyleCast, TalentError | None]:
        planned = plan_sheets(
            len(cast.sheets) + 1,
            count,
            picture=cast.picture.sha256,
            card=cast.card,
            options=self._options,
            editor=self._editor,
        )
        sheets = {sheet.key: found(sheet, self._out) for sheet in planned}
        todo = [sheet for sheet in sheets.values() if sheet.state != "done"]
        stopped: TalentError | None = None

        def settle(made: Made) -> None:
            sheets[made.order.key] = _settled(sheets[made.order.key], made)
            done = sum(sheet.state == "done" for sheet in (*cast.sheets, *sheets.values()))
            self._reporter.progress("sheets", done, len(cast.sheets) + count, unit="sheet")

        if todo:
            options = self._options
            harvest = make_images(
                [order_of(sheet, self._out, options, self._editor) for sheet in todo],
                folder=self._out,
                editor=self._editor,
                terms=Terms(
                    in_flight=options.in_flight,
                    budget_usd=options.budget_usd,
                    time_scale=options.time_scale,
                ),
                stop=self._stop,
                on_made=settle,
            )
            stopped = harvest.stopped
        tiles = [tile for sheet in sheets.values() for tile in self._tiles(sheet)]
        everything = {"sheets": (*cast.sheets, *sheets.values()), "tiles": (*cast.tiles, *tiles)}
        return cast.model_copy(update=everything), stopped

    def _tiles(self, sheet: StyleSheet) -> list[StyleTile]:
        """The tiles of a finished sheet with their verdicts, also against those of earlier sheets."""
        if sheet.state != "done":
            return []
        image = read_rgb(str(self._out / sheet.file))
        cells = find_cells(image) if self._options.mode == "grid" else (_whole(image),)
        pictures = [cut(image, cell) for cell in cells]
        subjects = load_subjects()
        texts = {s.name: s.text for c in subjects.category for s in c.subject}
        verdicts = self._vision.check_tiles(
            pictures, subjects=[texts[name] for name in sheet.subjects], style=self._out / PICTURE_FILE
        )
        tiles = []
        for name, cell, picture, verdict in zip(sheet.subjects, cells, pictures, verdicts, strict=True):
            tiles.append(
                StyleTile(
                    subject=name,
                    category=subjects.category_of(name),
                    caption="",
                    sheet=sheet.number,
                    cell=cell.number,
                    box=cell.box,
                    gutters=cell.measured,
                    verdict=self._against_earlier(picture, verdict),
                )
            )
        self._prints += [fingerprint(picture) for picture in pictures]
        return tiles

    def _against_earlier(self, picture: U8, verdict: TileVerdict) -> TileVerdict:
        if verdict.ok and same_picture(picture, self._prints) is not None:
            return verdict.model_copy(update={"ok": False, "reason": "shows the same as an earlier sheet"})
        return verdict


def _whole(image: U8) -> Cell:
    """The largest centred square of a single picture."""
    height, width = image.shape[:2]
    side = min(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    return Cell(1, (left, top, left + side, top + side), True)


def _settled(sheet: StyleSheet, made: Made) -> StyleSheet:
    if made.state != "done":
        state = "failed" if made.state == "failed" else "planned"
        return sheet.model_copy(update={"state": state, "code": made.code, "error": made.error})
    changes: dict[str, object] = {
        "state": "done",
        "file": sheet_file(sheet),
        "sha256": made.sha256,
        "width": made.width,
        "height": made.height,
        "seed": made.seed,
        "job": made.job,
        "cost_usd": made.cost_usd,
    }
    return sheet.model_copy(update=changes)


def _keep_best(cast: StyleCast, out: Path, options: StyleOptions) -> StyleCast:
    """Number the best tiles and write them with their captions; images that are no longer kept go."""
    good = [at for at, tile in enumerate(cast.tiles) if tile.verdict.ok]
    # Best first; among equals in the order of the deal, which mixes the categories.
    best = sorted(good, key=lambda at: (-(cast.tiles[at].verdict.style_match or 3), at))[: options.count]
    numbers = {at: number for number, at in enumerate(sorted(best), start=1)}
    sheets = {sheet.number: sheet for sheet in cast.sheets}
    tiles, names, opened = [], set(), (0, np.empty((0, 0, 3), np.uint8))
    for at, tile in enumerate(cast.tiles):
        caption = style_caption(tile.subject, cast.token, options)
        tile = tile.model_copy(update={"caption": caption})
        if at in numbers:
            if opened[0] != tile.sheet:
                opened = (tile.sheet, read_rgb(str(out / sheets[tile.sheet].file)))
            picture = _enlarged(cut(opened[1], Cell(tile.cell, tile.box, tile.gutters)), options.upscale_to)
            tile = _write(tile, numbers[at], picture, cast, out)
            names |= {Path(tile.file).name, Path(tile.file).with_suffix(".txt").name}
        tiles.append(tile)
    _sweep(out / IMAGES, names)
    return cast.model_copy(update={"tiles": tuple(tiles)})


def _enlarged(picture: U8, side: int | None) -> U8:
    """A square picture at `side` pixels by Lanczos resampling, itself when it is no smaller."""
    if side is None or picture.shape[0] >= side:
        return picture
    return np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.LANCZOS), np.uint8)


def _write(tile: StyleTile, number: int, picture: U8, cast: StyleCast, out: Path) -> StyleTile:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG", compress_level=3)
    facts = {"subject": tile.subject, "sheet": tile.sheet, "cell": tile.cell, "provider": cast.provider}
    if picture.shape[1] > (across := tile.box[2] - tile.box[0]):
        facts["enlarged_from"] = across  # a trainer should know that this detail was not drawn
    data = stamp(buffer.getvalue(), facts | {"method": cast.method, "picture": cast.picture.sha256})
    file = f"{IMAGES}/{number:02d}_{tile.subject}.png"
    path = out / file
    if not path.is_file() or path.read_bytes() != data:
        write_bytes(path, data)
    words = path.with_suffix(".txt")
    if not words.is_file():  # one that a person has mended stays
        write_text(words, tile.caption + "\n")
    return tile.model_copy(update={"image": number, "file": file, "sha256": sha256_bytes(data)})


def _sweep(folder: Path, names: set[str]) -> None:
    """Remove images of ours that are kept no longer, and their captions; nothing else is touched."""
    known = {subject.name for category in load_subjects().category for subject in category.subject}
    for path in sorted(folder.glob("[0-9][0-9]_*.*")) if folder.is_dir() else ():
        ours = path.suffix in (".png", ".txt") and path.stem[3:] in known
        if ours and path.name not in names:
            path.unlink()


def _write_if_new(path: Path, cast: StyleCast) -> None:
    if not path.is_file() or path.read_bytes() != json_text(cast.model_dump(mode="json")).encode():
        write_record(path, cast)


def _end(cast: StyleCast, stopped: TalentError | None, stop: StopSignal | None) -> None:
    short = len(cast.kept) < cast.target
    if stop is not None and stop.requested and short:
        raise Cancelled(f"stopped with {cast.summary()}", remedy="run the same command again to go on")
    if stopped is not None and short:
        stopped.message += f"; {cast.summary()} so far, and kept"
        raise stopped
    if not cast.kept:
        why: Sequence[str] = [sheet.error for sheet in cast.failed]
        why = why or [tile.verdict.reason for tile in cast.tiles] or ["nothing was made"]
        raise ProviderError(
            f"not one image of {cast.target} could be kept: {why[0]}",
            remedy="look at the sheets in grids/, mend the cause and run the same command again",
        )
