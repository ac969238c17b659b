"""The kinds of vision by name, each loaded only when it is asked for."""

from __future__ import annotations

from collections.abc import Callable

from talent_factory.core.errors import UsageError
from talent_factory.providers.vision.port import Vision

_NAMES = ("embedded", "openai", "local")


def vision_names() -> tuple[str, ...]:
    """All names that `make_vision` takes."""
    return _NAMES


def make_vision(
    name: str = "embedded",
    *,
    model: str | None = None,
    key: str | None = None,
    base_url: str | None = None,
    notice: Callable[[str], None] | None = None,
) -> Vision:
    """The vision of that name: "embedded", "openai" (any server of that API) or "local" (a folder).

    `notice` is told when a model's answer could not be used. Raises UsageError for a name or address that
    cannot be, ProviderRefused when a key is missing.
    """
    if name == "embedded":
        from talent_factory.providers.vision.embedded import EmbeddedVision

        return EmbeddedVision()
    from talent_factory.providers.vision.model_vision import ModelVision

    if name == "openai":
        from talent_factory.providers.vision.openai_vision import OpenAIAnswerer

        return ModelVision(OpenAIAnswerer(model=model, key=key, base_url=base_url), notice=notice)
    if name == "local":
        from talent_factory.providers.vision.local_vlm import LocalAnswerer

        if not model:
            raise UsageError(
                "local vision needs a model", remedy="name the folder of a vision-language model"
            )
        return ModelVision(LocalAnswerer(model), notice=notice)
    raise UsageError(f"no vision is called {name!r}", remedy="one of " + ", ".join(_NAMES))
