"""Encoders that others trained, read from a local folder in transformers form: DINOv2 and CLIP."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor

from talent_factory.core.errors import ConfigError
from talent_factory.core.files import read_json, sha256_file
from talent_factory.training.families.parts import quiet_transformers
from talent_factory.training.likeness.encoders import Pictures, Vectors, resized, unit
from talent_factory.training.likeness.records import Shot

# Of the images that the models were trained on; a folder with a preprocessor_config.json says its own.
_DINO_MEAN, _DINO_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_BATCH = 16
WEIGHTS = "model.safetensors"


class DinoEncoder:
    """DINOv2 (Oquab et al. 2023, arXiv:2304.07193): the class token after the last norm."""

    def __init__(self, folder: Path, *, device: str = "cpu") -> None:
        """Load `folder`, a Dinov2Model in transformers form. Raises ConfigError when it is none."""
        from transformers import Dinov2Model

        self._model = load(folder, Dinov2Model, name="dinov2", device=device)
        patch = int(self._model.config.patch_size)
        self._frame = Frame.of(folder, side=224, mean=_DINO_MEAN, std=_DINO_STD, patch=patch)
        self.name = f"dinov2 {folder.name}"
        self.revision = sha256_file(folder / WEIGHTS)

    def embed(self, pictures: Pictures) -> Vectors:
        """(N, D), D the model's width."""

        def forward(pixels: Tensor) -> Tensor:
            vectors: Tensor = self._model(pixel_values=pixels.to(self._model.device)).pooler_output
            return vectors

        return embed_all(forward, self._frame, pictures)


class ClipEncoder:
    """CLIP (Radford et al. 2021, arXiv:2103.00020): pictures and prompts in one space, so it judges both."""

    def __init__(self, folder: Path, *, device: str = "cpu") -> None:
        """Load `folder`, a CLIPModel with its tokenizer in transformers form. Raises ConfigError."""
        from transformers import CLIPModel, CLIPTokenizer

        self._model = load(folder, CLIPModel, name="clip", device=device)
        try:
            self._tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            raise _unreadable(folder, "clip", error) from None
        side = int(self._model.config.vision_config.image_size)
        self._frame = Frame.of(folder, side=side, mean=CLIP_MEAN, std=CLIP_STD)
        self.name = f"clip {folder.name}"
        self.revision = sha256_file(folder / WEIGHTS)

    def embed(self, pictures: Pictures) -> Vectors:
        """(N, D) in the space that pictures share with texts."""

        def forward(pixels: Tensor) -> Tensor:
            seen = self._model.vision_model(pixel_values=pixels.to(self._model.device)).pooler_output
            vectors: Tensor = self._model.visual_projection(seen)
            return vectors

        return embed_all(forward, self._frame, pictures)

    def adherence(self, pictures: Pictures, shots: Sequence[Shot]) -> NDArray[np.float64]:
        """How much nearer each picture is to its own prompt than, on average, to the others: (N,).

        The plain cosine of any picture with any text is far from 0, which would hide the difference.
        """
        texts = [shot.plain for shot in shots]
        unique = list(dict.fromkeys(texts))
        cosines = self.embed(pictures).astype(np.float64) @ self.texts(unique).astype(np.float64).T
        own = np.array([unique.index(text) for text in texts])
        rows = np.arange(len(texts))
        if len(unique) < 2:
            return np.asarray(cosines[rows, own], np.float64)
        others = (cosines.sum(axis=1) - cosines[rows, own]) / (len(unique) - 1)
        return np.asarray(cosines[rows, own] - others, np.float64)

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> Vectors:
        """(N, D) of prompts; longer ones are cut at the model's length."""
        length = int(self._model.config.text_config.max_position_embeddings)
        tokens = self._tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=length, return_tensors="pt"
        )
        states = self._model.text_model(input_ids=tokens.input_ids.to(self._model.device)).pooler_output
        return unit(self._model.text_projection(states).float().cpu().numpy())


class Frame:
    """How pictures become the tensor that a model expects."""

    def __init__(self, side: int, mean: Sequence[float], std: Sequence[float]) -> None:
        self.side = side
        self._mean = torch.tensor(list(mean)).view(1, 3, 1, 1)
        self._std = torch.tensor(list(std)).view(1, 3, 1, 1)

    @classmethod
    def of(
        cls, folder: Path, *, side: int, mean: Sequence[float], std: Sequence[float], patch: int = 1
    ) -> Frame:
        """What the folder's preprocessor_config.json says, else the values given; whole patches only."""
        path = folder / "preprocessor_config.json"
        said = read_json(path) if path.is_file() else {}
        crop = said.get("crop_size", {})
        side = int(crop.get("height", side)) if isinstance(crop, dict) else int(crop)
        return cls(side // patch * patch, said.get("image_mean", mean), said.get("image_std", std))

    def tensor(self, pictures: Pictures) -> Tensor:
        """(N, 3, side, side) float32, normalised; pictures lose what is outside their middle square."""
        squares = torch.from_numpy(resized(pictures, self.side)).permute(0, 3, 1, 2).float() / 255.0
        return (squares - self._mean) / self._std


@torch.no_grad()
def embed_all(forward: Callable[[Tensor], Tensor], frame: Frame, pictures: Pictures) -> Vectors:
    """Rows of length 1 of all pictures, a few at a time: (N, D) float32."""
    rows = []
    for start in range(0, len(pictures), _BATCH):
        rows.append(forward(frame.tensor(pictures[start : start + _BATCH])).float().cpu().numpy())
    return unit(np.concatenate(rows)) if rows else np.zeros((0, 1), np.float32)


def load(folder: Path, kind: Any, *, name: str, device: str) -> Any:
    """A frozen transformers model from safetensors. Raises ConfigError that names what is missing."""
    if not (folder / WEIGHTS).is_file():
        raise ConfigError(
            f"{folder} holds no {WEIGHTS}, hence no {name} encoder",
            remedy=f"name a local folder with a {name} model in transformers form, saved as safetensors",
        )
    try:
        with quiet_transformers():
            model, report = kind.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, output_loading_info=True
            )
        if report["missing_keys"]:
            raise ValueError(f"it lacks the weights of {sorted(report['missing_keys'])[0]}")
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise _unreadable(folder, name, error) from None
    return model.requires_grad_(False).eval().to(device)


def _unreadable(folder: Path, name: str, error: Exception) -> ConfigError:
    line = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
    return ConfigError(
        f"the {name} encoder in {folder} cannot be loaded: {line}",
        remedy=f"name a local folder with a {name} model in transformers form",
    )
