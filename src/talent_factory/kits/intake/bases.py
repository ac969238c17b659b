"""Decide from its tensors which base a LoRA was trained for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from talent_factory.kits.intake.forms import BASES, BaseName, Named, kohya_name
from talent_factory.kits.intake.refusal import IntakeRefused
from talent_factory.kits.intake.reshape import fits
from talent_factory.kits.keys import expected_modules

MODELS: Mapping[BaseName, str] = {
    "mini": "mini",
    "sd15": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "sdxl": "stabilityai/stable-diffusion-xl-base-1.0",
}
_WIDTHS: Mapping[int, str] = {
    768: "Stable Diffusion 1",
    1024: "Stable Diffusion 2",
    2048: "SDXL",
    4096: "a model with a T5 text encoder",
}


class Choice(NamedTuple):
    """The base, and why it is this one."""

    base: BaseName
    why: str


def choose_base(named: Sequence[Named], words: Mapping[str, str], *, wished: str | None = None) -> Choice:
    """Return the base whose layers all pairs fit.

    `wished` ("mini", "sd15", "sdxl") must fit, too, when it is one of these; any other text is the name of a
    model. Raises IntakeRefused (base-mismatch, or key-unknown naming the first odd module) when none fits.
    """
    candidates = tuple(base for base in BASES if base == wished) or BASES
    hits = {base: _hits(named, base) for base in candidates}
    whole = [base for base in candidates if hits[base][0] == len(named)]
    if len(whole) == 1:
        return Choice(whole[0], f"all {len(named)} modules fit {whole[0]} in name and shape")
    if whole:
        return _told_apart(whole, named, words)
    best = max(candidates, key=lambda base: hits[base][0])
    _refuse(named, candidates, best, *hits[best])
    raise AssertionError


def _hits(named: Sequence[Named], base: BaseName) -> tuple[int, str]:
    """How many modules fit, and the name of the first that does not."""
    modules = expected_modules(base)
    count, odd = 0, ""
    for item in named:
        shape = modules.get(kohya_name(item.raw, base) or "")
        if shape is not None and fits(item, shape):
            count += 1
        else:
            odd = odd or item.raw
    return count, odd


def _told_apart(whole: Sequence[BaseName], named: Sequence[Named], words: Mapping[str, str]) -> Choice:
    """Text encoders alone fit SD 1.5 and SDXL: the header's words decide, else how the names count them."""
    said = " ".join((words.get("ss_base_model_version", ""), words.get("modelspec.architecture", ""))).lower()
    if "sdxl" in whole and ("sdxl" in said or "xl-v1" in said or "diffusion-xl" in said):
        return Choice("sdxl", "its header says so, and all modules fit")
    if "sdxl" in whole and any(item.raw.startswith("lora_te1_") for item in named):
        return Choice("sdxl", "its text encoders are numbered, and all modules fit")
    return Choice(whole[0], f"all {len(named)} modules fit {whole[0]}, and nothing speaks of another base")


def _refuse(
    named: Sequence[Named], candidates: Sequence[BaseName], best: BaseName, count: int, odd: str
) -> None:
    for item in named:
        down = item.parts.get("down")
        crossed = item.raw.replace(".", "_").endswith(("attn2_to_k", "attn2_processor_to_k"))
        if crossed and down is not None and len(down.shape) == 2:
            width = down.shape[1]
            right = {expected_width(base) for base in candidates}
            if width not in right:
                model = _WIDTHS.get(width, "no base that is known here")
                wanted = " or ".join(candidates)
                raise IntakeRefused(
                    f"its cross-attention reads {width} numbers a token: {model}, not {wanted}",
                    code="base-mismatch",
                    remedy="kits are for Stable Diffusion 1.5, SDXL and mini",
                )
            break
    raise IntakeRefused(
        f"{count} of {len(named)} modules fit {best}; {odd[:120]!r} does not",
        code="key-unknown" if count or not named else "base-mismatch",
        remedy="kits hold attention, feed-forward and residual layers of SD 1.5, SDXL or mini",
    )


def expected_width(base: BaseName) -> int:
    """The width of the text states that the base's cross-attention reads."""
    from talent_factory.kits.keys import cross_attention_width

    return cross_attention_width(expected_modules(base))
