"""From the options of `talent cast` to an order, and from what was named to a picture and a folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from talent_factory.core.errors import UsageError

if TYPE_CHECKING:
    from talent_factory.datagen.commission import Commission

# Fields of an order that options of the same name fill.
_PLACES = ("token", "provider", "model", "upload", "vision", "vision_model", "user_id", "actor_id")


def actor_order(given: Mapping[str, Any]) -> Commission:
    """The order that the options of `talent cast actor` stand for.

    Raises UsageError and ConfigError for what cannot be, before anything is written.
    """
    from talent_factory.core.config import parse
    from talent_factory.datagen.commission import Commission
    from talent_factory.datagen.planning import CastOptions
    from talent_factory.datagen.recipes import class_noun, load_recipe

    class_noun(given["actor_type"], given["sex"])  # refuses words it does not know, with a remedy
    recipe = str(given["recipe"])
    load_recipe(recipe)
    chosen = {name: given[name] for name in CastOptions.model_fields if name in given}
    chosen |= {
        "recipe": str(Path(recipe).absolute()) if recipe.endswith(".toml") else recipe,
        "budget_usd": given["budget"],
        "provider_options": _pairs(given["options"] or []),
        "portrait_medium": given["portrait_medium"].strip().lower(),
        "portrait_words": _phrases(given["portrait_words"]),
    }
    options = parse(CastOptions, chosen, source="options", remedy="talent cast actor --help")
    return Commission(**_common(given, given["portrait"]), actor=options)


def style_order(given: Mapping[str, Any]) -> Commission:
    """The order that the options of `talent cast style` stand for. Raises UsageError, ConfigError."""
    from talent_factory.core.config import parse
    from talent_factory.datagen.commission import Commission
    from talent_factory.datagen.style_plan import StyleOptions

    chosen = {name: given[name] for name in StyleOptions.model_fields if name in given}
    options = parse(
        StyleOptions,
        chosen | {"budget_usd": given["budget"]},
        source="options",
        remedy="talent cast style --help",
    )
    return Commission(**_common(given, given["picture"]), style=options)


def folder_of(token: str, out: Path | None, workspace: Path | None) -> Path:
    """Where the set of that token goes. Raises UsageError for a token that is none."""
    from talent_factory.core.workspace import check_token, workspace_from

    check_token(token)
    return out or workspace_from(workspace).casts / token


@contextmanager
def picture_of(source: str, *, allow_local: bool) -> Iterator[Path]:
    """The picture as a file of this machine; one from an address lies there as long as it is needed.

    Raises UsageError for other kinds of addresses, PortraitError for what cannot be fetched or read.
    """
    if "://" not in source:
        yield Path(source)
        return
    import tempfile

    from talent_factory.datagen.source import bring_picture

    if not source.lower().startswith(("https://", "http://")):
        raise UsageError(
            f"{source.partition('://')[0][:20]}:// is no address of a picture",
            remedy="give a file, or an address that begins with https://",
        )
    with tempfile.TemporaryDirectory(prefix="talent-") as folder:
        yield bring_picture(source, None, into=Path(folder), allow_local=allow_local)


def _common(given: Mapping[str, Any], source: str) -> dict[str, Any]:
    from talent_factory.datagen.commission import bare_source

    file: Path | None = given["models_file"]
    _refuse_unusable(given, file)
    return {
        **{name: given[name] for name in _PLACES},
        "source": bare_source(source),
        "models_file": file.absolute() if file else None,
        "store": _store(given["store"]),
    }


def _refuse_unusable(given: Mapping[str, Any], models: Path | None) -> None:
    """Refuse ids and rows that are wrong, also where this order has no use for them and a later one may."""
    from talent_factory.providers.models import read_models
    from talent_factory.storage.keys import checked_id

    for name in ("user_id", "actor_id"):
        if given[name]:
            checked_id(name.replace("_", " "), given[name])
    if models is not None:
        read_models(models)


def _store(store: str | None) -> str | None:
    """A store that another process, in another folder, finds again."""
    if not store or store == "local":
        return None
    return store if store == "s3" or "://" in store else str(Path(store).absolute())


def _phrases(text: str) -> tuple[str, ...]:
    return tuple(phrase.strip().lower() for phrase in text.split(",") if phrase.strip())


def _pairs(words: list[str]) -> dict[str, str]:
    """The options for the provider, each given as NAME=VALUE."""
    pairs = [word.partition("=") for word in words]
    for name, equals, value in pairs:
        if not (name.strip() and equals and value.strip()):
            raise UsageError(
                f"--set {(name + equals + value)[:60]!r} is not NAME=VALUE", remedy="--set safety_tolerance=4"
            )
    return {name.strip(): value.strip() for name, _, value in pairs}
