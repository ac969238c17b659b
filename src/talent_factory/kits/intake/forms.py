"""Know the ways in which programs name the tensors of a LoRA, and give each the name that kits use.

Four forms are about: kohya's (`lora_unet_…lora_down.weight`), PEFT's (`unet.….lora_A.weight`), and two of
older diffusers (`unet.…processor.to_q_lora.down.weight`, `…to_q.lora.down.weight`). Each may say its modules
in diffusers' words or in Stability's. Kits use kohya's form with the words that readers of the base expect.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from talent_factory.core.unet_names import stability_names
from talent_factory.kits.header import TensorEntry
from talent_factory.kits.keys import Modules, base_configs, expected_modules, unet_paths

BaseName = Literal["mini", "sd15", "sdxl"]
Part = Literal["down", "up", "alpha", "dora_scale"]
BASES: tuple[BaseName, ...] = ("sd15", "sdxl", "mini")

# The end of a tensor's name -> which part of a module it is; the first that fits counts.
_ENDINGS: tuple[tuple[str, Part], ...] = (
    (".lora_down.weight", "down"),
    (".lora_up.weight", "up"),
    (".lora_A.weight", "down"),
    (".lora_B.weight", "up"),
    (".lora_A.default.weight", "down"),
    (".lora_B.default.weight", "up"),
    (".lora_A.default_0.weight", "down"),
    (".lora_B.default_0.weight", "up"),
    (".lora_linear_layer.down.weight", "down"),
    (".lora_linear_layer.up.weight", "up"),
    (".lora.down.weight", "down"),
    (".lora.up.weight", "up"),
    ("_lora.down.weight", "down"),
    ("_lora.up.weight", "up"),
    (".alpha", "alpha"),
    (".dora_scale", "dora_scale"),
)
# Other ways to adapt a model, which no pair of matrices can say.
_OTHER_KINDS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\.hada_(w1|w2|t1|t2)"), "LoHa"),
    (re.compile(r"\.lokr_(w1|w2|t2)"), "LoKr"),
    (re.compile(r"\.(oft_diag|oft_blocks|oft_R)|\.boft"), "OFT"),
    (re.compile(r"\.(on_input|ia3_l)$|\.ia3"), "IA3"),
    (re.compile(r"\.(a1|a2|b1|b2)\.weight$|\.glora"), "GLoRA"),
    (re.compile(r"\.(diff|diff_b|w_norm|b_norm|set_weight)$"), "full differences of weights"),
    (re.compile(r"\.lora_mid\.weight$"), "LoCon with a core in the middle (cp decomposition)"),
    (re.compile(r"lora_magnitude_vector"), "PEFT's DoRA, whose lengths belong to outputs"),
    (re.compile(r"lora_embedding_|emb_params|string_to_param|^clip_[lg]$"), "textual inversion"),
)
_OTHER_MODELS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"double_blocks|single_blocks|single_transformer_blocks"), "FLUX"),
    (re.compile(r"joint_blocks|lora_te3_|text_encoder_3|context_embedder"), "Stable Diffusion 3"),
    (re.compile(r"^(lora_)?transformer[._]|^diffusion_model\.(layers|blocks)\b"), "a transformer model"),
    (re.compile(r"temporal|motion_modules"), "a video model"),
    (re.compile(r"^(model\.diffusion_model|first_stage_model|cond_stage_model)\."), "a whole checkpoint"),
    (re.compile(r"^(input_hint_block|control_model|controlnet)"), "a ControlNet"),
)
_PREFIXES = ("base_model.model.", "module.")
_PROCESSOR = re.compile(r"\.processor\.(to_[qkv]|to_out)$")
_TEXT = re.compile(
    r"(?:lora_(te[12]?)|lycoris_(text_encoder(?:_2)?|te[12]?)|(text_encoder(?:_2)?))[._](?:text_model[._])?(.+)"
)
_TEXT_PARTS = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}


class Named(NamedTuple):
    """The tensors of one module of the file as they came, by part; `raw` is the name it had there."""

    raw: str
    parts: dict[Part, TensorEntry]


def split_name(name: str) -> tuple[str, Part] | None:
    """Return the module's name as it stands in the file and the part; None for no part of a LoRA."""
    for ending, part in _ENDINGS:
        if name.endswith(ending):
            return name.removesuffix(ending), part
    return None


def other_kind(names: Iterable[str]) -> str:
    """Return what a file is when it is not a plain LoRA of Stable Diffusion, "" when nothing says so."""
    listed = list(names)
    for table in (_OTHER_KINDS, _OTHER_MODELS):
        for pattern, kind in table:
            if any(pattern.search(name) for name in listed):
                return kind
    return ""


def kohya_name(raw: str, base: BaseName) -> str | None:
    """Return the module's name in kits for `base`, None when the base has no such module."""
    for prefix in _PREFIXES:
        raw = raw.removeprefix(prefix)
    text = _TEXT.fullmatch(raw)
    if text is not None:
        return _text_name(text, base)
    for prefix in ("lora_unet_", "lycoris_unet_", "unet.", "unet_"):
        if raw.startswith(prefix):
            raw = raw.removeprefix(prefix)
            break
    raw = raw.removeprefix("diffusion_model.")
    found = _PROCESSOR.search(raw)
    if found is not None:
        raw = f"{raw[: found.start()]}.{found[1]}"
    flat = raw.replace(".", "_")
    table = _unet_names(base)
    # older programs left the number of the only layer in to_out away
    return table.get(flat) or (table.get(flat + "_0") if flat.endswith("_to_out") else None)


def grouped(entries: Iterable[TensorEntry]) -> tuple[list[Named], list[str]]:
    """Group tensors by the module's name in the file; returns them and the names of what is no LoRA part."""
    found: dict[str, Named] = {}
    strange = []
    for entry in entries:
        cut = split_name(entry.name)
        if cut is None:
            strange.append(entry.name)
            continue
        module = found.setdefault(cut[0], Named(cut[0], {}))
        if cut[1] in module.parts:
            strange.append(entry.name)
        module.parts[cut[1]] = entry
    return list(found.values()), strange


def form_of(names: Iterable[str]) -> str:
    """Return the words for the form that a file's names are in."""
    listed = list(names)
    if any(".lora_A." in name for name in listed):
        return "PEFT"
    if any("_lora.down" in name or ".lora.down" in name or "lora_linear" in name for name in listed):
        return "older diffusers"
    return "kohya"


@functools.cache
def _unet_names(base: BaseName) -> Mapping[str, str]:
    """Flat name by diffusers or by Stability -> the name in kits."""
    config = base_configs(base)["unet"]
    modules: Modules = expected_modules(base)
    rename = stability_names(config)
    found = {}
    for path, _ in unet_paths(config):
        flats = (path.replace(".", "_"), rename(path).replace(".", "_"))
        kit = next(name for flat in flats if (name := f"lora_unet_{flat}") in modules)
        found.update(dict.fromkeys(flats, kit))
    return found


def _text_name(text: re.Match[str], base: BaseName) -> str | None:
    encoder = text[1] or text[2] or text[3]
    second = encoder in ("te2", "text_encoder_2")
    if base != "sdxl" and second:
        return None
    prefix = {False: "lora_te1", True: "lora_te2"}[second] if base == "sdxl" else "lora_te"
    body = text[4].replace(".", "_")
    for old, new in _TEXT_PARTS.items():
        if body.endswith(f"_self_attn_{old}"):
            body = body.removesuffix(old) + new
    return f"{prefix}_text_model_{body}"
