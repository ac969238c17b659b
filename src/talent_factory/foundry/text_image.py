"""Encoders of texts and pictures from local weights, for the search among kits: CLIP, SigLIP, colours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from talent_factory.core.errors import ConfigError
from talent_factory.core.files import sha256_file
from talent_factory.kits.catalog.encoder import ColourEncoder, Pictures, TextImageEncoder, Vectors
from talent_factory.training.likeness.encoders import unit
from talent_factory.training.likeness.pretrained import WEIGHTS, ClipEncoder, Frame, embed_all, load

_MIDDLE = (0.5, 0.5, 0.5)


def open_text_image_encoder(text: str, *, device: str = "cpu") -> TextImageEncoder:
    """The encoder that words name: `colours`, `clip:FOLDER` or `siglip:FOLDER`.

    Raises ConfigError for other words, and for a folder that holds no such weights.
    """
    if text == "colours":
        return ColourEncoder()
    kind, _, folder = text.partition(":")
    if kind not in ("clip", "siglip") or not folder:
        raise ConfigError(
            f"{text[:120]!r} names no encoder of texts and pictures",
            remedy="write colours, or clip: or siglip: and a folder with local weights",
        )
    place = Path(folder).expanduser()
    return ClipEncoder(place, device=device) if kind == "clip" else SiglipEncoder(place, device=device)


class SiglipEncoder:
    """SigLIP (Zhai et al. 2023, arXiv:2303.15343) and, of fixed sizes, SigLIP 2 (arXiv:2502.14786)."""

    def __init__(self, folder: Path, *, device: str = "cpu") -> None:
        """Load `folder`, a SiglipModel with its tokenizer.json in transformers form. Raises ConfigError."""
        from tokenizers import Tokenizer
        from transformers import SiglipModel

        self._model = load(folder, SiglipModel, name="siglip", device=device)
        words = folder / "tokenizer.json"
        if not words.is_file():
            raise ConfigError(
                f"{folder} holds no tokenizer.json, hence no words for the siglip encoder",
                remedy="name a folder as the model's publisher saved it, with tokenizer.json",
            )
        try:
            self._tokenizer = Tokenizer.from_file(str(words))
        except Exception as error:  # noqa: BLE001 - the reader raises nothing more special
            raise ConfigError(
                f"{words} cannot be read: {str(error)[:200]}", remedy="get the file again from its source"
            ) from None
        config = self._model.config.text_config
        length, pad = int(config.max_position_embeddings), int(config.pad_token_id or 0)
        self._tokenizer.enable_truncation(length)
        # trained on texts filled up to this length, without a mask: padding is part of what it reads
        self._tokenizer.enable_padding(length=length, pad_id=pad)
        side = int(self._model.config.vision_config.image_size)
        self._frame = Frame.of(folder, side=side, mean=_MIDDLE, std=_MIDDLE)
        self.name = f"siglip {folder.name}"
        self.revision = sha256_file(folder / WEIGHTS)

    def embed(self, pictures: Pictures) -> Vectors:
        """(N, D) in the space that pictures share with texts."""

        def forward(pixels: Tensor) -> Tensor:
            vectors: Tensor = self._model.vision_model(
                pixel_values=pixels.to(self._model.device)
            ).pooler_output
            return vectors

        return embed_all(forward, self._frame, pictures)

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> Vectors:
        """(N, D) of texts in small letters, as the model was trained; longer ones are cut."""
        read = [encoding.ids for encoding in self._tokenizer.encode_batch([text.lower() for text in texts])]
        ids = torch.tensor(read, dtype=torch.long, device=self._model.device)
        return unit(self._model.text_model(input_ids=ids).pooler_output.float().cpu().numpy())
