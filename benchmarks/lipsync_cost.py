"""What lip-sync costs: arithmetic and time of a training sample, and painted frames a second.

`python benchmarks/lipsync_cost.py [--part flops] [--part training] [--part painting] [--device cuda]`. A
training sample of the full UNet at 256 pixels is computed in two ways by the same code: `ours` has latents
from the cache and looks at pixels through TAESD's decoder; `nothing-cached` encodes target, covered frame and
reference with SD's autoencoder, and looks through its decoder. Both are one forward and one backward pass
(the optimizer comes once in hundreds of samples), take turns, and the best round of each counts, on a CPU by
processor time. Both have one network, made as quick as a training makes it. Weights are random: they cost
what trained ones cost. On a machine that others use, `--threads 1` is the quieter measure: two threads wait
for each other.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from flops import peak
from record import record
from torch import Tensor, nn

from talent_factory.lipsync.batch import Batch
from talent_factory.lipsync.codec.autoencoder import AutoencoderCodec
from talent_factory.lipsync.losses import latent_l1, pixel_l1
from talent_factory.lipsync.masks import FaceMask
from talent_factory.lipsync.models.fast import fastest_dtype, painting
from talent_factory.lipsync.models.narrow import quicken
from talent_factory.lipsync.models.unet import build_unet, make_latents, predict, read_unet_config
from talent_factory.lipsync.ports import Codec

SIZE = 256
PARTS = ("flops", "training", "painting")
SHARE, FPS_CPU, FPS_CUDA = 0.25, 1.0, 60.0


def main() -> None:
    """Measure the parts that were asked for and keep the figures."""
    options = _options()
    torch.manual_seed(0)
    if options.threads:
        torch.set_num_threads(options.threads)
    measured: dict[str, Callable[[], dict[str, object]]] = {
        "flops": arithmetic,
        "training": lambda: training(options.device, options.batch, options.rounds),
        "painting": lambda: painting_speed(options.device, options.rounds),
    }
    for part in options.part:
        figures = {"device": _name(options.device), "threads": torch.get_num_threads(), **measured[part]()}
        record(f"lipsync_cost_{part}_{options.device}", figures)


def sd_vae() -> Codec:
    """SD's autoencoder with random weights."""
    from diffusers import AutoencoderKL

    module = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        sample_size=512,
    )
    return AutoencoderCodec(module.requires_grad_(False).eval(), "sd-vae")


def taesd() -> Codec:
    """TAESD with random weights."""
    from diffusers import AutoencoderTiny

    return AutoencoderCodec(AutoencoderTiny().requires_grad_(False).eval(), "taesd")


@dataclass
class Step:
    """The work of one micro-batch: what is known before, and how it becomes gradients."""

    unet: nn.Module
    codec: Any
    cached: bool
    pixels: bool
    device: str
    batch: int
    precision: torch.dtype

    def __post_init__(self) -> None:
        self.codec.module.to(self.device, memory_format=torch.channels_last)
        shape = (self.batch, 3, SIZE, SIZE)
        self.images = torch.zeros(shape, device=self.device).uniform_(-1, 1)
        self.others = torch.zeros(shape, device=self.device).uniform_(-1, 1)
        self.latents = torch.zeros(3, self.batch, 4, SIZE // 8, SIZE // 8, device=self.device).normal_()
        self.tokens = torch.zeros(self.batch, 50, 384, device=self.device).normal_()
        self.mask = FaceMask()
        self.weights = self.mask.weights(SIZE, SIZE).to(self.device)

    def __call__(self) -> Tensor:
        """Forward and backward; the loss."""
        narrow = self.precision != torch.float32
        with torch.autocast(self.device, self.precision) if narrow else nullcontext():
            target, masked, reference = self.latents if self.cached else self._encoded()
            batch = Batch(self.images, target, masked, reference, self.tokens)
            made = predict(self.unet, batch)
            loss = latent_l1(made, target)
            if self.pixels:
                loss = loss + 2 * pixel_l1(self.codec.decode(made), self.images, self.weights)
        loss.backward()
        return loss.detach()

    @torch.no_grad()
    def _encoded(self) -> list[Tensor]:
        covered = self.mask.apply(self.images)
        return [self.codec.encode(images) for images in (self.images, covered, self.others)]


def arithmetic() -> dict[str, object]:
    """GFLOP of a sample (two for a multiply and an add), counted by torch on tensors without data."""
    found = {}
    with torch.device("meta"):
        codecs = {"taesd": taesd(), "sd-vae": sd_vae()}
        for name, preset, codec, cached, pixels in (
            ("nothing-cached sd-vae full", "full", "sd-vae", False, True),
            ("nothing-cached taesd full", "full", "taesd", False, True),
            ("cached taesd full", "full", "taesd", True, True),
            ("cached latents-only full", "full", "taesd", True, False),
            ("cached taesd half", "half", "taesd", True, True),
            ("cached taesd quarter", "quarter", "taesd", True, True),
            ("cached taesd tiny", "tiny", "taesd", True, True),
        ):
            unet = build_unet(read_unet_config(preset), codecs[codec])
            step = Step(unet, codecs[codec], cached, pixels, "meta", 1, torch.float32)
            found[name] = round(_flops(step) / 1e9, 1)
    share = found["cached taesd full"] / found["nothing-cached sd-vae full"]
    return {**found, "share": round(share, 3), "target": f"share <= {SHARE}", "held": share <= SHARE}


def training(device: str, batch: int, rounds: int) -> dict[str, object]:
    """Seconds a sample of both ways with the same UNet, in turns."""
    precision = fastest_dtype(device) if device == "cpu" else torch.bfloat16
    unet = build_unet(read_unet_config("full"), taesd()).to(device, memory_format=torch.channels_last)
    if device == "cpu" and precision == torch.bfloat16:
        quicken(unet)
    ways = {"ours": (taesd(), True), "nothing-cached": (sd_vae(), False)}
    steps = {
        name: Step(unet, codec, cached, True, device, batch, precision)
        for name, (codec, cached) in ways.items()
    }
    best = dict.fromkeys(steps, float("inf"))
    busy = dict.fromkeys(steps, float("inf"))
    for turn in range(rounds + 1):
        for name, step in steps.items():
            before = time.process_time()
            taken = _timed(step, device)
            spent = time.process_time() - before
            unet.zero_grad(set_to_none=False)
            if turn:  # the first turn warms up
                best[name] = min(best[name], taken / batch)
                busy[name] = min(busy[name], spent / batch)
    # on a processor that others use, too, its own clock tells what the work is; on a GPU only the wall's does
    counted = busy if device == "cpu" else best
    share = counted["ours"] / counted["nothing-cached"]
    with torch.device("meta"):
        whole = build_unet(read_unet_config("full"), taesd())
        floor = _flops(Step(whole, taesd(), True, True, "meta", 1, torch.float32))
    name = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}[precision]
    speed = peak(device, name)
    return {
        "precision": name,
        "batch": batch,
        "seconds_a_sample": {key: round(value, 4) for key, value in best.items()},
        "processor_seconds_a_sample": {key: round(value, 4) for key, value in busy.items()},
        "samples_a_second": {key: round(1 / value, 3) for key, value in best.items()},
        "share": round(share, 3),
        "target": f"share <= {SHARE}",
        "held": share <= SHARE,
        "matrix_peak_tflops": round(speed / 1e12, 3),
        "share_of_the_floor": round(floor / speed / best["ours"], 3),
    }


def painting_speed(device: str, rounds: int) -> dict[str, object]:
    """Frames a second of UNet and TAESD's decoder, in batches, by preset."""
    target = FPS_CUDA if device == "cuda" else FPS_CPU
    presets = ("full", "half", "quarter", "tiny") if device == "cuda" else ("quarter", "tiny")
    dtypes = [torch.float16, torch.bfloat16] if device == "cuda" else [torch.float32, fastest_dtype(device)]
    found: dict[str, object] = {}
    for preset in presets:
        for dtype in dict.fromkeys(dtypes):
            for batch in (1, 8):
                name = f"{preset} {str(dtype).removeprefix('torch.')} batch {batch}"
                found[name] = round(_frames_a_second(preset, device, dtype, batch=batch, rounds=rounds), 2)
                gc.collect()
    main_preset = "full" if device == "cuda" else "quarter"
    best = max(float(str(value)) for name, value in found.items() if name.startswith(main_preset))
    return {**found, "target": f"{main_preset} >= {target} frames a second", "held": best >= target}


def _frames_a_second(preset: str, device: str, dtype: torch.dtype, *, batch: int, rounds: int) -> float:
    codec: Any = taesd()
    unet = build_unet(read_unet_config(preset), codec).to(device, dtype)
    codec.module.to(device, dtype)
    one, other = torch.zeros(2, batch, 4, SIZE // 8, SIZE // 8, device=device, dtype=dtype).normal_()
    tokens = torch.zeros(batch, 50, 384, device=device, dtype=dtype).normal_()

    @torch.inference_mode()
    def paint() -> Tensor:
        made: Tensor = codec.decode(make_latents(unet, one, other, tokens))
        # frames leave the device as bytes, as a video wants them
        return ((made.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu()

    with painting(unet, codec.module):
        paint()
        return batch / min(_timed(paint, device) for _ in range(max(3, rounds)))


def _timed(work: Callable[[], object], device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    begun = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def _flops(work: Callable[[], object]) -> float:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())


def _name(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else "cpu"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--part", action="append", choices=PARTS, help="default: all")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument(
        "--batch", type=int, default=0, help="samples at a time in training (1, or 12 on cuda)"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="of the processor; 0 leaves it to torch")
    options = parser.parse_args()
    options.part = options.part or list(PARTS)
    options.batch = options.batch or (12 if options.device == "cuda" else 1)
    return options


if __name__ == "__main__":
    main()
