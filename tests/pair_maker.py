"""A LoRA training small enough for two processes on one machine."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image


def small_pair_config(folder: Path, **keys: object) -> Path:
    """Write four pictures with captions and the config of three steps on them into `folder`."""
    images = folder / "images"
    images.mkdir(exist_ok=True)
    for index in range(4):
        Image.new("RGB", (64, 64), (40 * index, 90, 200 - 40 * index)).save(images / f"{index}.png")
        (images / f"{index}.txt").write_text("portrait of someone_x robot", "utf-8")
    values = {
        "id": "avatar.identity.together", "kind": "lora", "sdx_version": "1.5", "base_model": "mini",
        "train_data_dir": str(images), "resolution": 128, "token": "someone_x", "class_noun": "robot",
        "device": "cpu", "sample_every": 0, "lora_rank": 2, "max_train_steps": 3, "learning_rate": 1e-3,
        "batch_size": 2, **keys,
    }  # fmt: skip
    path = folder / "config.yaml"
    path.write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in values.items()), "utf-8")
    return path
