"""The words in the header of a LoRA file: what it is for, how it was trained, what calls it.

kohya's `ss_*` names are those of sd-scripts, which A1111 and Civitai show; `modelspec.*` is ModelSpec 1.0.1
(https://github.com/Stability-AI/ModelSpec). All values are text. No folder, file name or caption of the
maker's goes in: the kit's own name stands where others write the training folder's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

_VERSIONS: Mapping[str, str] = {"sd15": "sd_v1", "sdxl": "sdxl_base_v1-0"}
_ARCHITECTURES: Mapping[str, str] = {
    "sd15": "stable-diffusion-v1/lora",
    "sdxl": "stable-diffusion-xl-v1-base/lora",
    "mini": "talent-factory-mini/lora",
}
_STABILITY = "https://github.com/Stability-AI/generative-models"
# Values of a training config, groups with a dot, and what kohya calls them.
_FACT_WORDS: tuple[tuple[str, str], ...] = (
    ("max_train_steps", "ss_steps"),
    ("max_train_steps", "ss_max_train_steps"),
    ("learning_rate", "ss_learning_rate"),
    ("learning_rate", "ss_unet_lr"),
    ("text_encoder_lr", "ss_text_encoder_lr"),
    ("batch_size", "ss_batch_size_per_device"),
    ("accumulation", "ss_gradient_accumulation_steps"),
    ("gradient_checkpointing", "ss_gradient_checkpointing"),
    ("max_grad_norm", "ss_max_grad_norm"),
    ("optimizer.name", "ss_optimizer"),
    ("scheduler", "ss_lr_scheduler"),
    ("warmup_steps", "ss_lr_warmup_steps"),
    ("precision", "ss_mixed_precision"),
    ("noise.offset", "ss_noise_offset"),
    ("noise.zero_terminal_snr", "ss_zero_terminal_snr"),
    ("loss.kind", "ss_loss_type"),
    ("captions.dropout", "ss_caption_dropout_rate"),
    ("captions.tag_dropout", "ss_caption_tag_dropout_rate"),
    ("captions.shuffle", "ss_shuffle_caption"),
    ("captions.keep_tokens", "ss_keep_tokens"),
    ("prior_weight", "ss_prior_loss_weight"),
    ("flip", "ss_flip_aug"),
    ("seed", "ss_seed"),
    ("images", "ss_num_train_images"),
    ("model_hash", "ss_sd_model_hash"),
    ("model_sha256", "ss_new_sd_model_hash"),
)


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

    `base` is mini, sd15 or sdxl; `facts` are training values under their config names, with `images`,
    `buckets` ({"512x640": count}), `prediction` ("v_prediction"), `conv_rank`, `conv_alpha` and, of a base
    in one file, `model_hash` (short) and `model_sha256` beside them;
    `texts` are title, description, author, license, tags, usage_hint and date, empty ones left out.
    """
    velocity = facts.get("prediction") == "v_prediction"
    words = {
        "ss_v2": "False",
        "ss_base_model_version": _VERSIONS.get(base, "talent_mini"),
        "ss_sd_model_name": base_model,
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(rank),
        "ss_network_alpha": repr(float(alpha)),
        "ss_network_args": json.dumps(_network_args(facts)),
        "ss_output_name": name,
        "ss_clip_skip": "None",
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": _ARCHITECTURES[base],
        "modelspec.implementation": _STABILITY if base == "sdxl" else "diffusers",
        "modelspec.prediction_type": "v" if velocity else "epsilon",
    }
    if velocity:
        words["ss_v_parameterization"] = "True"
    for fact, word in _FACT_WORDS:
        value = _value(facts, fact)
        if value is not None:
            words[word] = str(value)
    if _value(facts, "loss.weighting") == "min-snr":
        words["ss_min_snr_gamma"] = str(_value(facts, "loss.min_snr_gamma"))
    words.update(_dataset_words(name, triggers, facts))
    if triggers:
        words["modelspec.trigger_phrase"] = triggers[0]
    if texts.get("date"):
        words["ss_training_finished_at"] = repr(datetime.fromisoformat(texts["date"]).timestamp())
    words.update({f"modelspec.{key}": text for key, text in texts.items() if text})
    return words


def _network_args(facts: Mapping[str, Any]) -> dict[str, str]:
    args = {"conv_dim": facts.get("conv_rank"), "conv_alpha": facts.get("conv_alpha")}
    if _value(facts, "network.dora"):
        args["dora_wd"] = True
    return {key: str(value) for key, value in args.items() if value is not None}


def _dataset_words(name: str, triggers: tuple[str, ...], facts: Mapping[str, Any]) -> dict[str, str]:
    """What the images were, told without their folder: sizes, how many, the words that call the subject."""
    words = {}
    count = facts.get("images")
    side = facts.get("resolution")
    if isinstance(side, int):
        words["ss_resolution"] = f"({side}, {side})"
        words["modelspec.resolution"] = f"{side}x{side}"
    if triggers:
        words["ss_tag_frequency"] = json.dumps({name: {word: int(count or 1) for word in triggers}})
    if not isinstance(count, int) or count < 1:
        return words
    words["ss_dataset_dirs"] = json.dumps({name: {"n_repeats": 1, "img_count": count}})
    steps, batch = facts.get("max_train_steps"), facts.get("batch_size")
    if isinstance(steps, int) and isinstance(batch, int):
        words["ss_epoch"] = str(math.ceil(steps * batch * int(facts.get("accumulation") or 1) / count))
    buckets = facts.get("buckets") or ({f"{side}x{side}": count} if isinstance(side, int) else {})
    if buckets:
        words["ss_enable_bucket"] = str(len(buckets) > 1)
        words["ss_bucket_info"] = json.dumps(_bucket_info(buckets))
    return words


def _bucket_info(buckets: Mapping[str, int]) -> dict[str, Any]:
    """kohya's form: numbered buckets; images are cut to fit exactly here, so no aspect is off."""
    listed = {
        str(number): {"resolution": [int(side) for side in size.split("x")], "count": int(count)}
        for number, (size, count) in enumerate(sorted(buckets.items()))
    }
    return {"buckets": listed, "mean_img_ar_error": 0.0}


def _value(facts: Mapping[str, Any], name: str) -> Any:
    """The value under a name such as `optimizer.name`; None where there is none."""
    group, _, key = name.rpartition(".")
    if not group:
        return facts.get(key)
    found = facts.get(group)
    return found.get(key) if isinstance(found, Mapping) else None
