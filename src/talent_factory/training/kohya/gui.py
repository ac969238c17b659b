"""The JSON files that the kohya_ss window saves: its own names and zeros back to those of sd-scripts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# The window's name -> the name on the command line that it builds.
_RENAMED = {
    "max_resolution": "resolution",
    "optimizer": "optimizer_type",
    "LoRA_type": "lora_type",
    "caption_metadata_filename": "in_json",
}
# Options that the window writes as 0, "" or its own default when they are off.
_ZERO_IS_OFF = frozenset(
    {
        "max_train_steps", "max_train_epochs", "min_snr_gamma", "noise_offset", "adaptive_noise_scale",
        "multires_noise_iterations", "ip_noise_gamma", "save_every_n_steps", "save_last_n_steps",
        "save_last_n_steps_state", "save_last_n_epochs", "save_last_n_epochs_state", "sample_every_n_steps",
        "sample_every_n_epochs", "seed", "scale_weight_norms", "caption_dropout_every_n_epochs",
        "network_dropout", "vae_batch_size", "max_data_loader_n_workers", "v_pred_like_loss",
        "lr_scheduler_num_cycles", "lr_scheduler_power", "text_encoder_lr", "unet_lr",
    }
)  # fmt: skip
# Parts of other models, and of the window itself: they stand in every file and say nothing about SD or SDXL.
_OF_OTHERS = ("flux", "sd3", "t5", "clip_l", "clip_g", "lumina", "anima", "hunyuan", "leco", "huggingface")
_OF_THE_WINDOW = frozenset(
    {
        "additional_parameters", "extra_accelerate_launch_args", "gpu_ids", "main_process_port", "multi_gpu",
        "num_cpu_threads_per_process", "num_machines", "num_processes", "model_list", "save_as_bool",
        "dynamo_mode", "dynamo_use_dynamic", "dynamo_use_fullgraph", "guidance_scale", "discrete_flow_shift",
        "logit_mean", "logit_std", "mode_scale", "model_prediction_type", "timestep_sampling", "train_blocks",
        "weighting_scheme", "blocks_to_swap", "double_blocks_to_swap", "single_blocks_to_swap", "split_mode",
        "split_qkv", "apply_t5_attn_mask", "ae", "mem_eff_save", "save_clip", "train_t5xxl", "unit",
        "decompose_both", "factor", "use_cp", "use_tucker", "use_scalar", "train_norm", "bypass_mode",
        "rank_dropout_scale", "constrain", "rescaled", "lycoris_preset", "LyCORIS_preset", "train_on_input",
        "cpu_offload_checkpointing", "disable_mmap_load_safetensors", "blockwise_fused_optimizers",
        "fused_optimizer_groups", "dim_from_weights", "huber_scale", "loraplus", "skip_until_initial_step",
        "initial_epoch", "initial_step", "ggpo_sigma",
        # of the tab for whole models; a LoRA has text_encoder_lr
        "learning_rate_te", "learning_rate_te1", "learning_rate_te2",
    }
)  # fmt: skip


def looks_like_gui(data: Mapping[str, Any]) -> bool:
    """Whether a JSON object is one that the kohya_ss window saves for a LoRA."""
    return "pretrained_model_name_or_path" in data and ("max_resolution" in data or "optimizer" in data)


def from_gui(data: Mapping[str, Any]) -> dict[str, Any]:
    """The options of sd-scripts that the window would make of its file; what is off is left out."""
    values: dict[str, Any] = {}
    for key, value in data.items():
        name = _RENAMED.get(key, key)
        if key in _OF_THE_WINDOW or key.startswith(_OF_OTHERS) or value in ("", None, False, []):
            continue
        if name in _ZERO_IS_OFF and _number(value) == 0.0:
            continue
        values.setdefault(name, value)
    _epochs(data, values)
    _warm_up(data, values)
    _text_encoder(data, values)
    _network(data, values)
    if str(data.get("noise_offset_type", "Original")).lower() == "original":
        for key in ("multires_noise_iterations", "multires_noise_discount"):
            values.pop(key, None)
    else:
        values.pop("noise_offset", None)
        values.pop("adaptive_noise_scale", None)
    for key in ("noise_offset_type", "sdxl", "lr_warmup", "epoch", "v2"):
        values.pop(key, None)
    if isinstance(attention := values.pop("xformers", None), str) and attention != "none":
        values[attention] = True
    for key in ("network_args", "optimizer_args", "lr_scheduler_args"):
        if isinstance(values.get(key), str):
            values[key] = values[key].split()
    return values


def _epochs(data: Mapping[str, Any], values: dict[str, Any]) -> None:
    # the window counts steps from its epochs unless a number of steps is given
    if "max_train_steps" not in values and "max_train_epochs" not in values and data.get("epoch"):
        values["max_train_epochs"] = data["epoch"]


def _warm_up(data: Mapping[str, Any], values: dict[str, Any]) -> None:
    # `lr_warmup` is a percentage; sd-scripts reads a number below 1 as a share
    percent = _number(data.get("lr_warmup"))
    if not values.get("lr_warmup_steps") and percent:
        values["lr_warmup_steps"] = percent / 100.0


def _text_encoder(data: Mapping[str, Any], values: dict[str, Any]) -> None:
    """A rate of 0 for one part means that only the other is trained."""
    unet, text = _number(data.get("unet_lr")), _number(data.get("text_encoder_lr"))
    if "text_encoder_lr" in data and text == 0.0 and unet:
        values["network_train_unet_only"] = True
    if "unet_lr" in data and unet == 0.0 and text:
        values["network_train_text_encoder_only"] = True


def _network(data: Mapping[str, Any], values: dict[str, Any]) -> None:
    kind = str(values.pop("lora_type", "Standard"))
    module = "networks.lora" if kind == "Standard" or kind.startswith("Kohya LoCon") else "lycoris.kohya"
    values["network_module"] = {"Kohya DyLoRA": "networks.dylora"}.get(kind, module)
    extra = [f"algo={kind.removeprefix('LyCORIS/').lower()}"] if module == "lycoris.kohya" else []
    convolutions = kind.startswith("Kohya") or module == "lycoris.kohya"
    for key in ("conv_dim", "conv_alpha"):
        value = values.pop(key, None)
        if value is not None and convolutions:
            extra.append(f"{key}={value}")
    for key in ("block_dims", "block_alphas", "down_lr_weight", "mid_lr_weight", "up_lr_weight",
                "rank_dropout", "module_dropout", "loraplus_lr_ratio"):  # fmt: skip
        value = values.pop(key, None)
        if value not in (None, "", 0, 0.0):
            extra.append(f"{key}={value}")
    if values.pop("dora_wd", False):
        extra.append("dora_wd=True")
    if extra:
        values["network_args"] = extra


def _number(value: object) -> float | None:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
