"""Encoders of who is seen, over plain weight files: ArcFace's network for photographs, CCIP's for drawings.

Both are published as files that only their own programs read. Here the forward passes are written out over
the tensors of a `model.safetensors`, under the names that insightface (arcface_torch) and timm give them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from talent_factory.core.errors import ConfigError
from talent_factory.core.files import sha256_file
from talent_factory.datagen.quality.face import find_faces
from talent_factory.training.likeness.encoders import IdentityEncoder, Pictures, Vectors
from talent_factory.training.likeness.pretrained import CLIP_MEAN, CLIP_STD, WEIGHTS, Frame, embed_all

Tensors = Mapping[str, Tensor]
FaceFinder = Callable[[Image.Image], tuple[tuple[float, float, float, float], ...] | None]

_ROOM = 0.15  # of a face's box on each side: the cascade's boxes end at the brows, ArcFace saw hair and chin
_CCIP_SIDE = 384
_HEAD = 32  # channels of one attention head of CAFormer


class ArcFaceEncoder:
    """An ArcFace network (Deng et al. 2018, arXiv:1801.07698) over the largest frontal face of each picture.

    A picture in which no face is found has a row of zeros. Faces are cut by their box and not turned upright
    by landmarks, so values are somewhat below those of insightface and compare with one another only.
    """

    def __init__(self, folder: Path, *, device: str = "cpu", finder: FaceFinder = find_faces) -> None:
        """Load `folder`/model.safetensors. Raises ConfigError when it is none, or faces cannot be found."""
        if finder(Image.new("RGB", (64, 64))) is None:
            raise ConfigError(
                "an arcface encoder needs a finder of faces, and scikit-image is not installed",
                remedy="pip install scikit-image, or write choose: {encoder: 'dinov2:FOLDER'}",
            )
        self._tensors, self._finder = _load(folder, "arcface", ("conv1.weight", "fc.weight"), device), finder
        width = self._tensors["bn2.weight"].shape[0]
        across = round((self._tensors["fc.weight"].shape[1] / width) ** 0.5)
        self._frame = Frame(16 * across, (0.5,) * 3, (0.5,) * 3)
        self.name = f"arcface {folder.name}"
        self.revision = sha256_file(folder / WEIGHTS)

    def embed(self, pictures: Pictures) -> Vectors:
        """(N, D), D the width of the last layer, 512 as published."""
        faces = [_largest_face(picture, self._finder) for picture in pictures]
        blank = np.zeros((8, 8, 3), np.uint8)
        device = self._tensors["fc.weight"].device
        rows = embed_all(
            lambda pixels: iresnet(self._tensors, pixels.to(device)),
            self._frame,
            [blank if face is None else face for face in faces],
        )
        seen = np.array([face is not None for face in faces], np.float32)
        return rows * seen[:, None]


class CcipEncoder:
    """CCIP, a CAFormer (Yu et al. 2022, arXiv:2210.13452) trained to tell drawn characters apart.

    Rows are the pooled features after the last norm, of the whole picture, as `ccip_extract_feature` gives
    them; cosines stand in for CCIP's own metric head, which only a whole set of its files would bring.
    """

    def __init__(self, folder: Path, *, device: str = "cpu") -> None:
        """Load `folder`/model.safetensors, a CAFormer under timm's names. Raises ConfigError."""
        self._tensors = _load(folder, "ccip", ("stem.conv.weight", "head.norm.weight"), device)
        self._frame = Frame(_CCIP_SIDE, CLIP_MEAN, CLIP_STD)
        self.name = f"ccip {folder.name}"
        self.revision = sha256_file(folder / WEIGHTS)

    def embed(self, pictures: Pictures) -> Vectors:
        """(N, D), D the width of the last stage."""
        device = self._tensors["stem.conv.weight"].device
        return embed_all(lambda pixels: caformer(self._tensors, pixels.to(device)), self._frame, pictures)


def open_face_encoder(kind: str, folder: Path, *, device: str = "cpu") -> IdentityEncoder:
    """The encoder of `kind` arcface or ccip. Raises ConfigError when `folder` holds no such weights."""
    return ArcFaceEncoder(folder, device=device) if kind == "arcface" else CcipEncoder(folder, device=device)


def iresnet(tensors: Tensors, pixels_BCHW: Tensor) -> Tensor:
    """The residual network of ArcFace, in evaluation: (B, 3, S, S) to (B, D).

    Depth and widths are read from the tensors. Source of the layout: He et al. 2016 (arXiv:1603.05027) in the
    variant of Deng et al. with a norm before each first convolution and PReLU.
    """

    def norm(x: Tensor, name: str) -> Tensor:
        mean, variance = tensors[f"{name}.running_mean"], tensors[f"{name}.running_var"]
        return F.batch_norm(x, mean, variance, tensors[f"{name}.weight"], tensors[f"{name}.bias"], eps=1e-5)

    x = F.conv2d(pixels_BCHW, tensors["conv1.weight"], padding=1)
    x = F.prelu(norm(x, "bn1"), tensors["prelu.weight"])
    for stage in range(1, 5):
        block = 0
        while (name := f"layer{stage}.{block}") + ".conv1.weight" in tensors:
            stride = 2 if block == 0 else 1
            inside = F.conv2d(norm(x, f"{name}.bn1"), tensors[f"{name}.conv1.weight"], padding=1)
            inside = F.prelu(norm(inside, f"{name}.bn2"), tensors[f"{name}.prelu.weight"])
            inside = F.conv2d(inside, tensors[f"{name}.conv2.weight"], stride=stride, padding=1)
            if f"{name}.downsample.0.weight" in tensors:
                x = F.conv2d(x, tensors[f"{name}.downsample.0.weight"], stride=stride)
                x = norm(x, f"{name}.downsample.1")
            x = norm(inside, f"{name}.bn3") + x
            block += 1
    flat = norm(x, "bn2").flatten(1)
    return norm(F.linear(flat, tensors["fc.weight"], tensors["fc.bias"]), "features")


def caformer(tensors: Tensors, pixels_BCHW: Tensor) -> Tensor:
    """CAFormer's pooled features after the last norm: (B, 3, S, S) to (B, D).

    Two stages mix by separable convolutions, two by attention; which, and how deep, is read from the tensors.
    Channels come last here, so that a norm and a 1 x 1 convolution are the plain functions.
    """
    x = F.conv2d(pixels_BCHW, tensors["stem.conv.weight"], tensors["stem.conv.bias"], stride=4, padding=2)
    x = _norm(tensors, "stem.norm", x.permute(0, 2, 3, 1))
    stage = 0
    while f"stages.{stage}.blocks.0.norm1.weight" in tensors:
        down = f"stages.{stage}.downsample"
        if f"{down}.conv.weight" in tensors:
            x = _norm(tensors, f"{down}.norm", x).permute(0, 3, 1, 2)
            x = F.conv2d(x, tensors[f"{down}.conv.weight"], tensors[f"{down}.conv.bias"], stride=2, padding=1)
            x = x.permute(0, 2, 3, 1)
        block = 0
        while (name := f"stages.{stage}.blocks.{block}") + ".norm1.weight" in tensors:
            mixed = _mix(tensors, f"{name}.token_mixer", _norm(tensors, f"{name}.norm1", x))
            x = _kept(tensors, f"{name}.res_scale1", x) + mixed
            inside = _dense(tensors, f"{name}.mlp.fc1", _norm(tensors, f"{name}.norm2", x))
            inside = _star(tensors, f"{name}.mlp.act", inside)
            x = _kept(tensors, f"{name}.res_scale2", x) + _dense(tensors, f"{name}.mlp.fc2", inside)
            block += 1
        stage += 1
    return _norm(tensors, "head.norm", x.mean(dim=(1, 2)))


def _mix(tensors: Tensors, name: str, x_BHWC: Tensor) -> Tensor:
    """A separable convolution with StarReLU inside, or attention over all places."""
    if f"{name}.qkv.weight" not in tensors:
        inside = _star(tensors, f"{name}.act1", _dense(tensors, f"{name}.pwconv1", x_BHWC))
        inside = inside.permute(0, 3, 1, 2)
        weight = tensors[f"{name}.dwconv.weight"]
        inside = F.conv2d(inside, weight, padding=weight.shape[-1] // 2, groups=inside.shape[1])
        return _dense(tensors, f"{name}.pwconv2", inside.permute(0, 2, 3, 1))
    batch, height, width, _ = x_BHWC.shape
    qkv = _dense(tensors, f"{name}.qkv", x_BHWC).view(batch, height * width, 3, -1, _HEAD)
    query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, heads, H W, 32)
    seen = F.scaled_dot_product_attention(query, key, value).transpose(1, 2)
    return _dense(tensors, f"{name}.proj", seen.reshape(batch, height, width, -1))


def _norm(tensors: Tensors, name: str, x: Tensor) -> Tensor:
    """Over the channels; the published networks leave out the bias of all norms but the last."""
    weight = tensors[f"{name}.weight"]
    return F.layer_norm(x, weight.shape, weight, tensors.get(f"{name}.bias"), eps=1e-6)


def _dense(tensors: Tensors, name: str, x: Tensor) -> Tensor:
    """A linear layer over the last axis, also where it is stored as a 1 x 1 convolution."""
    return F.linear(x, tensors[f"{name}.weight"].flatten(1), tensors.get(f"{name}.bias"))


def _star(tensors: Tensors, name: str, x: Tensor) -> Tensor:
    """StarReLU: scale * relu(x)^2 + bias, both learnt (Yu et al. 2022, section 2)."""
    return tensors[f"{name}.scale"] * F.relu(x).square() + tensors[f"{name}.bias"]


def _kept(tensors: Tensors, name: str, x: Tensor) -> Tensor:
    scale = tensors.get(f"{name}.scale")
    return x if scale is None else x * scale


def _largest_face(picture: NDArray[np.uint8], finder: FaceFinder) -> NDArray[np.uint8] | None:
    """The largest face with some room around it, as a square (S, S, 3), None when there is none."""
    found = finder(Image.fromarray(np.ascontiguousarray(picture)))
    if not found:
        return None
    height, width = picture.shape[:2]
    left, top, right, bottom = max(found, key=lambda box: (box[2] - box[0]) * (box[3] - box[1]))
    side = max((right - left) * width, (bottom - top) * height) * (1.0 + 2.0 * _ROOM)
    edge = max(1, min(round(side), height, width))
    x = min(max(0, round((left + right) / 2 * width - edge / 2)), width - edge)
    y = min(max(0, round((top + bottom) / 2 * height - edge / 2)), height - edge)
    return picture[y : y + edge, x : x + edge]


def _load(folder: Path, kind: str, needed: tuple[str, ...], device: str) -> dict[str, Tensor]:
    """The tensors of `folder`/model.safetensors in float32. Raises ConfigError when it is no such network."""
    path = folder / WEIGHTS
    remedy = f"name a folder whose {WEIGHTS} holds the {kind} network; convert a .pth or .onnx file first"
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError, ValueError) as error:
        line = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise ConfigError(f"{path} cannot be read as {kind} weights: {line}", remedy=remedy) from None
    lacking = [name for name in needed if name not in tensors]
    if lacking:
        raise ConfigError(f"{path} is no {kind} network: it has no {lacking[0]}", remedy=remedy)
    return {name: tensor.to(device=device, dtype=torch.float32) for name, tensor in tensors.items()}
