"""What opens an image provider: an argument, else the environment, else a `.env` file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from talent_factory.core.errors import ProviderRefused
from talent_factory.providers.catalog import make_editor
from talent_factory.providers.port import ImageEditor
from talent_factory.storage.dotenv import read_dotenv

# The variables that hold each provider's key, the first one named in messages, and its address.
KEY_VARIABLES: dict[str, tuple[str, ...]] = {
    "replicate": ("REPLICATE_API_TOKEN",),
    "fal": ("FAL_KEY",),
    "bfl": ("BFL_API_KEY",),
    "openai": ("OPENAI_API_KEY",),
    "gemini": ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
}
BASE_VARIABLES = {
    "replicate": "REPLICATE_BASE_URL",
    "fal": "FAL_BASE_URL",
    "bfl": "BFL_BASE_URL",
    "openai": "OPENAI_BASE_URL",
    "gemini": "GOOGLE_GEMINI_BASE_URL",
    "comfyui": "COMFYUI_URL",
}


def key_of(provider: str, *, dotenv: Path | None = None) -> str | None:
    """The key of a provider from the environment, else from `dotenv` (default: `.env` here); None without.

    Raises ConfigError for a `.env` file that cannot be read.
    """
    return _lookup(KEY_VARIABLES.get(provider, ()), dotenv)


def base_url_of(provider: str, *, dotenv: Path | None = None) -> str | None:
    """The address that a user moved a provider to, from the environment, else from `dotenv`; None without."""
    variable = BASE_VARIABLES.get(provider)
    return _lookup((variable,) if variable else (), dotenv)


def _lookup(variables: tuple[str, ...], dotenv: Path | None) -> str | None:
    inner = read_dotenv(Path(".env") if dotenv is None else dotenv) if variables else {}
    for source in (os.environ, inner):
        for variable in variables:
            value = source.get(variable, "").strip()
            if value:
                return value
    return None


@contextmanager
def opened_editor(
    provider: str | ImageEditor,
    *,
    model: str | None = None,
    key: str | None = None,
    base_url: str | None = None,
    dotenv: Path | None = None,
) -> Iterator[ImageEditor]:
    """The provider of that name, closed at the end; an editor that is one already is handed through, open.

    Raises what `make_editor` raises, with remedies for programs; above all ProviderRefused without a key.
    """
    if not isinstance(provider, str):
        yield provider
        return
    try:
        editor = make_editor(
            provider,
            model=model,
            key=key or key_of(provider, dotenv=dotenv),
            base_url=base_url or base_url_of(provider, dotenv=dotenv),
        )
    except ProviderRefused as error:
        error.remedy = error.remedy.replace("--provider embedded", 'provider="embedded"')
        raise
    try:
        yield editor
    finally:
        close = getattr(editor, "close", None)
        if close is not None:
            close()
