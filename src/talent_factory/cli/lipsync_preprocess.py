"""`talent lipsync preprocess`: make clips of raw videos."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from talent_factory.cli.common import (
    DryRunOption,
    JsonOption,
    console,
    counted,
    emit,
    one_line,
    printable,
    reporter,
)

if TYPE_CHECKING:
    from talent_factory.lipsync.preprocess.plan import Settings
    from talent_factory.lipsync.preprocess.prepare import Made


def preprocess(
    videos: Annotated[list[Path], typer.Argument(help="Videos, or folders that hold some.")],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the dataset.")],
    detector: Annotated[
        str,
        typer.Option("--detector", help="skimage, yunet:FILE.onnx, boxes:FILE.json or center."),
    ] = "skimage",
    size: Annotated[int, typer.Option("--size", min=32, max=2048, help="Side of the faces in pixels.")] = 256,
    extractor: Annotated[
        str, typer.Option("--extractor", help="Features: mel, or the folder of a Whisper model.")
    ] = "mel",
    min_seconds: Annotated[
        float, typer.Option("--min-seconds", min=0.4, max=600, help="Drop clips that are shorter.")
    ] = 2.0,
    max_seconds: Annotated[
        float, typer.Option("--max-seconds", min=0.4, max=600, help="Cut clips that are longer.")
    ] = 30.0,
    min_face: Annotated[
        int, typer.Option("--min-face", min=0, help="Drop faces that are smaller, in pixels of the video.")
    ] = 64,
    shift: Annotated[
        float,
        typer.Option("--shift", min=-0.2, max=0.2, help="Move the cut down, in shares of its side."),
    ] = 0.0,
    workers: Annotated[
        int,
        typer.Option(
            "--workers", min=0, max=64, help="Videos at a time.", show_default="one for each processor"
        ),
    ] = 0,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Cut speaking faces out of videos: 25 frames a second, aligned, with features of the sound.

    The sound is the video's own, or a file of the same name beside it. Frames without a face end a clip,
    unless it is seen again within 0.4 s; no frame is ever paired with other sound. The same command goes on
    where it was cut off. Look at contact-sheet-001.png afterwards.
    """
    from talent_factory.lipsync.preprocess.plan import Settings, find_videos
    from talent_factory.lipsync.preprocess.prepare import default_workers

    settings = Settings(
        size=size,
        detector=detector,
        extractor=extractor,
        least_seconds=min_seconds,
        most_seconds=max(min_seconds, max_seconds),
        least_face=min_face,
        shift=shift,
    )
    found = find_videos(videos)
    if dry_run:
        _plan(found, out, settings, as_json)
        return
    made, document = _work(found, out, settings, workers=workers or default_workers(len(found)))
    if document["clips"]:
        emit(document, as_json, lambda: _show(made, document))
    _judge(made)


def _work(
    videos: tuple[Path, ...], out: Path, settings: Settings, *, workers: int
) -> tuple[tuple[Made, ...], dict[str, Any]]:
    from talent_factory.core.stop import graceful_stop
    from talent_factory.lipsync.data.metadata import METADATA_FILE, read_metadata
    from talent_factory.lipsync.preprocess.prepare import FRAMES, WAVES, preprocess
    from talent_factory.lipsync.preprocess.sheet import write_sheets

    with graceful_stop("stopping; finished clips are kept") as stop, reporter() as shown:
        made = preprocess(videos, out, settings, workers=workers, reporter=shown, stop=stop)
    names = {name for item in made for name in item.clips}
    sheets: tuple[Path, ...] = ()
    if names:
        clips = [clip for clip in read_metadata(out / METADATA_FILE).clips if clip.name in names]
        sheets = write_sheets(out, clips, frames=FRAMES, waves=WAVES)
    return made, {
        "dataset": out,
        "clips": sum(len(item.clips) for item in made),
        "frames": sum(item.frames for item in made),
        "sheets": list(sheets),
        "videos": [item.model_dump(mode="json") for item in made],
    }


def _show(made: tuple[Made, ...], document: dict[str, Any]) -> None:
    from rich.text import Text

    screen = console()
    for item in made:
        if item.error:
            continue
        left = [
            f"{frames / 25:.1f} s {why}"
            for frames, why in ((item.unseen, "without a face"), (item.unheard, "without sound"))
            if frames
        ]
        line = f"{item.video}: {counted(len(item.clips), 'clip')}, {item.frames / 25:.1f} s"
        screen.print(
            Text(printable(line + (f"; left out: {', '.join(left)}" if left else ""))), soft_wrap=True
        )
    total = f"{counted(document['clips'], 'clip')}, {document['frames']} frames in {document['dataset']}"
    screen.print(Text(total, "bold"), soft_wrap=True)
    screen.print(Text(f"look at {document['sheets'][0]}"), soft_wrap=True)


def _judge(made: tuple[Made, ...]) -> None:
    """Say what failed on stderr; exit code 3 where other videos gave clips, else the error itself."""
    from talent_factory.core.errors import ClipError

    failed = [item for item in made if item.error]
    for item in failed if any(item.clips for item in made) else failed[1:]:
        typer.echo(f"no clip: {one_line(str(item.error))}\n  try: {one_line(item.remedy)}", err=True)
    if len(failed) == len(made):
        raise ClipError(str(failed[0].error), remedy=failed[0].remedy)
    if failed:
        raise typer.Exit(3)


def _plan(videos: tuple[Path, ...], out: Path, settings: Settings, as_json: bool) -> None:
    """What would be done: the videos, and at most so many frames and bytes."""
    from talent_factory.core.errors import ClipError
    from talent_factory.lipsync.preprocess.decode import video_facts
    from talent_factory.lipsync.preprocess.plan import clip_stems, sound_of

    clip_stems(videos)
    rows: list[dict[str, Any]] = []
    for video in videos:
        try:
            facts = video_facts(video).model_dump(mode="json")
            facts["sound"] = str(sound_of(video))
        except ClipError as error:
            facts = {"path": str(video), "error": error.message}
        rows.append(facts)
    frames = round(25 * sum(row.get("seconds") or 0 for row in rows))
    # measured: about 1.5 bytes a pixel of PNG; 15.5 kB of features and 1.3 kB of sound for each frame
    size = frames * (round(1.5 * settings.size**2) + 15_488 + 1_280)
    document = {"out": out, "videos": rows, "frames_at_most": frames, "bytes_at_most": size}

    def human() -> None:
        from rich.text import Text

        for row in rows:
            text = row["error"] if "error" in row else _facts_line(row)
            console().print(Text(printable(text)), soft_wrap=True)
        total = f"at most {frames} frames at {settings.size} px, about {size / 1e6:.0f} MB in {out}"
        console().print(Text(total, "bold"), soft_wrap=True)

    emit(document, as_json, human)


def _facts_line(row: dict[str, Any]) -> str:
    seconds = "unknown length" if row["seconds"] is None else f"{row['seconds']:.1f} s"
    sound = "" if row["sound"] == row["path"] else f", sound of {row['sound']}"
    return f"{row['path']}: {row['width']} x {row['height']}, {row['rate']:g} fps, {seconds}{sound}"
