"""A vision encoder through transformers, to tell whether two pictures show the same actor.

Which one is the user's choice, since no weights come with the package: DINOv2 or SigLIP for creatures and
drawings, a face model exported to transformers for people.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from talent_factory.core.errors import UsageError

VARIABLE = "TALENT_IDENTITY_ENCODER"


class LocalEncoder:
    """Any encoder that `AutoModel` and `AutoImageProcessor` load from a folder or the local hub cache.

    Loaded at the first picture, on the CPU, without touching the network.
    """

    def __init__(self, model: str) -> None:
        self._path = model
        self._loaded: tuple[Any, Any] | None = None
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """The model's last name, no path of this machine."""
        return self._path.rstrip("/").rsplit("/", 1)[-1]

    def encode(self, image: Image.Image) -> NDArray[np.float32] | None:
        """The picture's vector (D,), pooled. Raises UsageError when the model cannot be loaded."""
        import torch

        with self._lock:
            processor, model = self._load()
            inputs = processor(images=image.convert("RGB"), return_tensors="pt")
            with torch.inference_mode():
                vision = getattr(model, "vision_model", model)  # of CLIP, the tower that sees
                out = vision(pixel_values=inputs["pixel_values"])
        pooled = getattr(out, "pooler_output", None)
        if pooled is None:
            pooled = out.last_hidden_state.mean(dim=1)
        vector = np.asarray(pooled.float().numpy(), np.float32).ravel()
        return vector if np.isfinite(vector).all() else None

    def _load(self) -> tuple[Any, Any]:
        if self._loaded is None:
            from transformers import AutoImageProcessor, AutoModel

            try:
                processor = AutoImageProcessor.from_pretrained(self._path, local_files_only=True)
                model = AutoModel.from_pretrained(self._path, local_files_only=True, use_safetensors=True)
            except (OSError, ValueError, KeyError) as error:
                reason = (
                    str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
                )
                raise UsageError(
                    f"the identity encoder {self.name} cannot be loaded: {reason}",
                    remedy=f"name a folder with a transformers image model in {VARIABLE}, or unset it",
                ) from None
            self._loaded = (processor, model.eval())
        return self._loaded


def encoder_from(environment: Mapping[str, str] | None = None) -> LocalEncoder | None:
    """The encoder that TALENT_IDENTITY_ENCODER names (a folder or a cached hub id), or None."""
    model = (os.environ if environment is None else environment).get(VARIABLE, "").strip()
    return LocalEncoder(model) if model else None
