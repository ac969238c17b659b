"""Read the tensors of a training run and write the LoRA file that a kit ships.

The shipped form is kohya's: lora_down and lora_up in half precision, the true alpha in single precision, and
a header of `ss_*` and ModelSpec 1.0.1 words (https://github.com/Stability-AI/ModelSpec) that A1111, Forge,
ComfyUI, InvokeAI and diffusers read. Equal inputs give equal bytes. Nothing of the maker's machine is in the
file: no path, no date but the kit's own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from talent_factory.core.errors import KitError
from talent_factory.kits.header import ITEM_BYTES, HeaderError, parse_header
from talent_factory.kits.weights import read_tensor

Tensors = Mapping[str, NDArray[Any]]
_TYPES: Mapping[str, tuple[str, str]] = {"fp16": ("F16", "<f2"), "fp32": ("F32", "<f4")}


def read_lora(path: Path) -> dict[str, NDArray[Any]]:
    """Return the tensors of a safetensors file, half precisions widened to float32.

    Raises KitError when the file is missing or its header is refused.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise KitError(f"{path}: {error.strerror}", remedy="train first: talent train CONFIG") from error
    try:
        header = parse_header(data)
    except HeaderError as error:
        raise KitError(f"{path}: {error.message}", remedy=error.remedy) from error
    tensors = memoryview(data)[header.data_start :]
    return {entry.name: read_tensor(tensors, entry) for entry in header.tensors}


def lora_bytes(tensors: Tensors, *, precision: Literal["fp16", "fp32"], words: Mapping[str, str]) -> bytes:
    """Return a safetensors file of `tensors` and header `words`; the hash of the tensors joins the words.

    lora_down and lora_up take the precision, alpha stays single. Raises KitError when a number does not fit
    the precision or is not finite.
    """
    encoded = [(name, *_encode(name, array, precision)) for name, array in tensors.items()]
    # larger items first, as the reference writer does, so that each tensor is aligned to its own type
    encoded.sort(key=lambda item: (-ITEM_BYTES[item[1]], item[0]))
    position, entries, body = 0, {}, bytearray()
    for name, dtype, array in encoded:
        entries[name] = {
            "dtype": dtype,
            "shape": list(array.shape),
            "data_offsets": [position, position + array.nbytes],
        }
        position += array.nbytes
        body += array.tobytes()
    digest = hashlib.sha256(body).hexdigest()
    hashes = {"modelspec.hash_sha256": f"0x{digest}", "sshs_model_hash": digest}
    document = {"__metadata__": dict(sorted({**words, **hashes}.items())), **entries}
    header = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + bytes(body)


def _encode(name: str, array: NDArray[Any], precision: str) -> tuple[str, NDArray[Any]]:
    dtype, kind = _TYPES["fp32" if name.endswith(".alpha") else precision]
    with np.errstate(over="ignore"):
        encoded = np.ascontiguousarray(array, dtype=kind).reshape(array.shape)
    if not np.isfinite(encoded).all():
        raise KitError(
            f"{name} holds numbers that {dtype} cannot", remedy="train again with a lower learning rate"
        )
    return dtype, encoded


def header_words(
    *,
    name: str,
    base: str,
    base_model: str,
    rank: int,
    alpha: float,
    triggers: tuple[str, ...],
    facts: Mapping[str, Any],
    texts: Mapping[str, str],
) -> dict[str, str]:
    """Return the header of a LoRA file, all values text.

    `base` is mini, sd15 or sdxl; `facts` are training values under their config names (resolution,
    max_train_steps, learning_rate, batch_size, seed, images …); `texts` are description, author, license,
    tags, usage_hint and date, empty ones left out.
    """
    words = {
        "ss_v2": "False",
        "ss_base_model_version": {"sd15": "sd_v1", "sdxl": "sdxl_base_v1-0"}.get(base, "talent_mini"),
        "ss_sd_model_name": base_model,
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(rank),
        "ss_network_alpha": repr(float(alpha)),
        "ss_network_args": "{}",
        "ss_output_name": name,
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": _ARCHITECTURES[base],
        "modelspec.implementation": "https://github.com/Stability-AI/generative-models"
        if base == "sdxl"
        else "diffusers",
        "modelspec.prediction_type": "epsilon",
    }
    for fact, word in _FACT_WORDS.items():
        if facts.get(fact) is not None:
            words[word] = str(facts[fact])
    if isinstance(facts.get("resolution"), int):
        side = facts["resolution"]
        words["ss_resolution"] = f"({side}, {side})"
        words["modelspec.resolution"] = f"{side}x{side}"
    if triggers:
        words["modelspec.trigger_phrase"] = triggers[0]
        # a folder name and captions would tell about the maker's disk; the triggers are what readers look for
        words["ss_tag_frequency"] = json.dumps(
            {name: {word: int(facts.get("images") or 1) for word in triggers}}
        )
    words.update({f"modelspec.{key}": text for key, text in texts.items() if text})
    return words


_ARCHITECTURES: Mapping[str, str] = {
    "sd15": "stable-diffusion-v1/lora",
    "sdxl": "stable-diffusion-xl-v1-base/lora",
    "mini": "talent-factory-mini/lora",
}
_FACT_WORDS: Mapping[str, str] = {
    "max_train_steps": "ss_steps",
    "learning_rate": "ss_learning_rate",
    "text_encoder_lr": "ss_text_encoder_lr",
    "batch_size": "ss_batch_size_per_device",
    "seed": "ss_seed",
    "images": "ss_num_train_images",
}
