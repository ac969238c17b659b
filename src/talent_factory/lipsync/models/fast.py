"""Networks made fast where they only paint: weights laid out once, in what the processor is best at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

from talent_factory.training.cpu import packs_kept


def fastest_dtype(device: str) -> torch.dtype:
    """What networks are quickest in without being wrong: float16 on CUDA, bfloat16 on CPUs that have it.

    Other CPUs would emulate sixteen bits, float16 on any CPU is hundreds of times slower than float32.
    """
    if device.startswith("cuda"):
        return torch.float16
    native = device == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return torch.bfloat16 if native else torch.float32


@contextmanager
def painting(*networks: nn.Module) -> Iterator[None]:
    """Within this context frozen `networks` paint as fast as they can; call them in inference mode.

    A generator may stay in the context while it waits. Pictures lie channels last. On a CPU convolutions
    keep their weights in oneDNN's layout from call to call, which holds for one size of batch: fill the last
    batch up rather than cutting it short.
    """
    with ExitStack() as stack:
        for network in networks:
            network.requires_grad_(False).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            if all(own.device.type == "cpu" for own in network.parameters()):
                stack.enter_context(packs_kept(network))
        yield
