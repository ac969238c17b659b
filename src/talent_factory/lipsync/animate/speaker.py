"""The trained network with all that must agree with it: sound in, faces out, in batches of one size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from talent_factory.core.errors import FileError, UsageError
from talent_factory.lipsync.actor import Actor, load_actor
from talent_factory.lipsync.animate.gate import SAMPLES
from talent_factory.lipsync.audio.conditioner import AudioConditioner
from talent_factory.lipsync.audio.features import open_extractor
from talent_factory.lipsync.codec import open_codec
from talent_factory.lipsync.models.fast import fastest_dtype, painting
from talent_factory.lipsync.models.temporal import TemporalUNet
from talent_factory.lipsync.models.unet import canvas_of, make_latents
from talent_factory.lipsync.ports import Codec, Extractor

BATCH = 8
Item = TypeVar("Item")


@dataclass(frozen=True)
class Face:
    """What the network sees of one aligned source face: latents (1, C, h, w), covered and whole."""

    masked: Tensor
    whole: Tensor


Pairs: TypeAlias = Sequence[tuple[Face, Face]]
"""Faces to change, each with its reference."""


class Speaker:
    """An actor ready to speak, as fast as it can; not safe from several threads at once.

    `length` is the number of frames that its network sees at a time, 1 without attention over time.
    """

    def __init__(
        self, actor: Actor, codec: Codec, extractor: Extractor, *, decoder: Codec | None = None
    ) -> None:
        self.actor = actor
        self.card = actor.card
        self.codec, self.decoder = codec, decoder or codec
        self.extractor = extractor
        self.conditioner = AudioConditioner(self.card.audio_left, self.card.audio_right, extractor.id)
        self._weights = next(actor.unet.parameters())
        self.length = 1 if actor.temporal is None else self.card.length
        self._network = actor.unet if actor.temporal is None else _over_time(actor, actor.temporal)
        modules = {id(part): part for one in (codec, self.decoder) if (part := getattr(one, "module", None))}
        # for as long as this object lives: nothing else has these networks
        self._fast = ExitStack()
        self._fast.enter_context(painting(self._network, *modules.values()))
        self._canvas = canvas_of(
            self.card.mask,
            size=self.card.image_size,
            factor=codec.factor,
            fed=self.card.feed_mask,
            residual=self.card.residual,
            like=self._weights,
        )
        # what a window of nobody speaking sounds like to this extractor
        self._silence = extractor.features(np.zeros(SAMPLES * 2 * self.conditioner.frames, np.float32))[
            self.conditioner.frames : 2 * self.conditioner.frames
        ]

    @torch.inference_mode()
    def look(self, crops: Sequence[NDArray[Any]]) -> list[Face]:
        """Aligned faces (S, S, 3) uint8 as the network sees them."""
        found: list[Face] = []
        for start in range(0, len(crops), BATCH):
            part = crops[start : start + BATCH]
            images = torch.stack([to_tensor(crop) for crop in _filled(part, BATCH)]).to(self._weights)
            whole, masked = self.codec.encode(images), self.codec.encode(self.card.mask.apply(images))
            found += [Face(masked[i : i + 1], whole[i : i + 1]) for i in range(len(part))]
        return found

    @torch.inference_mode()
    def paint(self, faces: Pairs, windows: NDArray[Any], gates: NDArray[Any]) -> Tensor:
        """Latents (B, C, h, w) of faces that say `windows` (B, frames, 10, 384).

        `faces` are pairs (face to change, reference); `gates` (B,) fade the windows to silence where 0. B is
        at most BATCH, and `length` frames in their order for a network with attention over time. The batch
        is filled up to its full size: a last short one would have other shapes and other rounding.
        """
        gate = np.asarray(gates, np.float32)[:, None, None, None]
        heard = np.where(gate >= 1, windows, gate * windows + (1 - gate) * self._silence)
        order = _filled(range(len(faces)), self.length if self.length > 1 else BATCH)
        masked = torch.cat([faces[i][0].masked for i in order])
        reference = torch.cat([faces[i][1].whole for i in order])
        tokens = self.conditioner.embed(heard[order]).to(self._weights)
        made = make_latents(self._network, masked, reference, tokens, canvas=self._canvas, length=self.length)
        return made[: len(faces)]

    @torch.inference_mode()
    def show(self, latents: Sequence[Tensor]) -> NDArray[np.uint8]:
        """Latents, each (B, C, h, w), as pictures (N, S, S, 3)."""
        rows = [row for part in latents for row in part.to(self._weights).split(1)]
        made = [np.zeros((0, self.card.image_size, self.card.image_size, 3), np.uint8)]
        for start in range(0, len(rows), BATCH):
            part = rows[start : start + BATCH]
            made.append(to_pixels(self.decoder.decode(torch.cat(_filled(part, BATCH)))[: len(part)]))
        return np.concatenate(made)


def _filled(items: Sequence[Item], count: int) -> list[Item]:
    """`items`, the last one again and again up to `count`."""
    return [*items, *[items[-1]] * (count - len(items))]


def open_speaker(
    model: Path,
    *,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    decoder: str | None = None,
) -> Speaker:
    """The actor of a run or checkpoint with its codec and extractor, checked against its card.

    `decoder` names another codec to decode with, of the same kind of latents: the full autoencoder of SD in
    place of TAESD. Raises FileError when they are not those the actor was trained with, BaseError when
    weights are missing.
    """
    actor = load_actor(model, device=device, dtype=dtype)
    card = actor.card
    codec = open_codec(card.codec, device=device, dtype=dtype)
    _agree("codec", card.codec, codec.id, card.codec_id)
    extractor = open_extractor(card.extractor, device=device)
    _agree("extractor", card.extractor, extractor.id, card.extractor_id)
    other = open_codec(decoder, device=device, dtype=dtype) if decoder else None
    if other is not None and (other.channels, other.factor) != (codec.channels, codec.factor):
        raise FileError(
            f"{other.id} cannot decode what {codec.id} encodes: {other.channels} channels of {other.factor} "
            f"pixels, not {codec.channels} of {codec.factor}",
            remedy="leave --decoder out, or name sd-vae for an actor trained on taesd",
        )
    return Speaker(actor, codec, extractor, decoder=other)


def open_speaker_on(model: Path, *, device: str, decoder: str | None = None) -> Speaker:
    """`open_speaker` on "auto", "cpu" or "cuda", in what that is quickest in (`fastest_dtype`).

    Sixteen bits move a colour by a level or two of 255. Raises UsageError for a device that is not there.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"--device {device[:40]!r} is none", remedy="choose auto, cpu or cuda")
    there = torch.cuda.is_available()
    if device == "cuda" and not there:
        raise UsageError("there is no GPU here that torch can use", remedy="leave --device out")
    chosen = "cuda" if there and device != "cpu" else "cpu"
    return open_speaker(model, device=chosen, dtype=fastest_dtype(chosen), decoder=decoder)


def _over_time(actor: Actor, state: Mapping[str, Tensor]) -> TemporalUNet:
    network = TemporalUNet(actor.unet)
    network.load_temporal(state)
    return network.to(next(actor.unet.parameters())).eval()


def _agree(what: str, name: str, found: str, wanted: str) -> None:
    if found != wanted:
        raise FileError(
            f"the actor was trained with the {what} {wanted}, but {name} is {found}",
            remedy=f"bring back the {what} it was trained with, or train anew with this one",
        )


def to_tensor(crop: NDArray[Any]) -> Tensor:
    """(S, S, 3) uint8 to (3, S, S) float32 in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(crop)).permute(2, 0, 1).float().div(127.5).sub(1)


def to_pixels(images: Tensor) -> NDArray[np.uint8]:
    """(B, 3, S, S) in about [-1, 1] to (B, S, S, 3) uint8."""
    scaled = images.float().clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
    found: NDArray[np.uint8] = scaled.permute(0, 2, 3, 1).contiguous().cpu().numpy()
    return found
