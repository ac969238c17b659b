"""Say which programs read a LoRA file, by the key rules of each, one small file a program.

No program is imported: each file states how that program turns the names of tensors into modules of its own
model, what it takes the file for, and when it refuses. diffusers, which can be installed, really loads the
file instead: `talent_factory.foundry.conform`.
"""

from __future__ import annotations

from talent_factory.kits.conform.judge import RULE_TOOLS, TOOLS, conform_by_rules
from talent_factory.kits.conform.lora import LoraFile, open_lora
from talent_factory.kits.conform.report import ConformReport, ToolReport

__all__ = ["RULE_TOOLS", "TOOLS", "ConformReport", "LoraFile", "ToolReport", "conform_by_rules", "open_lora"]
