"""`talent lipsync metadata`: say which clips a dataset holds, and write it where training looks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from talent_factory.cli.common import JsonOption, console, counted, emit, printable, reporter

if TYPE_CHECKING:
    from talent_factory.lipsync.records import Metadata


def metadata(
    source: Annotated[
        str,
        typer.Option(
            "--input", "-i", help="scan: the dataset's folder; json: the file; show: metadata or its address."
        ),
    ],
    mode: Annotated[
        Literal["scan", "json", "show"],
        typer.Option("--mode", help="scan looks through folders, json reads a list, show only reads."),
    ] = "scan",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Where to write.", show_default="metadata.npz beside the clips"),
    ] = None,
    image_folder: Annotated[
        str, typer.Option("--image-folder", help="Folder of the frames.")
    ] = "aligned-frames",
    audio_folder: Annotated[str, typer.Option("--audio-folder", help="Folder of the features.")] = "audio",
    extractor: Annotated[
        str | None,
        typer.Option(
            "--extractor", help="What made the audio files, such as mel-1.", show_default="as before"
        ),
    ] = None,
    skip_broken: Annotated[
        bool, typer.Option("--skip-broken", help="Leave clips out that lack files; exit code 3 if any.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Read every file, not only the first ones of each clip.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Look, but write nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List a dataset's clips in metadata.npz: pickle-free, checked, the same bytes for the same clips.

    Clips with missing neighbour files are named and refused: training never replaces a file by zeros.
    """
    from talent_factory.core.errors import UsageError
    from talent_factory.lipsync.data.metadata import METADATA_FILE, read_metadata, write_metadata

    broken: dict[str, str] = {}
    if mode == "show":
        if output is not None:
            raise UsageError("--mode show writes nothing", remedy="leave --output out, or use --mode json")
        found = read_metadata(source)
    elif mode == "json":
        found = _from_json(Path(source), extractor)
        output = output or Path(source).parent / METADATA_FILE
    else:
        found, broken = _scanned(
            Path(source), (image_folder, audio_folder), extractor, skip_broken=skip_broken, every=check
        )
        output = output or Path(source) / METADATA_FILE
    if output is not None and not dry_run:
        write_metadata(output, found)
    _show(found, None if dry_run else output, broken, as_json)
    if broken:
        raise typer.Exit(3)


def _from_json(path: Path, extractor: str | None) -> Metadata:
    from talent_factory.lipsync.data.metadata import from_json

    found = from_json(path)
    return found.model_copy(update={"extractor": extractor}) if extractor else found


def _scanned(
    source: Path, folders: tuple[str, str], extractor: str | None, *, skip_broken: bool, every: bool
) -> tuple[Metadata, dict[str, str]]:
    from talent_factory.core.errors import ClipError
    from talent_factory.lipsync.data.scan import scan, scan_all

    images, audio = folders
    with reporter() as progress:
        if not skip_broken:
            made = scan(
                source,
                image_folder=images,
                audio_folder=audio,
                extractor=extractor,
                every=every,
                reporter=progress,
            )
            return made, {}
        found = scan_all(
            source,
            image_folder=images,
            audio_folder=audio,
            extractor=extractor,
            every=every,
            reporter=progress,
        )
    if found.metadata is None:
        name, problem = next(iter(found.broken.items()))
        raise ClipError(
            f"all {counted(len(found.broken), 'clip')} in {source} are broken; {name}: {problem}",
            remedy="make them anew: talent lipsync preprocess",
        )
    return found.metadata, found.broken


def _show(found: Metadata, output: Path | None, broken: dict[str, str], as_json: bool) -> None:
    from talent_factory.lipsync.data.metadata import content_hash

    frames = sum(len(clip.frames) for clip in found.clips)
    minutes = frames / found.frame_rate / 60
    document = {
        "output": output,
        "clips": len(found.clips),
        "frames": frames,
        "minutes": round(minutes, 2),
        "extractor": found.extractor,
        "image_size": found.image_size,
        "content_hash": content_hash(found),
        "broken": broken,
    }

    def human() -> None:
        out = console()
        for name, problem in broken.items():
            out.print(f"left out  {printable(name)}: {printable(problem)}", markup=False, soft_wrap=True)
        size = f", {found.image_size} px" if found.image_size else ""
        by = f", audio by {found.extractor}" if found.extractor else ", extractor not said (--extractor)"
        text = (
            f"{counted(len(found.clips), 'clip')}, {counted(frames, 'frame')} ({minutes:.1f} min){size}{by}"
        )
        out.print(text, markup=False, soft_wrap=True)
        if output is not None:
            out.print(f"written to {output}", markup=False, soft_wrap=True)

    emit(document, as_json, human)
