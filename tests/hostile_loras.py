"""LoRA files that are none, that are for other models or that lie, each with the code that refuses them."""

from __future__ import annotations

import functools
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hostile_kits import Bomb
from kit_maker import raw_file, raw_tensors
from lora_files import Arrays, kohya_arrays
from talent_factory.kits.lora_file import lora_bytes

Q = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_q"
K = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
_DOTTED = "down_blocks.0.attentions.0.transformer_blocks.0"


@functools.cache
def small(base: str = "sd15") -> Arrays:
    """A good LoRA of one transformer block."""
    if base == "sd15":
        return kohya_arrays(base, keep=lambda name: "down_blocks_0_attentions_0_transformer" in name)
    return kohya_arrays(base, keep=lambda name: "input_blocks_4_1_transformer_blocks_0" in name)


def changed(change: Callable[[Arrays], Any], base: str = "sd15") -> bytes:
    """The good LoRA, spoiled, as a file without words."""
    arrays = dict(small(base))
    change(arrays)
    return raw_tensors(arrays)


def worded(**words: str) -> bytes:
    """The good LoRA with words in its header."""
    return lora_bytes(
        small(), precision="fp16", words={key.replace("__", "."): text for key, text in words.items()}
    )


def one(name: str, *shape: int) -> bytes:
    """A file of one tensor of ones."""
    return raw_tensors({name: np.ones(shape or (4, 4), np.float32)})


def pair(
    stem: str, into: int, out: int, ends: tuple[str, str] = ("lora_down.weight", "lora_up.weight")
) -> Arrays:
    """Down and up of one module."""
    return {
        f"{stem}.{ends[0]}": np.full((2, into), 0.01, np.float32),
        f"{stem}.{ends[1]}": np.full((out, 2), 0.01, np.float32),
    }


def set_to(name: str, value: float) -> Callable[[Arrays], None]:
    """Fill a tensor with one number."""
    return lambda arrays: arrays.update({name: np.full_like(arrays[name], value)})


def shaped(name: str, *shape: int) -> Callable[[Arrays], None]:
    """Give a tensor another shape."""
    return lambda arrays: arrays.update({name: np.full(shape, 0.01, np.float32)})


def _all(ending: str, value: float) -> Callable[[Arrays], None]:
    def change(arrays: Arrays) -> None:
        for name in [name for name in arrays if name.endswith(ending)]:
            arrays[name] = np.full_like(arrays[name], value)

    return change


def _renamed(old: str, new: str) -> Callable[[Arrays], None]:
    def change(arrays: Arrays) -> None:
        for name in [name for name in arrays if old in name]:
            arrays[name.replace(old, new)] = arrays.pop(name)

    return change


def _rank(arrays: Arrays) -> None:
    arrays.update(pair(Q, 320, 320))
    arrays[f"{Q}.lora_down.weight"] = np.full((200, 320), 0.01, np.float32)
    arrays[f"{Q}.lora_up.weight"] = np.full((320, 200), 0.01, np.float32)


def _peft(**config: Any) -> bytes:
    arrays = pair(f"unet.{_DOTTED}.attn2.to_q", 320, 320, ("lora_A.weight", "lora_B.weight"))
    return lora_bytes(arrays, precision="fp32", words={"lora_adapter_metadata": json.dumps(config)})


def _width(width: int) -> bytes:
    return raw_tensors(pair(K, width, 320))


# name -> file name, bytes, and the code that must refuse them
LORAS: dict[str, tuple[str, bytes, str]] = {
    # kinds of files
    **{
        f"a pickle called {suffix}": (f"a{suffix}", pickle.dumps(Bomb()), "pickle")
        for suffix in (".ckpt", ".pt", ".pth", ".bin", ".pkl", ".PT", ".npz", ".h5")
    },
    "a GGUF": ("a.gguf", b"GGUF" + bytes(60), "kind"),
    "a program": ("a.exe", b"MZ" + bytes(60), "kind"),
    "a file without ending": ("lora", raw_tensors(small()), "kind"),
    "a 7z": ("a.7z", b"7z\xbc\xaf\x27\x1c" + bytes(60), "kind"),
    "a pickle by its bytes": ("a.safetensors", pickle.dumps(Bomb()), "weights-header"),
    "a zip by its bytes": ("a.safetensors", b"PK\x03\x04" + bytes(200), "weights-header"),
    "a page by its bytes": ("a.safetensors", b"<!doctype html><html>" + bytes(60), "weights-header"),
    "a pointer of git's": (
        "a.safetensors",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        "weights-header",
    ),
    "nothing": ("a.safetensors", b"", "weights-truncated"),
    "nine bytes": ("a.safetensors", bytes(9), "weights-truncated"),
    "half a file": ("a.safetensors", raw_tensors(small())[:5000], "weights-truncated"),
    "a byte too many": ("a.safetensors", raw_tensors(small()) + b"\0", "weights-layout"),
    "no tensors": ("a.safetensors", raw_file(b"{}"), "weights-empty"),
    "words alone": ("a.safetensors", raw_file(b'{"__metadata__":{"a":"b"}}'), "weights-empty"),
    # other ways to adapt a model
    "LoHa": ("a.safetensors", one(f"{Q}.hada_w1_a"), "lora-form"),
    "LoKr": ("a.safetensors", one(f"{Q}.lokr_w1"), "lora-form"),
    "OFT": ("a.safetensors", one(f"{Q}.oft_diag"), "lora-form"),
    "IA3": ("a.safetensors", one(f"{Q}.on_input"), "lora-form"),
    "GLoRA": ("a.safetensors", one(f"{Q}.a1.weight"), "lora-form"),
    "full differences": ("a.safetensors", one(f"{Q}.diff"), "lora-form"),
    "a core in the middle": (
        "a.safetensors",
        changed(lambda a: a.update({f"{Q}.lora_mid.weight": np.ones((2, 2), np.float32)})),
        "lora-form",
    ),
    "DoRA of PEFT's": (
        "a.safetensors",
        changed(lambda a: a.update({f"{Q}.lora_magnitude_vector.weight": np.ones(320, np.float32)})),
        "lora-form",
    ),
    "DoRA of PEFT's by its words": ("a.safetensors", _peft(**{"unet.use_dora": True}), "lora-form"),
    "DoRA of outputs": (
        "a.safetensors",
        changed(lambda a: a.update({f"{K}.dora_scale": np.ones((320, 1), np.float32)})),
        "shape",
    ),
    "textual inversion": ("a.safetensors", one("emb_params", 4, 768), "lora-form"),
    "textual inversion for SDXL": ("a.safetensors", one("clip_g", 4, 1280), "lora-form"),
    # other models
    "FLUX": ("a.safetensors", one("lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight"), "lora-form"),
    "FLUX by diffusers": (
        "a.safetensors",
        one("transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight"),
        "lora-form",
    ),
    "Stable Diffusion 3": (
        "a.safetensors",
        one("lora_unet_joint_blocks_0_x_block_attn_qkv.lora_down.weight"),
        "lora-form",
    ),
    "a transformer": ("a.safetensors", one("transformer.blocks.0.attn.to_q.lora_A.weight"), "lora-form"),
    "a video model": (
        "a.safetensors",
        one("down_blocks.0.motion_modules.0.temporal_transformer.to_q.lora_A.weight"),
        "lora-form",
    ),
    "a checkpoint": ("a.safetensors", one("model.diffusion_model.input_blocks.0.0.weight"), "lora-form"),
    "an image encoder": ("a.safetensors", one("first_stage_model.encoder.conv_in.weight"), "lora-form"),
    "a ControlNet": ("a.safetensors", one("control_model.input_blocks.0.0.weight"), "lora-form"),
    "a language model": (
        "a.safetensors",
        raw_tensors(
            pair(
                "base_model.model.model.layers.0.self_attn.q_proj",
                4096,
                4096,
                ("lora_A.weight", "lora_B.weight"),
            )
        ),
        "base-mismatch",
    ),
    "plain weights": ("a.safetensors", one("linear.weight"), "key-unknown"),
    "Stable Diffusion 2": ("a.safetensors", _width(1024), "base-mismatch"),
    "a T5's width": ("a.safetensors", _width(4096), "base-mismatch"),
    "a width of nobody's": ("a.safetensors", _width(777), "base-mismatch"),
    "two bases at once": ("a.safetensors", changed(lambda a: a.update(small("sdxl"))), "key-unknown"),
    # modules
    "a module that is none": (
        "a.safetensors",
        changed(lambda a: a.update(pair("lora_unet_somewhere", 320, 320))),
        "key-unknown",
    ),
    "the first convolution": (
        "a.safetensors",
        changed(lambda a: a.update(pair("lora_unet_conv_in", 4, 320))),
        "key-unknown",
    ),
    "a second text encoder for SD 1.5": (
        "a.safetensors",
        changed(
            lambda a: a.update(pair("lora_te2_text_model_encoder_layers_0_self_attn_q_proj", 1280, 1280))
        ),
        "key-unknown",
    ),
    "a tensor of no LoRA": (
        "a.safetensors",
        changed(lambda a: a.update({"notes": np.ones(4, np.float32)})),
        "key-unknown",
    ),
    "one module in two spellings": (
        "a.safetensors",
        changed(
            lambda a: a.update(
                pair(f"unet.{_DOTTED}.attn2.to_q", 320, 320, ("lora_A.weight", "lora_B.weight"))
            )
        ),
        "weights-duplicate",
    ),
    "one part in two spellings": (
        "a.safetensors",
        changed(lambda a: a.update({f"{Q}.lora_A.weight": np.ones((2, 320), np.float32)})),
        "key-unknown",
    ),
    "no up": ("a.safetensors", changed(lambda a: a.pop(f"{Q}.lora_up.weight")), "key-unknown"),
    "an alpha alone": ("a.safetensors", one(f"{Q}.alpha", 1), "base-mismatch"),
    # shapes and numbers
    "too wide": ("a.safetensors", changed(shaped(f"{Q}.lora_down.weight", 2, 321)), "key-unknown"),
    "up of another rank": ("a.safetensors", changed(shaped(f"{Q}.lora_up.weight", 320, 3)), "key-unknown"),
    "a scalar for a matrix": ("a.safetensors", changed(shaped(f"{Q}.lora_down.weight")), "key-unknown"),
    "five sides": ("a.safetensors", changed(shaped(f"{Q}.lora_down.weight", 2, 320, 1, 1, 2)), "key-unknown"),
    "rank 200": ("a.safetensors", changed(_rank), "rank"),
    "alpha of two numbers": ("a.safetensors", changed(shaped(f"{Q}.alpha", 2)), "shape"),
    "alpha zero": ("a.safetensors", changed(set_to(f"{Q}.alpha", 0)), "alpha-value"),
    "alpha negative": ("a.safetensors", changed(set_to(f"{Q}.alpha", -4)), "alpha-value"),
    "alpha NaN": ("a.safetensors", changed(set_to(f"{Q}.alpha", np.nan)), "alpha-value"),
    "alpha infinite": ("a.safetensors", changed(set_to(f"{Q}.alpha", np.inf)), "alpha-value"),
    "NaN": ("a.safetensors", changed(set_to(f"{Q}.lora_up.weight", np.nan)), "not-finite"),
    "infinity": ("a.safetensors", changed(set_to(f"{Q}.lora_down.weight", -np.inf)), "not-finite"),
    "untrained": ("a.safetensors", changed(_all("lora_up.weight", 0)), "all-zero"),
    "too faint": ("a.safetensors", changed(_all("weight", 1e-15)), "all-zero"),
    "exploded": ("a.safetensors", changed(_all("weight", 1e4)), "delta-size"),
    # the words of PEFT
    "PEFT: alpha of text": ("a.safetensors", _peft(**{"unet.lora_alpha": "8"}), "alpha-value"),
    "PEFT: alpha of truth": ("a.safetensors", _peft(**{"unet.lora_alpha": True}), "alpha-value"),
    "PEFT: alpha below nothing": ("a.safetensors", _peft(**{"unet.lora_alpha": -1}), "alpha-value"),
    "PEFT: alpha beyond all": ("a.safetensors", _peft(**{"unet.lora_alpha": 10**400}), "alpha-value"),
    "PEFT: words that are no JSON": ("a.safetensors", worded(lora_adapter_metadata="{"), "weights-header"),
    "PEFT: words that are a list": ("a.safetensors", worded(lora_adapter_metadata="[]"), "weights-header"),
    "PEFT: words without end": (
        "a.safetensors",
        worded(lora_adapter_metadata="[" * 100_000),
        "weights-header",
    ),
}

# Words that a good file may hold and that must change nothing but what they are about.
STRANGE_WORDS: dict[str, dict[str, str]] = {
    "tags that are no JSON": {"ss_tag_frequency": "{"},
    "tags that are a list": {"ss_tag_frequency": "[1]"},
    "tags of tags": {"ss_tag_frequency": json.dumps({"1_x": {"a": {"b": 1}}})},
    "tags without end": {"ss_tag_frequency": "[" * 50_000},
    "a folder that climbs": {"ss_tag_frequency": json.dumps({"1_../../etc": {"../../etc": 5}})},
    "a trigger with markup": {"modelspec.trigger_phrase": "<script>alert(1)</script>, \x1b[31mred"},
    "a title with line ends": {"modelspec.title": "a\nb\r\nLoRA rank: 128"},
    "a description without end": {"modelspec.description": "x" * 500_000},
    "a licence without end": {"modelspec.license": "y" * 5_000},
    "a thousand tags": {"modelspec.tags": ",".join(f"t{number}" for number in range(1000))},
    "a date beyond time": {"modelspec.date": "99999-99-99", "ss_training_finished_at": "1e300"},
    "a picture that is none": {"modelspec.thumbnail": "data:image/jpeg;base64,AAAA"},
    "a picture from elsewhere": {"modelspec.thumbnail": "https://example.com/x.png"},
    "a picture of no letters": {"modelspec.thumbnail": "data:image/png;base64,\u00e9\u00e9"},
    "covers that are no JSON": {"ssmd_cover_images": "[" * 50_000},
    "steps that are words": {"ss_steps": "many", "ss_unet_lr": "nan", "ss_resolution": "(a, b)"},
    "steps beyond all": {"ss_steps": "9" * 400, "ss_learning_rate": "1e999", "ss_num_train_images": "-5"},
    "a model in a folder": {"ss_sd_model_name": "C:\\Users\\someone\\models\\x.safetensors"},
}


def write(folder: Path, case: str) -> Path:
    """Write one of LORAS into `folder`."""
    name, data, _ = LORAS[case]
    path = folder / name
    path.write_bytes(data)
    return path
