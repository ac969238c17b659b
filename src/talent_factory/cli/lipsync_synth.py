"""`talent lipsync synth`: draw clips of talking heads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from talent_factory.cli.common import DryRunOption, JsonOption, console, emit, reporter


def synth(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the dataset.")],
    clips: Annotated[int, typer.Option("--clips", min=1, help="How many clips.")] = 24,
    seconds: Annotated[float, typer.Option("--seconds", min=0.4, help="Length of each clip.")] = 4.0,
    size: Annotated[int, typer.Option("--size", min=32, max=1024, help="Picture side in pixels.")] = 128,
    seed: Annotated[int, typer.Option("--seed", help="Fixes every byte.")] = 0,
    per_speaker: Annotated[int, typer.Option("--per-speaker", min=1, help="Clips of each speaker.")] = 1,
    first: Annotated[int, typer.Option("--first", min=1, help="Number of the first clip.")] = 1,
    video: Annotated[bool, typer.Option("--video", help="Also write mp4 files to watch.")] = False,
    workers: Annotated[int, typer.Option("--workers", min=1, max=64, help="Processes that draw.")] = 1,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Draw talking heads whose mouths follow made-up speech, with the truth beside them."""
    from talent_factory.core.stop import graceful_stop
    from talent_factory.lipsync.synth.clips import Order, draw_clips

    order = Order(clips=clips, seconds=seconds, size=size, seed=seed, per_speaker=per_speaker, first=first)
    pictures = order.clips * order.frames
    document = {
        "out": out,
        "clips": order.clips,
        "frames": pictures,
        # measured: about 1.3 bytes a pixel of PNG, 15.5 kB of features
        "bytes": pictures * (round(1.3 * size * size) + 15488) + order.clips * order.frames * 1280,
    }
    if not dry_run:
        with reporter() as shown, graceful_stop("stopping after this clip") as stop:
            draw_clips(out, order, workers=workers, reporter=shown, stop=stop)
            if video:
                from talent_factory.lipsync.synth.film import film_clips

                film_clips(out, order, reporter=shown)

    def human() -> None:
        size_text = f"about {document['bytes'] / 1e6:.0f} MB"  # type: ignore[operator]
        console().print(f"{order.clips} clips, {pictures} frames, {size_text} in {out}", soft_wrap=True)
        if not dry_run:
            # what runs without a GPU and without a download; the shipped numbers are for neither
            changes = {
                "local_data_base_url": out,
                "IMAGE_SIZE": size,
                "unet_config_file": "tiny",
                "vae_pretrained_model_name_or_path": "mini",
                "gradient_accumulation_steps": 1,
            }
            words = " ".join(f"--set {key}={value}" for key, value in changes.items())
            console().print(f"next: talent lipsync train --dry-run {words}", soft_wrap=True, markup=False)

    emit(document, as_json, human)
