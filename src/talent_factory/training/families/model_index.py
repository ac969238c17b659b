"""`model_index.json` of a folder in diffusers form: which class loads which part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from talent_factory.core.files import write_json
from talent_factory.training.families.shapes import Family

_COMMON: dict[str, Any] = {
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "feature_extractor": [None, None],
}
_INDEX: dict[Family, dict[str, Any]] = {
    "sd15": {
        "_class_name": "StableDiffusionPipeline",
        "scheduler": ["diffusers", "DDIMScheduler"],
        "safety_checker": [None, None],
        "requires_safety_checker": False,
    },
    "sdxl": {
        "_class_name": "StableDiffusionXLPipeline",
        "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
        "tokenizer_2": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", "EulerDiscreteScheduler"],
        "image_encoder": [None, None],
        "force_zeros_for_empty_prompt": True,
    },
}


def write_model_index(folder: Path, family: Family = "sd15") -> None:
    """Write `folder`/model_index.json; a base has no safety checker, and says so."""
    write_json(folder / "model_index.json", {**_COMMON, **_INDEX[family]})
