"""Tell the alpha of modules that carry none: PEFT keeps it in a configuration, others mean alpha = rank."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from talent_factory.kits.intake.refusal import IntakeRefused
from talent_factory.kits.strict import StrictJsonError, parse_text

# Where diffusers keeps the configurations of PEFT in a file's header, each key with the model in front.
HEADER_WORD = "lora_adapter_metadata"
_MODELS = ("text_encoder_2", "text_encoder", "unet")


class Alphas:
    """What a PEFT configuration says; without one, alpha is the rank, as every reader assumes."""

    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        self._config = dict(config or {})
        self.source = (
            "the file's PEFT configuration tells it" if config else "it is the rank, as readers assume"
        )
        if any(self._get(model, "use_dora") for model in _MODELS):
            raise IntakeRefused(
                "PEFT's DoRA: its lengths belong to outputs, those of kits to inputs",
                code="lora-form",
                remedy="train it again without DoRA, or in kohya's form",
            )

    def of(self, raw: str, rank: int) -> float:
        """The alpha of the module `raw` (its name in the file); the factor of use is alpha / rank.

        Raises IntakeRefused when the configuration holds no positive number for it.
        """
        path = raw.removeprefix("base_model.model.")
        model = next((name for name in _MODELS if path.startswith(f"{name}.")), "unet")
        path = path.removeprefix(f"{model}.")
        value = self._get(model, "lora_alpha")
        pattern = self._get(model, "alpha_pattern")
        for key, special in (pattern if isinstance(pattern, Mapping) else {}).items():
            if path == key or path.endswith(f".{key}"):
                value = special
        if value is None:
            return float(rank)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e9:
            raise IntakeRefused(f"its PEFT configuration says alpha {str(value)[:40]!r}", code="alpha-value")
        # rsLoRA divides by the root of the rank; as a plain alpha that is a larger one
        return float(value) * (math.sqrt(rank) if self._get(model, "use_rslora") else 1.0)

    def _get(self, model: str, key: str) -> Any:
        return self._config.get(f"{model}.{key}", self._config.get(key))


def header_alphas(words: Mapping[str, str], beside: Mapping[str, Any] | None) -> Alphas:
    """The alphas that a file's header words tell, else `beside`, the adapter_config.json in its folder.

    Raises IntakeRefused when the words are no JSON object.
    """
    text = words.get(HEADER_WORD)
    if text is None:
        return Alphas(beside)
    try:
        config = parse_text(text)
    except StrictJsonError as error:
        raise IntakeRefused(f"{HEADER_WORD} in the header: {error}", code="weights-header") from error
    if not isinstance(config, dict):
        raise IntakeRefused(f"{HEADER_WORD} in the header is no object", code="weights-header")
    return Alphas(config)
