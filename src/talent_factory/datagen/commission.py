"""What a folder of images was ordered with, kept beside them so that any later process can go on."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import model_validator

from talent_factory.core.errors import DatasetError, PortraitError, UsageError
from talent_factory.core.files import json_text
from talent_factory.core.records import Record, read_record, write_record
from talent_factory.core.workspace import exclusive
from talent_factory.datagen.cast import CAST_FILE, PORTRAIT_FILE, load_cast
from talent_factory.datagen.planning import CastOptions
from talent_factory.datagen.portrait import normalise
from talent_factory.datagen.style_cast import PICTURE_FILE, STYLE_FILE
from talent_factory.datagen.style_plan import StyleOptions

ORDER_FILE = "order.json"
# Below the casts of a workspace: USER/ACTOR/KIND, where programs cast for many users.
BY_USER = "by_user"


class Commission(Record):
    """One order: of an actor (`actor`) or of a style (`style`), of whom, and where the images go.

    `source` is the picture's path or address, without anything secret in it. Keys are never part of it.
    """

    version: Literal[1] = 1
    token: str
    source: str
    provider: str = "embedded"
    model: str | None = None
    models_file: Path | None = None
    upload: bool = False
    actor: CastOptions | None = None
    style: StyleOptions | None = None
    vision: str = "embedded"
    vision_model: str | None = None
    store: str | None = None
    user_id: str = ""
    actor_id: str = ""

    @model_validator(mode="after")
    def _one_of_both(self) -> Commission:
        if (self.actor is None) == (self.style is None):
            raise ValueError("needs either actor or style")
        return self

    @property
    def kind(self) -> Literal["actor", "style"]:
        """Which of the two it is."""
        return "style" if self.actor is None else "actor"

    @property
    def picture_file(self) -> str:
        """The name under which the folder keeps the normalised picture."""
        return PORTRAIT_FILE if self.kind == "actor" else PICTURE_FILE


def bare_source(text: str) -> str:
    """`text` as it may be written down: an address loses its user, query and fragment, a path is absolute."""
    if "://" not in text:
        return str(Path(text).expanduser().absolute())
    parts = urlsplit(text)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def check_folder(order: Commission, folder: Path) -> None:
    """Raise UsageError when `folder` holds a set of the other kind: their images would be mixed up."""
    other = STYLE_FILE if order.kind == "actor" else CAST_FILE
    if (folder / other).is_file():
        raise UsageError(
            f"{folder} holds {'a style' if order.kind == 'actor' else 'an actor'} already ({other})",
            remedy="choose another --token or another folder with --out",
        )


def keep_order(order: Commission, folder: Path) -> None:
    """Write the order into `folder`. Raises WorkspaceBusy when another process works there, DiskFull."""
    if order.actor is not None:
        # to pay for a lost image anew is said once, not for ever
        order = order.model_copy(update={"actor": order.actor.model_copy(update={"pay_again": False})})
    path = folder / ORDER_FILE
    with exclusive(folder):
        if not path.is_file() or path.read_bytes() != json_text(order.model_dump(mode="json")).encode():
            write_record(path, order)


def order_in(folder: Path) -> Commission:
    """The order of the set in `folder`; of an actor's cast without one it is read from the manifest.

    Raises DatasetError when the folder holds nothing that could go on, FileError for a damaged order.
    """
    if (folder / ORDER_FILE).is_file():
        return read_record(folder / ORDER_FILE, Commission)
    if not (folder / CAST_FILE).is_file():
        raise DatasetError(
            f"{folder} holds no {ORDER_FILE} to go on from", remedy="run talent cast actor or style again"
        )
    cast = load_cast(folder)
    options = CastOptions.model_validate(
        {
            "actor_type": cast.actor_type,
            "sex": cast.sex,
            "recipe": cast.recipe,
            "aspect": cast.aspect,
            "long_side": cast.long_side,
            "seed": cast.seed,
            "count": len(cast.slots),
            "keep": cast.keep or None,
            "provider_options": cast.provider_options,
            "portrait_medium": cast.portrait.medium,
            "portrait_words": cast.portrait.words,
        }
    )
    return Commission(
        token=cast.token,
        source=cast.portrait.source,
        provider=cast.provider,
        model=cast.model or None,
        actor=options,
    )


def picture_in(folder: Path, order: Commission) -> Path:
    """The picture to go on with: the user's own file while it still shows the same, else the kept one.

    Raises PortraitError when neither is there.
    """
    kept, own = folder / order.picture_file, Path(order.source)
    if "://" not in order.source and own.is_absolute() and own.is_file() and _same(own, kept):
        return own
    if not kept.is_file():
        raise PortraitError(
            f"{folder} holds no {order.picture_file}, and {order.source} cannot be used",
            remedy=f"run talent cast {order.kind} again with the picture",
        )
    return kept


def _same(own: Path, kept: Path) -> bool:
    if not kept.is_file():
        return True
    try:
        return normalise(own).sha256 == normalise(kept).sha256
    except PortraitError:
        return False
