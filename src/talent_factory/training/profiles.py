"""What suits the device at hand, for every key that the user left open, each with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from talent_factory.core.config import parse
from talent_factory.training.devices import QUIET_THREADS, DeviceFacts
from talent_factory.training.fit import Job, Memory, bar_of, predict_memory, size
from talent_factory.training.presets import Chosen
from talent_factory.training.shapes import BaseShape

_GB = 1 << 30
# Cards up to here count as small: batch 1 and eight-bit moments.
_SMALL_CARD = 16 * _GB
_APPLE_ACCUMULATION = 8
# What a prediction needs and a preset or dial may not have said yet.
_STANDING_IN = {"batch_size": 1, "lora_rank": 16, "max_train_steps": 1, "learning_rate": 1e-4}


def derive_profile(
    given: Mapping[str, Any],
    *,
    suggested: Mapping[str, Any],
    shape: BaseShape,
    facts: DeviceFacts,
    source: str,
) -> Chosen:
    """Batch, accumulation, precision, checkpointing and optimiser for `facts`.

    `given` is what the user wrote and is never changed; `suggested` is what a preset says and gives way where
    the device cannot follow. Only the device's total memory counts, so the same machine always gets the same
    answer. Raises ConfigError for keys that are wrong, UsageError for a precision that cannot work here.
    """
    picker = _Picker(given, suggested, shape, facts, source)
    picker.precision()
    picker.batch()
    picker.optimizer()
    picker.fit()
    picker.quiet()
    return Chosen(values=picker.values, reasons=tuple(picker.reasons))


class _Picker:
    """The choices so far; each method makes one kind of them."""

    def __init__(
        self,
        given: Mapping[str, Any],
        suggested: Mapping[str, Any],
        shape: BaseShape,
        facts: DeviceFacts,
        source: str,
    ) -> None:
        self.given = given
        self.suggested = suggested
        self.shape = shape
        self.facts = facts
        self.source = source
        self.values: dict[str, Any] = {}
        self.reasons: list[str] = []

    def precision(self) -> None:
        """fp16 only where it is safe, bf16 where it is native, else fp32."""
        facts, wanted = self.facts, self.suggested.get("precision")
        if "precision" in self.given:
            return
        if facts.kind == "mps":
            fits = self._fits({"precision": "fp32", "gradient_checkpointing": True}, share=0.5)
            better = "fp32" if fits else "bf16"
            why = "fp16 turns to NaN on Apple's GPU" if wanted == "fp16" else "never fp16 on Apple's GPU"
            note = "fp32 takes less than half of the memory" if fits else "fp32 would take over half of it"
            self._choose("precision", better, f"{why}, and {note}")
        elif self.shape.family == "mini" and facts.kind == "cpu":
            self._choose("precision", "fp32", "the embedded base is too small to gain from bf16 on a CPU")
        elif facts.kind == "cpu" and wanted in (None, "fp16"):
            native = "bf16" if facts.bf16 else "fp32"
            note = "has native bf16 products" if facts.bf16 else "has no native bf16 products"
            self._choose("precision", native, f"this CPU {note}, and fp16 is slow on any")
        elif wanted is None:
            half = "bf16" if facts.bf16 else "fp16"
            note = "computes bf16" if facts.bf16 else "has no bf16; the loss is scaled"
            self._choose("precision", half, f"{facts.name} {note}")

    def batch(self) -> None:
        """One image at a time where memory is small, and what follows for accumulation."""
        facts = self.facts
        if facts.kind == "mps":
            self._choose("batch_size", 1, "one image at a time leaves memory to the other programs")
            note = f"{_APPLE_ACCUMULATION} images make a step, as steadily as a batch of that size"
            self._choose("accumulation", _APPLE_ACCUMULATION, note)
        elif self.shape.family == "mini":
            self._choose("batch_size", 4, "the embedded base is small: four images fill the processor")
        elif facts.kind == "cpu":
            self._choose("batch_size", 1, "a processor is busy with one image")
        elif facts.memory <= _SMALL_CARD:
            self._choose("batch_size", 1, f"a card of {size(facts.memory)}")
        else:
            batch = next((n for n in (4, 2) if self._fits({"batch_size": n})), 1)
            self._choose("batch_size", batch, f"{size(facts.memory)} hold {batch} images at once")

    def optimizer(self) -> None:
        """Eight-bit moments on a small card, when their library is there."""
        named = self.given.get("optimizer")
        if self.facts.kind != "cuda" or (isinstance(named, Mapping) and "name" in named):
            return
        if self.facts.memory > _SMALL_CARD:
            self.reasons.append("optimizer adamw, fused: memory is no concern")
        elif find_spec("bitsandbytes") is None:
            self.reasons.append(
                "optimizer adamw: eight-bit moments would need pip install 'talent-factory[optimizers]'"
            )
        else:
            keys = dict(named) if isinstance(named, Mapping) else {}
            self.values["optimizer"] = {**keys, "name": "adamw8bit"}
            self.reasons.append("optimizer adamw8bit: a quarter of the memory for the moments")

    def fit(self) -> None:
        """Checkpointing only when needed, then less precision; say so when nothing helps."""
        if "gradient_checkpointing" not in {**self.suggested, **self.given}:
            need = not self._fits({"gradient_checkpointing": False})
            note = (
                "kept activations would not fit" if need else "all activations fit, so none is computed twice"
            )
            self._choose("gradient_checkpointing", need, note)
        if self._fits({}):
            return
        half = "bf16" if self.facts.bf16 else "fp16"
        precision = self._all({})["precision"]
        can_halve = "precision" not in self.given and precision == "fp32" and self.facts.kind != "cpu"
        if can_halve and self._fits({"precision": half}):
            self._choose("precision", half, f"fp32 would need {size(self._memory({}).total)}")
            return
        if "gradient_checkpointing" not in self.given and self._fits({"gradient_checkpointing": True}):
            self._choose("gradient_checkpointing", True, "kept activations would not fit")
            return
        self.reasons.append(
            f"it may not fit: about {size(self._memory({}).total)} of {size(self.facts.memory)}; "
            "a smaller resolution or lora_rank helps"
        )

    def quiet(self) -> None:
        """Leave a laptop usable."""
        if self.facts.kind == "mps" and self.given.get("quiet", True):
            self.reasons.append(f"quiet on: {quiet_reason()}")

    def _choose(self, key: str, value: Any, why: str) -> None:
        """Take `value` for `key` unless the user wrote the key."""
        if key in self.given:
            return
        if self.suggested.get(key) != value or key in self.values:
            self.values[key] = value
        shown = ("on" if value else "off") if isinstance(value, bool) else value
        self.reasons.append(f"{key} {shown}: {why}")

    def _all(self, update: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "precision": "fp32",
            **_STANDING_IN,
            **self.suggested,
            **self.values,
            **update,
            **self.given,
        }

    def _memory(self, update: Mapping[str, Any]) -> Memory:
        from talent_factory.training.config import TrainConfig

        config = parse(TrainConfig, self._all(update), source=self.source)
        return predict_memory(Job(config, self.shape), kind=self.facts.kind)

    def _fits(self, update: Mapping[str, Any], *, share: float = 0.95) -> bool:
        """Whether the upper end of the prediction stays below `share` of the memory."""
        high = self._memory(update).total * (1 + bar_of(self.facts.kind))
        return high <= share * self.facts.memory


def quiet_reason() -> str:
    """What quiet mode does, in words."""
    return f"{QUIET_THREADS} threads and memory watermarks 0.6 / 0.4 leave the machine usable"
