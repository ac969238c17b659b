"""Ask the rules of each program about one file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from talent_factory.core.errors import UsageError
from talent_factory.kits.conform import a1111, comfyui, forge, invokeai
from talent_factory.kits.conform.family import Family, FamilyName, family
from talent_factory.kits.conform.lora import LoraFile
from talent_factory.kits.conform.report import ToolReport

_RULES: Mapping[str, Callable[[LoraFile, Family], ToolReport]] = {
    "a1111": a1111.judge,
    "forge": forge.judge,
    "comfyui": comfyui.judge,
    "invokeai": invokeai.judge,
}
RULE_TOOLS = tuple(_RULES)
TOOLS = ("diffusers", *RULE_TOOLS)


def conform_by_rules(
    file: LoraFile, base: FamilyName | None, tools: Sequence[str] = RULE_TOOLS
) -> list[ToolReport]:
    """Return the verdict of each of `tools` on `file` beside a base of the family `base`.

    `base` None stands for a base that these programs do not have, such as the embedded one. Raises UsageError
    for a tool without rules here.
    """
    unknown = [tool for tool in tools if tool not in _RULES]
    if unknown:
        raise UsageError(f"no rules for {unknown[0][:60]!r}", remedy=f"choose from {', '.join(TOOLS)}")
    if base is None:
        return [ToolReport(tool=tool, verdict="foreign") for tool in tools]
    return [_RULES[tool](file, family(base)) for tool in tools]
