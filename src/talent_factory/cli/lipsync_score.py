"""`talent lipsync score` and `sync-train`: how well lips and sound go together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from talent_factory.cli.common import DryRunOption, JsonOption, console, emit, reporter

if TYPE_CHECKING:
    from talent_factory.lipsync.score.records import Score
    from talent_factory.lipsync.score.video import VideoScore
    from talent_factory.lipsync.sync.network import SyncNet

_STILL = 1e-3  # openings that deviate less are no mouth that moves
# what fits into 80 columns; --json has the rest
_COLUMNS = {
    "correlation": "r",
    "offset": "offset",
    "articulation": "moves",
    "leak": "leak",
    "upper_psnr": "dB",
    "ssim": "ssim",
    "sync_offset": "sync",
    "sync_confidence": "sure",
}


def score(
    target: Annotated[Path, typer.Argument(help="A dataset (with --model), or a video with sound.")],
    *,
    model: Annotated[
        Path | None, typer.Option("--model", "-m", help="The run or checkpoint to score on a dataset.")
    ] = None,
    audio: Annotated[
        Path | None, typer.Option("--audio", "-a", help="The sound of a video, when not its own.")
    ] = None,
    truth: Annotated[
        Path | None, typer.Option("--truth", help="truth/CLIP.npz of the drawn clip that the sound is from.")
    ] = None,
    clips: Annotated[
        int, typer.Option("--clips", min=1, help="Clips of the dataset to score, from its end.")
    ] = 6,
    sync: Annotated[
        Path | None, typer.Option("--sync", help="A SyncNet of sync-train.", show_default="the embedded one")
    ] = None,
    detector: Annotated[
        str, typer.Option("--detector", help="For videos: skimage, yunet:FILE, boxes:FILE or center.")
    ] = "skimage",
    reader: Annotated[
        str, typer.Option("--reader", help="For videos: drawn, or dark for photographed faces.")
    ] = "drawn",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Also write the figures as JSON.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Score an actor on clips it never saw, or one video; exit code 1 when a target is missed."""
    from talent_factory.core.records import write_record

    network = _network(sync)
    if target.is_dir():
        result = _dataset(target, model, clips, network)
        if out is not None:
            write_record(out, result)
        emit(result, as_json, lambda: _table(result))
        if not result.reached:
            raise typer.Exit(1)
        return
    found = _video(target, audio, truth, network, (detector, reader))
    if out is not None:
        write_record(out, found)
    emit(found, as_json, lambda: _lines(found))


def sync_train(
    dataset: Annotated[Path, typer.Argument(help="A dataset of clips whose lips fit their sound.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write (.safetensors).")],
    *,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Steps of training.")] = 1200,
    seed: Annotated[int, typer.Option("--seed", help="Fixes weights and batches.")] = 0,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train a SyncNet on the clips of a dataset, for score and as a loss (sync_model in train.yaml)."""
    from talent_factory.core.stop import graceful_stop
    from talent_factory.lipsync.data.open import ClipSettings, open_clips
    from talent_factory.lipsync.sync.network import save_syncnet
    from talent_factory.lipsync.sync.training import SyncOptions, material_of, train_syncnet

    options = SyncOptions(steps=steps, seed=seed)
    opened = open_clips(ClipSettings(local=dataset))
    try:
        about = opened.metadata
        document = {
            "out": out,
            "clips": len(about.clips),
            "extractor": about.extractor,
            **options.model_dump(),
        }
        if not dry_run:
            with reporter() as shown, graceful_stop("stopping after this step") as stop:
                material = material_of(opened, range(len(about.clips)), reporter=shown)
                network = train_syncnet(
                    material, options, extractor=about.extractor or "", reporter=shown, stop=stop
                )
            save_syncnet(out, network, **options.model_dump())
    finally:
        opened.close()
    done = "would train" if dry_run else "trained"
    emit(
        document,
        as_json,
        lambda: console().print(f"{done} on {len(about.clips)} clips: {out}", soft_wrap=True),
    )


def _network(sync: Path | None) -> SyncNet | None:
    from talent_factory.lipsync.sync.network import EMBEDDED, load_syncnet

    return load_syncnet(sync or EMBEDDED)


def _dataset(root: Path, model: Path | None, count: int, network: SyncNet | None) -> Score:
    from talent_factory.core.errors import UsageError
    from talent_factory.core.stop import graceful_stop
    from talent_factory.lipsync.animate.speaker import open_speaker
    from talent_factory.lipsync.data.open import ClipSettings, open_clips
    from talent_factory.lipsync.score.rows import read_subjects, score_actor

    if model is None:
        raise UsageError("a dataset is scored with an actor", remedy="add --model RUN")
    speaker = open_speaker(model)
    opened = open_clips(ClipSettings(local=root, image_size=speaker.card.image_size))
    try:
        if opened.metadata.extractor not in (None, speaker.extractor.id):
            raise UsageError(
                f"the audio of {root} was made by {opened.metadata.extractor}, the actor hears "
                f"{speaker.extractor.id}",
                remedy="make the features anew: talent lipsync features",
            )
        if network is not None and network.extractor != speaker.extractor.id:
            network = None  # it would judge features it never heard
        total = len(opened.metadata.clips)
        with reporter() as shown, graceful_stop("stopping after this clip") as stop:
            subjects = read_subjects(opened, range(max(0, total - count), total), root=root)
            return score_actor(speaker, subjects, network=network, reporter=shown, stop=stop)
    finally:
        opened.close()


def _video(
    path: Path,
    audio: Path | None,
    truth: Path | None,
    network: SyncNet | None,
    ways: tuple[str, str],
) -> VideoScore:
    from talent_factory.core.errors import UsageError
    from talent_factory.lipsync.audio.wave import read_wave
    from talent_factory.lipsync.preprocess.detect import open_detector
    from talent_factory.lipsync.score.video import aligned_frames, score_video
    from talent_factory.lipsync.synth.clips import read_truth_file

    detector, reader = ways
    if reader not in ("drawn", "dark"):
        raise UsageError(f"there is no reader {reader!r}", remedy="use drawn or dark")
    known = None if truth is None else read_truth_file(truth)["opening"]
    wave = read_wave(audio or path)
    with reporter() as shown:
        seen = aligned_frames(path, open_detector(detector, video=path.name), reporter=shown)
    return score_video(
        seen, wave, truth=known, network=network, reader="dark" if reader == "dark" else "drawn"
    )


def _table(result: Score) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    table.add_column("", no_wrap=True)
    for title in _COLUMNS.values():
        table.add_column(title, justify="right")
    for row in result.rows:
        table.add_row(row.name, *[_figure(getattr(row, key)) for key in _COLUMNS])
    console().print(table)
    for check in result.checks:
        mark = Text("ok  ", "green") if check.reached else Text("fail", "bold red")
        text = f" {check.what}: {check.shown} (asked: {check.target})"
        console().print(mark + Text(text), soft_wrap=True)


def _lines(found: VideoScore) -> None:
    for key, value in found.model_dump(exclude={"format_version"}).items():
        text = _figure(value) if isinstance(value, int | float) or value is None else value
        console().print(f"{key.replace('_', ' ')}: {text}", soft_wrap=True)
    if found.moves < _STILL:
        other = "dark" if found.reader == "drawn" else "drawn"
        console().print(
            f"no moving mouth was read: the figures say nothing; try --reader {other} or another --detector",
            soft_wrap=True,
        )


def _figure(value: float | int | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"
