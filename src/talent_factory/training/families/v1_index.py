"""`model_index.json` of a Stable Diffusion 1.5 folder in diffusers form: which class loads which part."""

from __future__ import annotations

from pathlib import Path

from talent_factory.core.files import write_json


def write_model_index(folder: Path) -> None:
    """Write `folder`/model_index.json; the base has no safety checker, and says so."""
    write_json(
        folder / "model_index.json",
        {
            "_class_name": "StableDiffusionPipeline",
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderKL"],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "scheduler": ["diffusers", "DDIMScheduler"],
            "safety_checker": [None, None],
            "feature_extractor": [None, None],
            "requires_safety_checker": False,
        },
    )
