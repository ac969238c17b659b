"""Really load a LoRA file with diffusers, and compare what it computes then with what we compute."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from talent_factory.core.errors import KitError
from talent_factory.core.unet_names import stability_names
from talent_factory.kits.conform import ConformReport, LoraFile, ToolReport, conform_by_rules
from talent_factory.kits.conform.family import FamilyName
from talent_factory.kits.conform.lora import first_names
from talent_factory.training.lora import UNET_PREFIX, Namer, kohya_name, merge_into

if TYPE_CHECKING:
    from talent_factory.training.families.port import Base

# Largest difference, relative to what the LoRA changes, that different orders of float32 sums explain.
TOLERANCE = 1e-3
_PROMPT = "portrait of a person, white background"


@dataclass(frozen=True, eq=False)
class Parts:
    """The modules that a LoRA may adapt, as a pipeline of diffusers holds them."""

    unet: nn.Module
    texts: tuple[tuple[str, nn.Module], ...]
    name: Namer


def conform(
    file: LoraFile, *, family: FamilyName | None, base: Base | None, tools: Sequence[str]
) -> ConformReport:
    """Ask every tool of `tools` about `file`.

    `family` None stands for a base that only diffusers can hold, which then must be given as `base`. With a
    `base` diffusers' outputs are compared too; it comes back as it was. Raises UsageError for unknown tools.
    """
    reports = []
    for tool in tools:
        if tool != "diffusers":
            reports += conform_by_rules(file, family, [tool])
            continue
        with _quiet():
            parts = parts_of(base) if base is not None else hollow_parts(family) if family else None
            known = ToolReport(tool=tool, verdict="foreign")
            reports.append(load_in_diffusers(file, parts, base=base) if parts else known)
    return ConformReport(
        file=file.path.name,
        base=base.name if base is not None else family or "unknown",
        modules=len({name.partition(".lora_")[0] for name in file.shapes if ".lora_" in name}),
        tensors=len(file.shapes),
        tools=tuple(reports),
    )


def family_of(base: Base) -> FamilyName | None:
    """The family whose very shape `base` has; None for the embedded base and other small ones."""
    from talent_factory.training.families.shapes import PARTS

    if base.family == "mini":
        return None
    config: Any = base.unet.config
    wanted = PARTS[base.family]["unet"]
    same = all(list(config[key]) == list(wanted[key]) for key in ("block_out_channels", "down_block_types"))
    return base.family if same else None


def parts_of(base: Base) -> Parts:
    """The parts of a loaded base."""
    return Parts(base.unet, base.text_encoders, base.lora_name)


def hollow_parts(family: FamilyName) -> Parts:
    """SD 1.5 or SDXL in full size with all weights zero, in a few megabytes: one number fills a tensor.

    That is enough to see which modules take their weights from a file.
    """
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    from talent_factory.training.families.shapes import PARTS

    shapes: Mapping[str, Mapping[str, Any]] = PARTS[family]
    with torch.device("meta"):
        unet = UNet2DConditionModel(**shapes["unet"])
        first = CLIPTextModel(CLIPTextConfig(**shapes["text_encoder"]))
        texts: list[tuple[str, nn.Module]] = [("lora_te" if family == "sd15" else "lora_te1", first)]
        if family == "sdxl":
            second = CLIPTextModelWithProjection(CLIPTextConfig(**shapes["text_encoder_2"]))
            texts.append(("lora_te2", second))
    for module in (unet, *(text for _, text in texts)):
        _hollow(module)
    rename = stability_names(shapes["unet"]) if family == "sdxl" else str

    def name(path: str, prefix: str) -> str:
        return kohya_name(rename(path) if prefix == UNET_PREFIX else path, prefix)

    return Parts(unet, tuple(texts), name)


def _hollow(module: nn.Module) -> None:
    for part in module.modules():
        for key, parameter in part._parameters.items():
            if parameter is not None:
                zero = torch.zeros(1, dtype=parameter.dtype).expand(parameter.shape)
                part._parameters[key] = nn.Parameter(zero, requires_grad=False)
        for key, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[key] = torch.zeros(1, dtype=buffer.dtype).expand(buffer.shape)


def load_in_diffusers(file: LoraFile, parts: Parts, *, base: Base | None = None) -> ToolReport:
    """Load `file` with diffusers into `parts`, compare, and unload.

    The factors and the scale of each module are compared with the file's; with `base`, whose parts they are,
    also the outputs with those of our own merge. Raises KitError when the file cannot be read.
    """
    import diffusers

    method = f"loaded by diffusers {diffusers.__version__}"
    called = file.path.name
    try:
        tensors = load_file(file.path)
    except (OSError, SafetensorError) as error:
        raise KitError(f"{file.path} cannot be read: {error}", remedy="talent kit validate") from error
    ours = _our_outputs(base, tensors) if base is not None else None
    try:
        with _loaded(file.path, parts):
            matched, difference = _compare_factors(tensors, parts, file.words)
            theirs = _outputs(base) if base is not None and ours is not None else None
    except (ValueError, RuntimeError, KeyError, TypeError, AttributeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        return ToolReport(
            tool="diffusers", verdict="refused", called=called, method=method, remarks=(reason,)
        )
    forward = None if ours is None or theirs is None else _distance(theirs, *ours)
    lost = [name for name in file.shapes if _module_of(name, parts) not in matched]
    wrong = difference > TOLERANCE or (forward is not None and not forward <= TOLERANCE)
    remarks = []
    if file.dora == "input":
        wrong = True
        remarks.append("DoRA lengths belong to rows there, these belong to columns")
    return ToolReport(
        tool="diffusers",
        verdict="refused" if not matched else "wrong" if wrong else "partial" if lost else "full",
        matched=len(matched),
        unmatched=len(lost),
        unmatched_names=first_names(lost),
        taken_for="whatever base is loaded",
        called=called,
        remarks=tuple(remarks),
        method=method,
        difference=difference,
        forward_difference=forward,
    )


@contextmanager
def _loaded(path: Path, parts: Parts) -> Iterator[None]:
    """Within this context the parts compute with the LoRA, as a user of diffusers would have loaded it."""
    pipeline = _pipeline(parts)
    try:
        pipeline.load_lora_weights(
            str(path.parent), weight_name=path.name, use_safetensors=True, local_files_only=True
        )
        yield
    finally:
        pipeline.unload_lora_weights()
        for module in (parts.unet, *(text for _, text in parts.texts)):
            module.requires_grad_(False).eval()


@contextmanager
def _quiet() -> Iterator[None]:
    """What the libraries have to say about a file becomes our report."""
    from transformers.utils import logging as of_transformers

    from talent_factory.training.families.parts import quiet_transformers

    verbosity = of_transformers.get_verbosity()
    of_transformers.set_verbosity_error()
    names = ("diffusers", "bitsandbytes")
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        with quiet_transformers():
            yield
    finally:
        of_transformers.set_verbosity(verbosity)
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


def _pipeline(parts: Parts) -> Any:
    from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

    texts = [text for _, text in parts.texts]
    common: dict[str, Any] = dict.fromkeys(("vae", "tokenizer", "scheduler"))
    common.update(unet=parts.unet, text_encoder=texts[0])
    if len(texts) == 1:
        checks = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
        return StableDiffusionPipeline(**common, **checks)
    return StableDiffusionXLPipeline(
        **common, text_encoder_2=texts[1], tokenizer_2=None, add_watermarker=False
    )


def _compare_factors(
    tensors: Mapping[str, Tensor], parts: Parts, words: Mapping[str, str]
) -> tuple[set[str], float]:
    """The kohya names of the modules that carry the LoRA now, and the largest difference from the file."""
    wanted = _file_factors(tensors, parts)
    found, worst = set(), 0.0
    for prefix, module in ((UNET_PREFIX, parts.unet), *parts.texts):
        for path, layer in module.named_modules():
            downs = getattr(layer, "lora_A", None)
            if not isinstance(downs, nn.ModuleDict) or not len(downs):
                continue
            adapter = next(iter(downs))
            name = parts.name(path, prefix)
            if name not in wanted:
                continue
            found.add(name)
            down, up, scale = wanted[name]
            own: Any = layer
            pairs = ((own.lora_A[adapter].weight, down), (own.lora_B[adapter].weight, up))
            worst = max(worst, *(_relative(theirs, ours) for theirs, ours in pairs))
            worst = max(worst, abs(float(own.scaling[adapter]) - scale) / scale)
    return found, worst


def _file_factors(tensors: Mapping[str, Tensor], parts: Parts) -> dict[str, tuple[Tensor, Tensor, float]]:
    """Down, up and scale of each module under its kohya name, whether the file has that form or PEFT's."""
    found = {}
    for key, down in tensors.items():
        if key.endswith((".lora_down.weight", ".lora_A.weight")):
            kohya = key.endswith(".lora_down.weight")
            stem = key.removesuffix(".lora_down.weight" if kohya else ".lora_A.weight")
            up = tensors.get(f"{stem}.lora_up.weight" if kohya else f"{stem}.lora_B.weight")
            rank = down.shape[0]
            alpha = float(tensors[f"{stem}.alpha"]) if f"{stem}.alpha" in tensors else float(rank)
            if up is not None:
                found[_module_of(key, parts)] = (down, up, alpha / rank)
    return found


def _module_of(key: str, parts: Parts) -> str:
    """The kohya name of the module that a tensor of either form belongs to."""
    for ending in (".lora_A.weight", ".lora_B.weight"):
        if key.endswith(ending):
            part, _, path = key.removesuffix(ending).partition(".")
            numbers = {"text_encoder": 0, "text_encoder_2": 1}
            if part == "unet":
                return parts.name(path, UNET_PREFIX)
            if part in numbers and numbers[part] < len(parts.texts):
                return parts.name(path, parts.texts[numbers[part]][0])
    return key.partition(".")[0]


def _relative(theirs: Tensor, ours: Tensor) -> float:
    if theirs.numel() != ours.numel():
        return float("inf")
    ours = ours.float().flatten()
    largest = float(ours.abs().max())
    difference = float((theirs.detach().float().cpu().flatten() - ours).abs().max())
    return difference / largest if largest else difference


@torch.no_grad()
def _our_outputs(base: Base, tensors: Mapping[str, Tensor]) -> tuple[Tensor, Tensor] | None:
    """The outputs with our own merge and those of the bare base; None when the file does not fit it."""
    bare = _outputs(base)
    try:
        with ExitStack() as merges:
            for prefix, module in base.modules():
                merges.enter_context(merge_into(module, tensors, prefix=prefix, name=base.lora_name))
            return _outputs(base), bare
    except KitError:
        return None


@torch.no_grad()
def _outputs(base: Base) -> Tensor:
    """One prediction of the UNet from text that the base read itself, on noise that is always the same."""
    side = base.latent_side(min(base.resolution, 256))
    noise = torch.randn((1, base.latent_channels, side, side), generator=torch.Generator().manual_seed(0))
    text = base.encode_prompts([_PROMPT])
    at = torch.tensor([500], device=base.device)
    return base.predict(noise.to(base.device), at, text).cpu()


def _distance(theirs: Tensor, ours: Tensor, bare: Tensor) -> float:
    """How far apart they are, measured by how far the LoRA moves the base."""
    moved = float((ours - bare).abs().max())
    apart = float((theirs - ours).abs().max())
    return apart / moved if moved else apart
