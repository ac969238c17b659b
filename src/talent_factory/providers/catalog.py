"""The providers by name, each loaded only when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from talent_factory.core.errors import UsageError
from talent_factory.providers.port import ImageEditor


@dataclass(frozen=True)
class EditorSettings:
    """What a user may say about a provider; each takes what it knows.

    `model` is a name of the registry, an id, or for local models a folder; `key` and `base_url` go before the
    variables of the environment; `models_file` holds registry rows of the user's own; `upload` sends the
    portrait once instead of with every request, where that can be chosen.
    """

    model: str | None = None
    key: str | None = None
    base_url: str | None = None
    models_file: Path | None = None
    upload: bool = False

    def __repr__(self) -> str:
        # a generated one would show the key in tracebacks and logs
        return f"EditorSettings(model={self.model!r}, base_url={self.base_url!r})"


def provider_names() -> tuple[str, ...]:
    """All names that `make_editor` takes."""
    return tuple(_MAKERS)


def make_editor(
    name: str,
    *,
    model: str | None = None,
    key: str | None = None,
    base_url: str | None = None,
    models_file: Path | None = None,
    upload: bool = False,
) -> ImageEditor:
    """The provider of that name, ready to use.

    Raises UsageError for a name, model or address that cannot be, ProviderRefused when its key is missing.
    """
    maker = _MAKERS.get(name)
    if maker is None:
        raise UsageError(f"no provider is called {name!r}", remedy="one of " + ", ".join(_MAKERS))
    return maker(
        EditorSettings(model=model, key=key, base_url=base_url, models_file=models_file, upload=upload)
    )


def _embedded(settings: EditorSettings) -> ImageEditor:
    from talent_factory.providers.embedded import EmbeddedPainter

    if settings.model is not None:
        raise UsageError("the embedded painter has no models to choose from", remedy="leave --model out")
    return EmbeddedPainter()


def _replicate(settings: EditorSettings) -> ImageEditor:
    from talent_factory.providers.replicate import ReplicateEditor

    return ReplicateEditor(
        model=settings.model,
        token=settings.key,
        base_url=settings.base_url,
        models_file=settings.models_file,
        upload=settings.upload,
    )


def _fal(settings: EditorSettings) -> ImageEditor:
    from talent_factory.providers.fal import FalEditor

    return FalEditor(
        model=settings.model,
        key=settings.key,
        base_url=settings.base_url,
        models_file=settings.models_file,
    )


def _bfl(settings: EditorSettings) -> ImageEditor:
    from talent_factory.providers.bfl import BflEditor

    return BflEditor(
        model=settings.model,
        key=settings.key,
        base_url=settings.base_url,
        models_file=settings.models_file,
    )


def _openai(settings: EditorSettings) -> ImageEditor:
    from talent_factory.providers.openai_images import OpenAIImages

    return OpenAIImages(
        model=settings.model,
        key=settings.key,
        base_url=settings.base_url,
        models_file=settings.models_file,
    )


def _gemini(settings: EditorSettings) -> ImageEditor:
    from talent_factory.providers.gemini_images import GeminiImages

    return GeminiImages(
        model=settings.model,
        key=settings.key,
        base_url=settings.base_url,
        models_file=settings.models_file,
    )


def _comfyui(settings: EditorSettings) -> ImageEditor:
    from talent_factory.providers.comfyui import ComfyUI

    return ComfyUI(model=settings.model, base_url=settings.base_url, models_file=settings.models_file)


def _diffusers(settings: EditorSettings) -> ImageEditor:
    from talent_factory.providers.diffusers_local import DEFAULT_MODEL, LocalDiffusers

    return LocalDiffusers(settings.model or DEFAULT_MODEL)


_MAKERS: dict[str, Callable[[EditorSettings], ImageEditor]] = {
    "embedded": _embedded,
    "replicate": _replicate,
    "fal": _fal,
    "bfl": _bfl,
    "openai": _openai,
    "gemini": _gemini,
    "comfyui": _comfyui,
    "diffusers": _diffusers,
}
