"""Record a batch's work as one graph of the GPU, and play it again for every further batch of that size.

Launching the four thousand kernels of a step of SD 1.5 one by one costs the host 25 to 40 ms; a captured
graph launches them at once. It needs the same memory each time, so a batch is copied into tensors that stay.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor

from talent_factory.training.windows import Batch

Work = Callable[[Batch], None]
Play = Callable[[], None]

_WARM_UPS = 3


class CaptureRefused(Exception):
    """Some part of the work asks the host in between, which a graph cannot; the text says which."""


class Recorder(Protocol):
    """Turns work on fixed tensors into something that can be played again."""

    def __call__(self, work: Callable[[], None]) -> Play:
        """Run `work` as often as it needs to be warm, record it, and return how to play it."""


@dataclass(eq=False)
class Replay:
    """Does what `work` does, from a recording for each shape of a batch.

    `kept` are all tensors that `work` adds into, gradients above all: recording runs the work several times,
    and what it left in them is taken back. `work` must not ask the host anything.
    """

    work: Work
    kept: Sequence[Tensor]
    record: Recorder
    refused: Callable[[str], None] = lambda _: None
    """Told once, in words, when the work cannot be recorded; it is then done as it is."""
    _plain: bool = False
    _recordings: dict[tuple[object, ...], tuple[Batch, Play]] = field(default_factory=dict)

    def __call__(self, batch: Batch) -> None:
        """Do the work of one batch."""
        if self._plain:
            self.work(batch)
            return
        key = (batch.size, *(tensor.shape for tensor in batch.tensors()))
        known = self._recordings.get(key)
        if known is None:
            try:
                known = self._recordings[key] = self._recorded(batch)
            except CaptureRefused as refusal:
                self._plain = True
                self.refused(str(refusal))
                self.work(batch)
                return
        else:
            for place, value in zip(known[0].tensors(), batch.tensors(), strict=True):
                place.copy_(value, non_blocking=True)
        known[1]()

    def _recorded(self, batch: Batch) -> tuple[Batch, Play]:
        fixed = replace(
            batch,
            rows_B=batch.rows_B.clone(),
            texts_B=batch.texts_B.clone(),
            classes_E=batch.classes_E.clone(),
            timesteps_B=batch.timesteps_B.clone(),
            posterior_BCHW=batch.posterior_BCHW.clone(),
            noise_BCHW=batch.noise_BCHW.clone(),
        )
        before = [tensor.clone() for tensor in self.kept]
        try:
            play = self.record(lambda: self.work(fixed))
        finally:
            for tensor, value in zip(self.kept, before, strict=True):
                tensor.copy_(value)
        return fixed, play


def cuda_graph(work: Callable[[], None]) -> Play:
    """A CUDA graph of `work`; see Recorder. Raises CaptureRefused when some part of it cannot be captured."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(_WARM_UPS):
            work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            work()
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise CaptureRefused(str(error).strip().splitlines()[0]) from error
    return graph.replay
