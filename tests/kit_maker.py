"""Make small kits, good and bad, for the tests of kits and of the commands about them."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from talent_factory.kits.keys import folder_modules
from talent_factory.kits.lora_file import lora_bytes
from talent_factory.kits.manifest import PromptSet
from talent_factory.kits.pack import KitSpec, pack_kit

KIT_ID = "avatar.identity.dot_test"
RANK = 4
ALPHA = 2.0
CREATED = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)

UNET_CONFIG = {
    "block_out_channels": [32, 64],
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "layers_per_block": 1,
    "transformer_layers_per_block": 1,
    "cross_attention_dim": 48,
    "use_linear_projection": False,
}
TEXT_CONFIG = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 1}

Tensors = dict[str, NDArray[Any]]


def make_base(folder: Path) -> Path:
    """Write the two configurations that tell which modules a base has."""
    for part, config in (("unet", UNET_CONFIG), ("text_encoder", TEXT_CONFIG)):
        (folder / part).mkdir(parents=True, exist_ok=True)
        (folder / part / "config.json").write_text(json.dumps(config))
    return folder


def make_tensors(base: Path, *, rank: int = RANK, alpha: float = ALPHA, seed: int = 0) -> Tensors:
    """Return float32 kohya tensors of every module, small and never zero, as training would leave them."""
    rng = np.random.default_rng(seed)
    tensors: Tensors = {}
    for name, shape in folder_modules(base).items():
        tensors[f"{name}.lora_down.weight"] = rng.normal(0, 0.05, shape.down(rank)).astype(np.float32)
        tensors[f"{name}.lora_up.weight"] = rng.normal(0, 0.05, shape.up(rank)).astype(np.float32)
        tensors[f"{name}.alpha"] = np.array(alpha, dtype=np.float32)
    return tensors


def write_lora(path: Path, tensors: Mapping[str, NDArray[Any]]) -> Path:
    """Write a LoRA file as training leaves it, in single precision."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(lora_bytes(tensors, precision="fp32", words={}))
    return path


def make_images(folder: Path, count: int = 3) -> list[Path]:
    """Write small PNGs."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(count):
        path = folder / f"{number}.png"
        Image.new("RGB", (24, 24), (40 * number, 90, 120)).save(path)
        paths.append(path)
    return paths


def make_spec(**changes: Any) -> KitSpec:
    """Return a spec that makes a good kit."""
    fields: dict[str, Any] = {
        "id": KIT_ID,
        "base_model": "mini",
        "rank": RANK,
        "alpha": ALPHA,
        "created_at": CREATED,
        "token": "dot_test",
        "prompts": PromptSet(
            positive_prompts=("portrait of dot_test woman, white background",), negative_prompts=("blurry",)
        ),
        "description": "A test kit",
        "tags": ("test",),
        "author": "nobody",
        "license": "CC0-1.0",
        "training_config": {
            "resolution": 128,
            "max_train_steps": 600,
            "learning_rate": 1e-3,
            "batch_size": 4,
        },
    }
    return KitSpec(**{**fields, **changes})


def make_kit(root: Path, base: Path, *, work: Path, **changes: Any) -> Path:
    """Pack a good kit below `root`; `work` takes the inputs."""
    spec = make_spec(**changes)
    lora = write_lora(work / "lora.safetensors", make_tensors(base, rank=spec.rank, alpha=spec.alpha))
    return pack_kit(spec, lora=lora, examples=make_images(work / "images"), root=root, base_folder=base)


def read_manifest_json(kit: Path) -> dict[str, Any]:
    """Return the plain manifest."""
    manifest: dict[str, Any] = json.loads((kit / "talent.json").read_text())
    return manifest


def edit_manifest(kit: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the manifest in place."""
    manifest = read_manifest_json(kit)
    change(manifest)
    (kit / "talent.json").write_text(json.dumps(manifest))


def restate_digests(kit: Path) -> None:
    """State the digests of the files as they are now, so that only the deeper checks can object."""

    def restate(manifest: dict[str, Any]) -> None:
        digests = manifest["metadata"]["digests"]
        for name in [name for name in digests if (kit / name).is_file()]:
            digests[name] = hashlib.sha256((kit / name).read_bytes()).hexdigest()

    edit_manifest(kit, restate)


def raw_file(header: bytes, data: bytes = b"") -> bytes:
    """Return a safetensors file with a header as given, right or wrong."""
    return struct.pack("<Q", len(header)) + header + data


def raw_tensors(tensors: Mapping[str, NDArray[Any]], *, dtype: str = "F32") -> bytes:
    """Return a safetensors file with tensors as given, NaN included; BF16 takes the numbers' upper halves."""
    entries: dict[str, Any] = {}
    body = b""
    for name, array in tensors.items():
        if dtype == "BF16":
            encoded = (np.asarray(array, dtype="<f4").reshape(-1).view("<u4") >> np.uint32(16)).astype("<u2")
            data = encoded.tobytes()
        else:
            data = np.asarray(array, dtype={"F32": "<f4", "F16": "<f2"}[dtype]).tobytes()
        entries[name] = {
            "dtype": dtype,
            "shape": list(np.shape(array)),
            "data_offsets": [len(body), len(body) + len(data)],
        }
        body += data
    return raw_file(json.dumps(entries).encode(), body)
