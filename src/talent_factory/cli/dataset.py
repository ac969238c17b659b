"""`talent dataset`: from images to a folder that training reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from talent_factory.cli.common import JsonOption, WorkspaceOption, console, emit

if TYPE_CHECKING:
    from talent_factory.core.doctor import Finding
    from talent_factory.datagen.review.gallery import Gallery
    from talent_factory.dataset.manifest import DatasetManifest, Kind, Mode

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Prepare images and captions for training."
)

FolderArgument = Annotated[Path, typer.Argument(help="A prepared dataset (it holds dataset.json).")]
_MARKS = {"ok": ("ok", "green"), "warn": ("warn", "yellow"), "error": ("error", "bold red")}


@app.command("prepare")
def prepare(
    source: Annotated[Path, typer.Argument(help="An actor or style cast, or a folder of captioned images.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder of the dataset.", show_default="WORKSPACE/datasets/NAME"),
    ] = None,
    resolution: Annotated[
        int, typer.Option("--resolution", min=32, max=4096, help="Training size in pixels.")
    ] = 128,
    mode: Annotated[str, typer.Option("--mode", help="crop, letterbox or bucket.")] = "crop",
    kind: Annotated[str, typer.Option("--kind", help="For folders: identity or style.")] = "identity",
    token: Annotated[
        str, typer.Option("--token", "-t", help="For folders: the trigger word; a style may have none.")
    ] = "",
    class_noun: Annotated[
        str, typer.Option("--class-noun", help="For folders: man, woman, creature, robot, ...")
    ] = "",
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring images to the training size and write captions; the same inputs are never prepared twice."""
    from talent_factory.core.workspace import check_token, workspace_from
    from talent_factory.datagen.cast import CAST_FILE, load_cast
    from talent_factory.datagen.style_cast import IMAGES, STYLE_FILE, load_style
    from talent_factory.dataset.manifest import load_dataset
    from talent_factory.dataset.prepare import prepare_cached, prepare_cast, prepare_folder

    way = _mode(mode)
    datasets = workspace_from(workspace).datasets
    if (source / CAST_FILE).is_file():
        folder = out or datasets / check_token(load_cast(source).token)
        made = prepare_cast(source, out=folder, resolution=resolution, mode=way)
    else:
        sort = _kind(kind)
        if (source / STYLE_FILE).is_file():
            sort, token = "style", token or load_style(source).token
            source = source / IMAGES
        if out is None:
            folder = prepare_cached(
                source,
                datasets=datasets,
                kind=sort,
                token=token,
                class_noun=class_noun,
                resolution=resolution,
                mode=way,
            )
        else:
            folder = out
            prepare_folder(
                source,
                out=out,
                kind=sort,
                token=token,
                class_noun=class_noun,
                resolution=resolution,
                mode=way,
            )
        made = load_dataset(folder)
    emit(_document(made, folder), as_json, lambda: _summary(made, folder, hint=True))


@app.command("check")
def check(folder: FolderArgument, as_json: JsonOption = False) -> None:
    """Compare files with the manifest and read the captions critically; exit code 1 on an error."""
    from talent_factory.core.doctor import worst
    from talent_factory.dataset.prepare import check_dataset

    findings = check_dataset(folder)
    verdict = worst(findings)
    emit({"verdict": verdict, "findings": findings}, as_json, lambda: _findings(findings))
    if verdict == "error":
        raise typer.Exit(1)


@app.command("show")
def show(folder: FolderArgument, as_json: JsonOption = False) -> None:
    """List the images of a dataset with their captions and where they came from."""
    from talent_factory.dataset.manifest import load_dataset

    made = load_dataset(folder)

    def human() -> None:
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False)
        for header in ("image", "caption", "size", "source", "made by"):
            table.add_column(header, overflow="fold")
        for item in made.items:
            by = f"{item.method} (augmentation)" if item.augmentation else item.method
            size = f"{item.width} x {item.height}"
            name = item.file if item.repeats == 1 else f"{item.file} x{item.repeats}"
            table.add_row(name, Text(item.caption), size, Text(item.source), Text(by))
        console().print(table)
        _summary(made, folder, hint=False)

    emit({**made.model_dump(mode="json"), **_document(made, folder)}, as_json, human)


@app.command("export")
def export(
    folder: FolderArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="A new folder.")],
    layout: Annotated[
        str,
        typer.Option("--layout", help="kohya: `N_token class` with .txt; imagefolder: metadata.jsonl."),
    ] = "kohya",
    as_json: JsonOption = False,
) -> None:
    """Write the dataset in the layout of other trainers: a kohya folder, or a Hugging Face image folder."""
    from rich.text import Text

    from talent_factory.core.errors import UsageError
    from talent_factory.dataset.layout import write_image_folder, write_kohya
    from talent_factory.dataset.manifest import load_dataset

    writers = {"kohya": write_kohya, "imagefolder": write_image_folder}
    if layout not in writers:
        raise UsageError(f"layout {layout!r} is not known", remedy="use kohya or imagefolder")
    made = load_dataset(folder)
    writers[layout](folder, made, out)
    document = {"out": out, "layout": layout, "images": len(made.items)}
    emit(
        document, as_json, lambda: console().print(Text(f"{len(made.items)} images in {out}"), soft_wrap=True)
    )


@app.command("review")
def review(
    folder: Annotated[Path, typer.Argument(help="A cast, or any folder of images.")],
    keep: Annotated[str, typer.Option("--keep", help="Keep these images, by number: 1,2,5-7.")] = "",
    reject: Annotated[str, typer.Option("--reject", help="Leave these images out of datasets.")] = "",
    clear: Annotated[str, typer.Option("--clear", help="Take these decisions back.")] = "",
    show_only: Annotated[bool, typer.Option("--list", help="Only list what was decided.")] = False,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port of the page.", show_default="any free one")
    ] = 0,
    no_open: Annotated[bool, typer.Option("--no-open", help="Print the address, open no browser.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Keep and reject images by hand, on a page of this machine or by number; outranks every check.

    Decisions are kept by the image's digest in FOLDER/review.json. Rejected images stay where they are, and
    `talent dataset prepare` leaves them out.
    """
    from talent_factory.core.errors import UsageError
    from talent_factory.datagen.review.gallery import open_gallery
    from talent_factory.datagen.review.numbers import choices_from

    gallery = open_gallery(folder)
    choices = choices_from(gallery, keep=keep, reject=reject, clear=clear)
    if show_only and choices:
        raise UsageError("--list changes nothing", remedy="leave it out, or leave the numbers out")
    if choices:
        from talent_factory.datagen.review.gallery import apply

        apply(gallery, choices)
    elif not show_only:
        _review_page(gallery, port=port, browser=not no_open)
    _review_result(gallery, as_json)


def _review_page(gallery: Gallery, *, port: int, browser: bool) -> None:
    """Serve the page until Done is pressed or Ctrl-C; the address goes to stderr, results alone to stdout."""
    import webbrowser

    from talent_factory.core.stop import graceful_stop
    from talent_factory.datagen.review.gallery import redraw
    from talent_factory.datagen.review.server import ReviewServer

    server = ReviewServer(gallery, port=port)
    with graceful_stop() as stop, server.running():
        typer.echo(f"review at {server.url}", err=True)
        typer.echo("press Done on the page, or Ctrl-C here; every decision is saved at once", err=True)
        if browser:
            webbrowser.open(server.url)
        while not server.done.wait(0.2) and not stop.requested:
            pass
    redraw(gallery)


def _review_result(gallery: Gallery, as_json: bool) -> None:
    from rich.table import Table
    from rich.text import Text

    from talent_factory.datagen.quality.verdict import remarks, worst_verdict
    from talent_factory.datagen.review.book import load_review

    book = load_review(gallery.folder)
    rows = [(picture, book.choice(picture.sha256)) for picture in gallery.pictures]

    def human() -> None:
        table = Table(box=None, pad_edge=False)
        for header in ("", "image", "by hand", "checks"):
            table.add_column(header, overflow="fold")
        for picture, choice in rows:
            colour = {"keep": "green", "reject": "red"}.get(choice or "", "")
            said = "; ".join(remarks(picture.checks)) or worst_verdict(picture.checks).replace("_", " ")
            table.add_row(str(picture.number), Text(picture.title), Text(choice or "", colour), Text(said))
        rejected = sum(choice == "reject" for _, choice in rows)
        console().print(table)
        console().print(Text(f"{len(rows)} images, {rejected} rejected", "bold"))
        console().print(Text(f"next: talent dataset prepare {gallery.folder}"), soft_wrap=True)

    document = {
        "folder": gallery.folder,
        "images": [
            {
                "number": picture.number,
                "file": picture.path,
                "sha256": picture.sha256,
                "choice": choice,
                "verdict": worst_verdict(picture.checks),
                "remarks": remarks(picture.checks),
            }
            for picture, choice in rows
        ],
        "kept": sum(choice == "keep" for _, choice in rows),
        "rejected": sum(choice == "reject" for _, choice in rows),
    }
    emit(document, as_json, human)


def _document(made: DatasetManifest, folder: Path) -> dict[str, object]:
    return {
        "dataset": folder,
        "images": len(made.items),
        "augmented": made.augmented,
        "kind": made.kind,
        "token": made.token,
        "class_noun": made.class_noun,
        "resolution": made.resolution,
        "mode": made.mode,
        "fingerprint": made.fingerprint,
        "findings": made.findings,
    }


def _summary(made: DatasetManifest, folder: Path, *, hint: bool) -> None:
    from rich.text import Text

    subject = f"{made.token} {made.class_noun}".strip() or made.kind
    text = f"{len(made.items)} images of {subject} at {made.resolution} px ({made.mode})"
    if made.augmented:
        text += f", {made.augmented} of them augmentations"
    screen = console()
    screen.print(Text(text, "bold"))
    _findings(list(made.findings))
    if hint:
        screen.print(Text(f"dataset: {folder}"), soft_wrap=True)
        line = (
            f"next: write train_data_dir: {folder} into a config (docs/training.md), then talent train CONFIG"
        )
        screen.print(Text(line), soft_wrap=True)


def _findings(findings: list[Finding]) -> None:
    from rich.table import Table
    from rich.text import Text

    if not findings:
        console().print(Text("nothing to complain about", "green"))
        return
    table = Table(box=None, pad_edge=False)
    for header in ("", "what", "finding", "what to do"):
        table.add_column(header, overflow="fold")
    for finding in findings:
        word, style = _MARKS[finding.severity]
        table.add_row(Text(word, style), Text(finding.subject), Text(finding.message), Text(finding.remedy))
    console().print(table)


def _mode(text: str) -> Mode:
    from talent_factory.core.errors import UsageError

    known: dict[str, Mode] = {"crop": "crop", "letterbox": "letterbox", "bucket": "bucket"}
    if text not in known:
        raise UsageError(f"mode {text!r} is not known", remedy="use crop, letterbox or bucket")
    return known[text]


def _kind(text: str) -> Kind:
    from talent_factory.core.errors import UsageError

    known: dict[str, Kind] = {"identity": "identity", "style": "style"}
    if text not in known:
        raise UsageError(f"kind {text!r} is not known", remedy="use identity or style")
    return known[text]
