"""`talent lipsync pack`: one file a clip, which a far place serves many times faster than loose files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from talent_factory.cli.common import DryRunOption, JsonOption, console, counted, emit, reporter

if TYPE_CHECKING:
    from talent_factory.lipsync.data.loose import LooseClips


def pack(
    dataset: Annotated[Path, typer.Argument(help="The dataset's folder.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="Folder that gets packs/ and metadata.npz.", show_default="the dataset itself"
        ),
    ] = None,
    metadata: Annotated[
        str | None,
        typer.Option("--metadata", help="Path or address.", show_default="DATASET/metadata.npz"),
    ] = None,
    image_folder: Annotated[
        str, typer.Option("--image-folder", help="Folder of the frames.")
    ] = "aligned-frames",
    audio_folder: Annotated[str, typer.Option("--audio-folder", help="Folder of the features.")] = "audio",
    pictures: Annotated[
        Literal["png", "rgb"],
        typer.Option("--pictures", help="png as they are, or rgb: larger, but read without decoding."),
    ] = "png",
    workers: Annotated[int, typer.Option("--workers", min=1, max=64, help="Files read at a time.")] = 4,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Put each clip into one file, PNGs and audio as they are; samples from it are the same.

    Packs that are there and no older than their files are kept, so a stopped run goes on where it was.
    Training reads packs wherever the dataset has a folder packs/.
    """
    from talent_factory.core.errors import ClipError
    from talent_factory.lipsync.data.loose import LooseClips
    from talent_factory.lipsync.data.metadata import METADATA_FILE, read_metadata, write_metadata
    from talent_factory.lipsync.data.pack import pack_clips
    from talent_factory.lipsync.data.places import Files

    if not dataset.is_dir():
        raise ClipError(f"{dataset} is no folder", remedy="give the folder of the dataset")
    found = read_metadata(metadata or dataset / METADATA_FILE)
    clips = LooseClips(found, Files(local=dataset), image_folder=image_folder, audio_folder=audio_folder)
    target = out or dataset
    if dry_run:
        _show_plan(clips, target, as_json, plain=pictures == "rgb")
        return
    with reporter() as progress:
        made = pack_clips(clips, target, pictures=pictures, workers=workers, reporter=progress)
    if not (target / METADATA_FILE).exists() or out is not None:
        write_metadata(target / METADATA_FILE, found)
    size = f"{made.bytes / 1e6:.1f} MB in {target / 'packs'}"
    text = f"{counted(made.clips, 'clip')} packed, {made.kept} kept: {size}"
    emit(
        {"out": target, **made.model_dump()},
        as_json,
        lambda: console().print(text, markup=False, soft_wrap=True),
    )


def _show_plan(clips: LooseClips, target: Path, as_json: bool, *, plain: bool) -> None:
    """What packing would take, from the first picture of each clip."""
    pictures = rows = 0
    for number, clip in enumerate(clips.metadata.clips):
        one = clips.frame(number, 0).nbytes if plain else len(clips.picture_bytes(number, 0))
        pictures += one * len(clip.frames)
        rows += len(clip.frames)
    document = {
        "out": target / "packs",
        "clips": len(clips.metadata.clips),
        "frames": rows,
        "bytes_at_most": pictures + rows * 3840 * 4,
    }
    text = (
        f"{counted(len(clips.metadata.clips), 'clip')}, {counted(rows, 'frame')}: about "
        f"{(pictures + rows * 3840 * 4) / 1e6:.0f} MB in {target / 'packs'}"
    )
    emit(document, as_json, lambda: console().print(text, markup=False, soft_wrap=True))
