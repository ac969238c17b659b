"""`talent lipsync features`: hear the clips of a dataset anew."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from talent_factory.cli.common import DryRunOption, JsonOption, console, counted, emit, reporter


def features(
    dataset: Annotated[Path, typer.Argument(help="A dataset with metadata.npz and wav/CLIP.wav.")],
    *,
    extractor: Annotated[
        str, typer.Option("--extractor", help="mel, or the folder of a Whisper model.")
    ] = "mel",
    audio_folder: Annotated[str, typer.Option("--audio-folder", help="Folder of the features.")] = "audio",
    device: Annotated[str, typer.Option("--device", help="Where Whisper runs: cpu, cuda, ...")] = "cpu",
    again: Annotated[bool, typer.Option("--again", help="Also where they are there already.")] = False,
    workers: Annotated[int, typer.Option("--workers", min=1, max=64, help="Clips at a time.")] = 1,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make the audio features of all clips from their sound; they replace others as a whole or not at all."""
    from talent_factory.core.stop import graceful_stop
    from talent_factory.lipsync.audio.features import open_extractor
    from talent_factory.lipsync.data.metadata import METADATA_FILE, read_metadata
    from talent_factory.lipsync.preprocess.hearing import give_features

    heard = open_extractor(extractor, device=device)
    if dry_run:
        before = read_metadata(dataset / METADATA_FILE)
        frames = sum(len(clip.frames) for clip in before.clips)
        document = {
            "dataset": dataset,
            "extractor": heard.id,
            "before": before.extractor,
            "clips": len(before.clips),
            "frames": frames,
            "bytes": frames * 15_488,
        }
        text = f"{heard.id} (now {before.extractor}): {counted(len(before.clips), 'clip')}, {frames} frames"
        emit(document, as_json, lambda: console().print(text, soft_wrap=True, markup=False))
        return
    with graceful_stop("stopping; finished clips are kept") as stop, reporter() as shown:
        made = give_features(
            dataset,
            heard,
            audio_folder=audio_folder,
            again=again,
            workers=workers,
            reporter=shown,
            stop=stop,
        )
    verb = "made" if made.changed else "there already"
    text = f"{made.extractor}: {counted(made.clips, 'clip')}, {made.frames} frames {verb} in {dataset}"
    emit(made, as_json, lambda: console().print(text, soft_wrap=True, markup=False))
