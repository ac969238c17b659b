"""`talent lipsync animate`: let a picture or a video say a recording."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from talent_factory.cli.common import (
    DryRunOption,
    JsonOption,
    WorkspaceOption,
    console,
    emit,
    printable,
    reporter,
)

if TYPE_CHECKING:
    from talent_factory.lipsync.animate.perform import Animated, Wish

SizeOption = Annotated[
    int | None,
    typer.Option("--size", min=64, max=4096, help="Longest side in pixels.", show_default="as it is"),
]
RateOption = Annotated[
    str | None,
    typer.Option("--fps", help="Frames a second: 25, 29.97, 30000/1001.", show_default="the video's, or 25"),
]
DetectorOption = Annotated[
    str,
    typer.Option("--detector", help="auto, skimage, drawn, yunet:FILE.onnx, boxes:FILE.json or center."),
]
BoxOption = Annotated[
    str | None, typer.Option("--box", help="The face as LEFT,TOP,RIGHT,BOTTOM in pixels of the file.")
]


def animate(
    audio: Annotated[
        Path, typer.Option("--audio", "-a", help="The speech: wav, mp3, m4a, or a video's sound.")
    ],
    model: Annotated[
        Path, typer.Option("--model", "-m", help="A run of talent lipsync train, or one of its checkpoints.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The mp4 to write.")],
    *,
    image: Annotated[Path | None, typer.Option("--image", help="A portrait that is to speak.")] = None,
    video: Annotated[Path | None, typer.Option("--video", help="A video whose mouth is to change.")] = None,
    kit: Annotated[str | None, typer.Option("--kit", help="Id of a kit whose preview is to speak.")] = None,
    size: SizeOption = None,
    fps: RateOption = None,
    detector: DetectorOption = "auto",
    box: BoxOption = None,
    shift: Annotated[
        float, typer.Option("--shift", min=-0.3, max=0.3, help="Move the cut down by this share of its side.")
    ] = 0.0,
    decoder: Annotated[
        str | None, typer.Option("--decoder", help="Another codec to decode with, such as sd-vae for taesd.")
    ] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
    workspace: WorkspaceOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make an mp4 in which a face says a recording; everything but the lower face stays as it is."""
    from talent_factory.lipsync.animate.perform import Wish, parse_box, parse_rate

    picture, moving = _picture(image, video, kit, workspace)
    wish = Wish(
        picture=picture,
        audio=audio,
        out=out,
        moving=moving,
        rate=None if fps is None else parse_rate(fps),
        long_side=size,
        detector=detector,
        box=None if box is None else parse_box(box),
        shift=shift,
    )
    if dry_run:
        _show_dry_run(wish, model, as_json)
        return
    from talent_factory.core.stop import graceful_stop
    from talent_factory.lipsync.animate.perform import animate as perform
    from talent_factory.lipsync.animate.speaker import open_speaker_on

    with reporter() as shown, graceful_stop("stopping; nothing is kept of an unfinished video") as stop:
        made = perform(
            wish, open_speaker_on(model, device=device, decoder=decoder), reporter=shown, stop=stop
        )
    emit(made, as_json, lambda: _show(made))


def _picture(
    image: Path | None, video: Path | None, kit: str | None, workspace: Path | None
) -> tuple[Path, bool]:
    """The one source that was named, and whether it moves."""
    from talent_factory.core.errors import UsageError

    if sum(given is not None for given in (image, video, kit)) != 1:
        raise UsageError(
            "who is to speak?", remedy="name one of --image portrait.png, --video clip.mp4 and --kit ID"
        )
    if video is not None:
        return video, True
    if image is not None:
        return image, False
    from talent_factory.core.workspace import check_id, workspace_from
    from talent_factory.kits.manifest import PREVIEW_FILE

    folder = workspace_from(workspace).talents / check_id(kit or "")
    preview = folder / PREVIEW_FILE
    if not preview.is_file():
        raise UsageError(
            f"{folder} has no {PREVIEW_FILE}" if folder.is_dir() else f"there is no kit {kit} here",
            remedy="talent kit list shows what is here; --image takes any render of it",
        )
    return preview, False


def _show_dry_run(wish: Wish, model: Path, as_json: bool) -> None:
    from talent_factory.lipsync.animate.perform import foresee

    plan = foresee(wish, model)

    def human() -> None:
        for name, value in plan.items():
            console().print(
                f"{name.replace('_', ' '):14} {printable(str(value))}", soft_wrap=True, markup=False
            )

    emit(plan, as_json, human)


def _show(made: Animated) -> None:
    pace = f"in {made.took_seconds:.1f} s ({made.frames_per_second:.1f} frames/s)"
    frames = f"{made.frames} frame{'' if made.frames == 1 else 's'}"
    lines = [f"{frames} of {made.width}x{made.height} at {made.rate:g} a second {pace}"]
    lines.append(f"face: {made.face_side:.0f} pixels, by {made.detector}; made with {made.made_side} pixels")
    if "drawn" in made.detector:
        lines.append("taken for a drawing: look whether it is the face, else give its place with --box")
    if made.without_face:
        lines.append(f"{made.without_face} frames showed no face and stayed as they are")
    lines.append(f"video: {made.out}")
    console().print("\n".join(lines), markup=False, soft_wrap=True)
