"""Option by option from sd-scripts to our keys; where kohya's default is another than ours, it is written."""

from __future__ import annotations

import math
from typing import Any

from talent_factory.core.errors import ConfigError
from talent_factory.training.kohya.sheet import Sheet, as_number, whole
from talent_factory.training.kohya.tables import NETWORK_DIFFERS

_CURVES = {
    "cosine": "cosine", "linear": "linear", "constant": "constant", "constant_with_warmup": "constant",
}  # fmt: skip
_NEAREST_CURVE = {"cosine_with_restarts": "cosine", "polynomial": "linear", "cosine_with_min_lr": "cosine"}
_OPTIMIZERS = {
    "adamw": "adamw", "adamw8bit": "adamw8bit", "prodigy": "prodigy",
    "adamwschedulefree": "adamw-schedulefree", "adamw_schedulefree": "adamw-schedulefree",
    "schedulefree.adamwschedulefree": "adamw-schedulefree", "prodigyopt.prodigy": "prodigy",
}  # fmt: skip
# Below this a rate is one that another optimizer was meant to have.
_LEAST_FACTOR = 0.01
_LIKE_ADAM8 = ("pagedadamw8bit",)
_OWN_RATE = ("dadapt", "adafactor", "prodigyplus")
_LOSSES = {"l2": "l2", "huber": "huber", "smooth_l1": "smooth-l1", "smooth-l1": "smooth-l1"}


def base(sheet: Sheet) -> None:
    """The model that is trained for."""
    path = sheet.take("pretrained_model_name_or_path")
    if sheet.flag("v2"):
        raise ConfigError(
            "the training is for Stable Diffusion 2, which is not among the families here",
            remedy="import a training of SD 1.5 or SDXL",
        )
    if path:
        sheet.put("base_model", str(path), source="pretrained_model_name_or_path", raw=path)
        if str(path).lower().endswith((".ckpt", ".pt", ".bin")):
            sheet.say(
                "differs",
                "pretrained_model_name_or_path",
                path,
                "pickle files may hold code and are refused: convert it to .safetensors",
            )
    if sheet.flag("v_parameterization"):
        sheet.say("needless", "v_parameterization", True, "the base itself says how it predicts")


def size(sheet: Sheet, *, default: int) -> None:
    """Resolution and buckets."""
    raw = sheet.take("resolution")
    sides = _sides(raw) or (default, default)
    side = max(64, round(math.sqrt(sides[0] * sides[1]) / 8) * 8)
    buckets = sheet.flag("enable_bucket")
    if raw is None:
        sheet.quietly("resolution", side)
        sheet.say("missing", "resolution", None, f"not set: resolution: {side}, the base's own")
    elif sides[0] == sides[1] == side:
        sheet.put("resolution", side, source="resolution", raw=raw)
    else:
        sheet.quietly("resolution", side)
        sheet.say(
            "differs",
            "resolution",
            raw,
            f"one side, a multiple of 8: resolution: {side}, of about "
            "the same area" + ("" if buckets else "; with mode: bucket shapes are kept"),
        )
    if buckets:
        sheet.put("mode", "bucket", source="enable_bucket", raw=True)
    else:
        sheet.quietly("mode", "crop")


def network(sheet: Sheet) -> None:
    """Rank, alpha and what is adapted; sd-scripts' alpha is 1 and its rank 4 unless told."""
    module = str(sheet.take("network_module", "networks.lora"))
    arguments = dict(word.partition("=")[::2] for word in sheet.words("network_args"))
    rank, alpha = sheet.number("network_dim"), sheet.number("network_alpha")
    sheet.put(
        "lora_rank",
        int(rank or 4),
        source="network_dim",
        raw=rank,
        text="" if rank else "sd-scripts' default",
    )
    sheet.put(
        "lora_alpha",
        whole(1.0 if alpha is None else alpha),
        source="network_alpha",
        raw=alpha,
        text="" if alpha is not None else "sd-scripts' default, not the rank",
    )
    algorithm = str(arguments.pop("algo", "lora")).lower()
    if module not in ("networks.lora", "lycoris.kohya") or algorithm not in ("lora", "locon"):
        sheet.say("differs", "network_module", f"{module} {algorithm}", "becomes a plain LoRA")
    convolved = arguments.pop("conv_dim", None)
    if convolved and convolved != "0":
        sheet.put("targets", "transformer+conv", source="network_args conv_dim", raw=convolved)
        sheet.quietly("network.conv_rank", int(_amount("conv_dim", convolved)))
        sheet.quietly("network.conv_alpha", _amount("conv_alpha", arguments.pop("conv_alpha", "") or "1"))
    else:
        arguments.pop("conv_alpha", None)
        sheet.quietly("targets", "transformer")
    ratio = arguments.pop("loraplus_lr_ratio", None)
    if ratio:
        sheet.put(
            "optimizer.lora_plus",
            _amount("loraplus_lr_ratio", ratio),
            source="network_args loraplus_lr_ratio",
            raw=ratio,
        )
    if str(arguments.pop("dora_wd", "")).lower() in ("true", "1"):
        sheet.put("network.dora", True, source="network_args dora_wd", raw=True)
    for key, value in arguments.items():
        known = NETWORK_DIFFERS.get(key)
        sheet.say("differs" if known else "unknown", f"network_args {key}", value, known or "not obeyed")


def rates(sheet: Sheet) -> None:
    """Learning rates of both parts; without its own, the text encoder has that of all."""
    common, unet = sheet.number("learning_rate"), sheet.number("unet_lr")
    texts = _numbers(sheet, "text_encoder_lr", "text_encoder_lr1", "text_encoder_lr2")
    # sd-scripts' own default rate is one for whole models
    rate = unet if unet is not None else common if common is not None else 2e-6
    source = "unet_lr" if unet is not None else "learning_rate"
    sheet.put(
        "learning_rate",
        rate,
        source=source,
        raw=unet if unet is not None else common,
        text="" if common or unet else "sd-scripts' default",
    )
    unet_only = sheet.flag("network_train_unet_only")
    if sheet.flag("network_train_text_encoder_only"):
        sheet.say("differs", "network_train_text_encoder_only", True, "the UNet is trained too")
        unet_only = False
    train = not unet_only and not (texts and texts[0] == 0.0)
    sheet.quietly("train_text_encoder", train)
    if unet_only:
        sheet.say("mapped", "network_train_unet_only", True, "train_text_encoder: false")
    if not train:
        return
    text_rate = texts[0] if texts else (common if common is not None else rate)
    sheet.put(
        "text_encoder_lr",
        text_rate,
        source="text_encoder_lr",
        raw=texts or None,
        text="" if texts else "as sd-scripts: that of all",
    )
    if len(set(texts)) > 1:
        sheet.say("differs", "text_encoder_lr2", texts[1], f"both text encoders have one rate: {texts[0]:g}")


def curve(sheet: Sheet, *, steps: int) -> None:
    """The course of the learning rate over `steps`."""
    name = str(sheet.take("lr_scheduler", "constant")).lower()
    known = _CURVES.get(name)
    chosen = known or _NEAREST_CURVE.get(name, "constant")
    sheet.put("scheduler", chosen, source="lr_scheduler", raw=name)
    if known is None:
        sheet.say("differs", "lr_scheduler", name, f"not known here; the nearest is {chosen}")
    warm = sheet.number("lr_warmup_steps") or 0.0
    if warm:
        count = round(warm * steps) if warm < 1 else round(warm)
        if name == "constant":
            sheet.say(
                "differs",
                "lr_warmup_steps",
                whole(warm),
                "sd-scripts' constant never warms up; here the rate does",
            )
        sheet.put("warmup_steps", count, source="lr_warmup_steps", raw=whole(warm))


def optimizer(sheet: Sheet) -> None:
    """The optimizer and its arguments; torch's defaults are written, as ours are others."""
    told = str(sheet.take("optimizer_type", "") or "")
    eight = sheet.flag("use_8bit_adam")
    name = (told or ("AdamW8bit" if eight else "AdamW")).lower()
    ours = _OPTIMIZERS.get(name) or ("adamw8bit" if name in _LIKE_ADAM8 else "adamw")
    sheet.put("optimizer.name", ours, source="optimizer_type", raw=told or name)
    if name in _LIKE_ADAM8:
        sheet.say("differs", "optimizer_type", told, "its state stays on the device, not in paged memory")
    elif name not in _OPTIMIZERS:
        hint = (
            "; it finds its own rate, so choose another learning_rate" if name.startswith(_OWN_RATE) else ""
        )
        sheet.say("differs", "optimizer_type", told, f"not known here: adamw is used{hint}")
    arguments = dict(word.partition("=")[::2] for word in sheet.words("optimizer_args"))
    decay = arguments.pop("weight_decay", None)
    betas = [part for part in arguments.pop("betas", "").strip("()[] ").split(",") if part.strip()]
    epsilon = arguments.pop("eps", None)
    sheet.quietly(
        "optimizer.weight_decay",
        _amount("weight_decay", decay) if decay else 0.0 if ours == "prodigy" else 0.01,
    )
    sheet.quietly("optimizer.beta1", _amount("betas", betas[0]) if betas else 0.9)
    sheet.quietly("optimizer.beta2", _amount("betas", betas[1]) if len(betas) > 1 else 0.999)
    if epsilon:
        sheet.quietly("optimizer.epsilon", _amount("eps", epsilon))
    for key, value in (("weight_decay", decay), ("betas", ",".join(betas)), ("eps", epsilon)):
        if value:
            sheet.say("mapped", f"optimizer_args {key}", value, "optimizer")
    for key, value in arguments.items():
        sheet.say("differs", f"optimizer_args {key}", value, "the optimizer's own default is used")
    clip = sheet.number("max_grad_norm")
    if clip == 0.0:
        sheet.put(
            "max_grad_norm", 1000000.0, source="max_grad_norm", raw=0, text="so high that it never acts"
        )
    elif clip is not None:
        sheet.put("max_grad_norm", whole(clip), source="max_grad_norm", raw=whole(clip))


def one_rate(sheet: Sheet) -> None:
    """Prodigy finds the rate itself, one for all layers; the file's rates are factors of it, near 1."""
    if sheet.config["optimizer"]["name"] != "prodigy":
        return
    told = float(sheet.config["learning_rate"])
    if told < _LEAST_FACTOR:
        sheet.quietly("learning_rate", 1.0)
        sheet.say("differs", "learning_rate", told, "prodigy finds the rate itself: learning_rate: 1")
    text_rate = sheet.config.pop("text_encoder_lr", None)
    if text_rate is not None and text_rate != told:
        sheet.say("differs", "text_encoder_lr", text_rate, "prodigy finds one rate for all layers")
    ratio = sheet.config["optimizer"].pop("lora_plus", None)
    if ratio is not None:
        sheet.say("differs", "network_args loraplus_lr_ratio", ratio, "prodigy finds one rate for all layers")


def loss(sheet: Sheet) -> None:
    """What a step makes small; kohya weighs all timesteps alike unless told."""
    gamma = sheet.number("min_snr_gamma")
    if gamma:
        sheet.put("loss.weighting", "min-snr", source="min_snr_gamma", raw=whole(gamma))
        sheet.quietly("loss.min_snr_gamma", whole(gamma))
    elif sheet.flag("debiased_estimation_loss"):
        sheet.put("loss.weighting", "debiased", source="debiased_estimation_loss", raw=True)
    else:
        sheet.quietly("loss.weighting", "none")
    told = sheet.take("loss_type")
    if told is not None:
        kind = _LOSSES.get(str(told).lower())
        sheet.put("loss.kind", kind or "l2", source="loss_type", raw=told)
        if kind is None:
            sheet.say("differs", "loss_type", told, "not known here: l2 is used")
        elif kind != "l2":
            sheet.quietly("loss.huber_c", sheet.number("huber_c") or 0.1)
            sheet.quietly("loss.huber_schedule", str(sheet.take("huber_schedule", "snr")))
    masked = sheet.flag("masked_loss")
    if sheet.flag("alpha_mask") or masked:
        sheet.put(
            "loss.mask",
            "file",
            source="masked_loss" if masked else "alpha_mask",
            raw=True,
            text="NAME.mask.png beside each image",
        )
        sheet.quietly("loss.outside", 0.0)


def noise(sheet: Sheet) -> None:
    """How noise is drawn."""
    offset = sheet.number("noise_offset")
    if offset:
        sheet.put("noise.offset", offset, source="noise_offset", raw=offset)
    if sheet.flag("zero_terminal_snr"):
        sheet.put("noise.zero_terminal_snr", True, source="zero_terminal_snr", raw=True)


def _amount(name: str, text: str) -> int | float:
    return whole(as_number(name, text))


def _numbers(sheet: Sheet, *names: str) -> list[float]:
    return [as_number(name, word) for name in names for word in sheet.words(name)]


def _sides(raw: Any) -> tuple[int, int] | None:
    """Width and height from `512`, `"512"`, `"512,640"` or a list."""
    if raw is None or raw is True:
        return None
    parts = raw if isinstance(raw, list | tuple) else str(raw).strip("[]() ").split(",")
    sides = [int(as_number("resolution", part)) for part in parts if str(part).strip()]
    if not sides or min(sides) < 1:
        raise ConfigError(f"resolution is {str(raw)[:60]!r}, no size", remedy="write 512, or 512,640")
    return sides[0], sides[-1]
