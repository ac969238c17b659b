"""How much arithmetic a training step is, and how much this device can do: the floor that steps stand on."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch
from reference_loop import TARGETS


def step_flops(unet: Path, *, side: int, batch: int, rank: int, xl: bool = False) -> float:
    """Floating-point operations of a forward and backward pass, counted by torch on tensors without data.

    Two for a multiply and an add. `side` is in pixels; the base is frozen, and the LoRA of `rank` is peft's.
    """
    from diffusers import UNet2DConditionModel
    from peft import LoraConfig
    from torch.utils.flop_counter import FlopCounterMode

    config = UNet2DConditionModel.load_config(unet)
    factor = 8
    with torch.device("meta"):
        model = UNet2DConditionModel.from_config(config)
        model.requires_grad_(False)
        model.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=TARGETS))
        latents = torch.zeros(batch, 4, side // factor, side // factor)
        words = torch.zeros(batch, 77, int(config["cross_attention_dim"]))
        times = torch.zeros(batch, dtype=torch.long)
        further = {"text_embeds": torch.zeros(batch, 1280), "time_ids": torch.zeros(batch, 6)} if xl else None
        with FlopCounterMode(display=False) as counter:
            model(latents, times, words, added_cond_kwargs=further).sample.square().mean().backward()
    return float(counter.get_total_flops())


def peak(device: str, precision: str, *, seconds: float = 1.0) -> float:
    """The most floating-point operations a second that a matrix product reaches here."""
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    side = 8192 if device == "cuda" else 1536
    one = torch.randn(side, side, dtype=dtype, device=device)
    other = torch.randn(side, side, dtype=dtype, device=device)
    best, until = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < until:
        _settle(device)
        begun = time.perf_counter()
        one @ other
        _settle(device)
        best = min(best, time.perf_counter() - begun)
    return 2.0 * side**3 / best


def _settle(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    order = json.loads(sys.argv[1])
    device, precision = order.pop("device"), order.pop("precision")
    operations = step_flops(Path(order.pop("unet")), rank=16, **order)
    print(json.dumps([operations, peak(device, precision)]))
