"""Samples as batches of tensors, made in the background while the training works on the one before."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from talent_factory.core.errors import ClipError
from talent_factory.lipsync.batch import Batch
from talent_factory.lipsync.data.latents import LatentCache, pixels
from talent_factory.lipsync.records import STEPS, WIDTH, Draw

if TYPE_CHECKING:
    from talent_factory.lipsync.audio.conditioner import AudioConditioner
    from talent_factory.lipsync.ports import Clips


@dataclass(frozen=True)
class _Made:
    """One sample before it joins its batch; arrays of T frames."""

    target: NDArray[Any]
    masked: NDArray[Any]
    reference: NDArray[Any]
    windows: NDArray[Any]
    images: list[NDArray[Any]]


class SampleSource:
    """Turns draws into batches; the same bytes from loose files, packs and far places."""

    def __init__(
        self,
        clips: Clips,
        conditioner: AudioConditioner,
        latents: LatentCache,
        *,
        images: bool = True,
        length: int = 1,
        silence: NDArray[Any] | None = None,
        device: torch.device | str = "cpu",
        workers: int = 2,
    ) -> None:
        """Samples of `clips`; `images` False leaves out the pixels where no loss looks at them.

        `length` frames from the target on make one sample, all with the draw's reference. `silence`
        (10, 384) is what the extractor makes of silence, for draws that are silent; zeros by default.

        Raises:
            ClipError: the clips' audio was made by another extractor than the conditioner is for.
        """
        said = clips.metadata.extractor
        if said is not None and said != conditioner.extractor_id:
            raise ClipError(
                f"the clips' audio is of extractor {said}, the model listens to {conditioner.extractor_id}",
                remedy=f"talent lipsync features DATASET makes it anew with {conditioner.extractor_id}",
            )
        self._clips, self._conditioner, self._latents = clips, conditioner, latents
        self._images, self._length = images, length
        self._silence = np.zeros((STEPS, WIDTH), np.float32) if silence is None else silence
        self._device = torch.device(device)
        self._pool = ThreadPoolExecutor(max(1, workers), "samples")

    def batch(self, draws: Sequence[Draw]) -> Batch:
        """The batch of these draws: len(draws) * length samples, in the order of the draws.

        Raises:
            ClipError: a file is missing or broken; nothing is replaced by zeros.
            StorageError: the place of the clips cannot be reached.
        """
        self.expect(draws)
        return self._joined(draws, self._begun(draws))

    def _begun(self, draws: Sequence[Draw]) -> list[Future[_Made]]:
        return [self._pool.submit(self._sample, draw) for draw in draws]

    def _joined(self, draws: Sequence[Draw], begun: Sequence[Future[_Made]]) -> Batch:
        made = [future.result() for future in begun]
        tokens = self._conditioner.embed(np.concatenate([one.windows for one in made]))
        # no sound at all is not silence, whose features may be zeros too: it has not even positions
        deaf = torch.tensor([draw.dropped for draw in draws]).repeat_interleave(self._length)
        tokens = tokens.masked_fill(deaf[:, None, None], 0.0)
        stacked = [
            torch.from_numpy(np.concatenate([getattr(one, name) for one in made]))
            for name in ("target", "masked", "reference")
        ]
        images = None
        if self._images:
            images = self._moved(pixels(np.stack([frame for one in made for frame in one.images])))
        target, masked, reference = (self._moved(tensor) for tensor in stacked)
        return Batch(
            images=images,
            target=target,
            masked=masked,
            reference=reference,
            tokens=self._moved(tokens),
            length=self._length,
        )

    def batches(self, plan: Iterable[Sequence[Draw]], *, ahead: int = 4) -> Iterator[Batch]:
        """The batches of a plan, `ahead` of them made in a thread of their own while the caller works.

        What far files two such spans from now need is fetched as well. Errors are raised at the batch they
        belong to. Close the iterator, or leave its loop, to end the thread.
        """
        if ahead < 1:
            return map(self.batch, plan)
        return _ahead(self._in_turn(_expected(plan, self.expect, ahead)), ahead)

    def _in_turn(self, plan: Iterable[Sequence[Draw]]) -> Iterator[Batch]:
        """The batches of a plan, each begun before the one before is joined: workers never wait for that."""
        under_way: deque[tuple[Sequence[Draw], list[Future[_Made]]]] = deque()
        for draws in plan:
            under_way.append((draws, self._begun(draws)))
            if len(under_way) > 1:
                yield self._joined(*under_way.popleft())
        while under_way:
            yield self._joined(*under_way.popleft())

    def expect(self, draws: Sequence[Draw]) -> None:
        """Let the files of these draws be fetched."""
        need_target, need_audio, need_reference = [], [], []
        for draw in draws:
            end = draw.target + self._length
            kept = all(self._latents.has(draw.clip, i) for i in range(draw.target, end))
            if self._images or not kept:
                need_target.append((draw.clip, draw.target, end))
            if not self._latents.has(draw.clip, draw.reference):
                need_reference.append((draw.clip, draw.reference, draw.reference + 1))
            if not (draw.silent or draw.dropped):
                span = (draw.target - self._conditioner.left, end + self._conditioner.right)
                need_audio.append((draw.clip, *span))
        self._clips.expect([*need_target, *need_reference], audio=False)
        self._clips.expect(need_audio, pictures=False)

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _sample(self, draw: Draw) -> _Made:
        frames = range(draw.target, draw.target + self._length)
        plain, masked = self._latents.latents(draw.clip, [*frames, draw.reference])
        count = len(frames)
        return _Made(
            target=plain[:count],
            masked=masked[:count],
            reference=np.repeat(plain[count:], count, axis=0),
            windows=self._windows(draw, frames),
            images=[self._clips.frame(draw.clip, i) for i in frames] if self._images else [],
        )

    def _windows(self, draw: Draw, frames: range) -> NDArray[Any]:
        """(T, frames of a window, 10, 384) without positions."""
        listen = self._conditioner
        length = len(self._clips.metadata.clips[draw.clip].frames)
        first, last = listen.span(frames[0], length)[0], listen.span(frames[-1], length)[1]
        if draw.dropped:
            return np.zeros((len(frames), listen.frames, STEPS, WIDTH), np.float32)
        if draw.silent:
            rows = np.broadcast_to(self._silence, (last - first, STEPS, WIDTH))
        else:
            rows = self._clips.audio(draw.clip, first, last)
        return np.stack([listen.window(rows, first=first, index=i, length=length) for i in frames])

    def _moved(self, tensor: torch.Tensor) -> torch.Tensor:
        if self._device.type == "cpu":
            return tensor
        return tensor.pin_memory().to(self._device, non_blocking=True)


def _ahead(batches: Iterator[Batch], count: int) -> Iterator[Batch]:
    """The same batches, made in a thread, at most `count` of them waiting."""
    ready: queue.Queue[Batch | Exception | None] = queue.Queue(maxsize=count)
    over = threading.Event()

    def put(item: Batch | Exception | None) -> None:
        while not over.is_set():
            try:
                ready.put(item, timeout=0.1)
                return
            except queue.Full:
                continue

    def work() -> None:
        try:
            for batch in batches:
                put(batch)
                if over.is_set():
                    return
            put(None)
        except Exception as error:  # noqa: BLE001 - raised again in the caller's thread
            put(error)

    thread = threading.Thread(target=work, name="batches", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item
    finally:
        over.set()
        thread.join()


def _expected(
    plan: Iterable[Sequence[Draw]], expect: Callable[[Sequence[Draw]], None], count: int
) -> Iterator[Sequence[Draw]]:
    """The plan as it is; the files of a batch are asked for when it is `count` away."""
    coming: deque[Sequence[Draw]] = deque()
    for draws in plan:
        expect(draws)
        coming.append(draws)
        if len(coming) > count:
            yield coming.popleft()
    yield from coming
