"""The doors of the talking head: where clips lie, how pictures become latents, how sound becomes features."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

from talent_factory.lipsync.records import Metadata

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray


class Clips(Protocol):
    """Frames and audio of a dataset, wherever they lie; safe from several threads.

    All methods raise ClipError, which names the clip and the file, for a missing, truncated or ill-shaped
    file, and StorageError when the place cannot be reached. Nothing is replaced by zeros.
    """

    @property
    def metadata(self) -> Metadata:
        """What the dataset says of itself."""
        ...

    def frame(self, clip: int, index: int) -> NDArray[Any]:
        """One frame: (S, S, 3) uint8 RGB."""
        ...

    def audio(self, clip: int, first: int, last: int) -> NDArray[Any]:
        """The features of frames `first` to `last` (exclusive) of the clip: (last-first, 10, 384) float32."""
        ...

    def expect(
        self, wants: Iterable[tuple[int, int, int]], *, pictures: bool = True, audio: bool = True
    ) -> None:
        """Say what will be asked for next as (clip, first, last) of frames, in order, so that it can be
        fetched ahead; does nothing where that gains nothing, and raises nothing.
        """
        ...

    def fingerprint(self, clip: int) -> str:
        """Changes when a picture of the clip is replaced, so that what was made of it is made anew."""
        ...

    def close(self) -> None:
        """Give back files, threads and connections; safe to call twice."""
        ...


class Codec(Protocol):
    """Pictures to latents and back, without noise; both ways differentiable."""

    @property
    def id(self) -> str:
        """Names the codec and its weights, for caches and checkpoints: "dct8", "taesd:SHA256-12"."""
        ...

    @property
    def channels(self) -> int:
        """Channels of the latents."""
        ...

    @property
    def factor(self) -> int:
        """Pixels a latent covers on each side; picture sides must be multiples of it."""
        ...

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) in [-1, 1] to (B, channels, H/factor, W/factor), about of unit deviation."""
        ...

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """The way back; values may lie a little outside [-1, 1]."""
        ...


class Extractor(Protocol):
    """Sound to the features of frames."""

    @property
    def id(self) -> str:
        """Names what made the features; datasets and models of different ids are never mixed."""
        ...

    def features(self, wave: NDArray[Any]) -> NDArray[Any]:
        """(N,) float32 mono at 16 kHz in [-1, 1] to (T, 10, 384) float32, T = ceil(N / 640): a row for each
        frame at 25 a second. The same for any length: long sound is cut with overlap, never with drift.
        """
        ...
