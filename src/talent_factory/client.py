"""From finished training images, by their addresses, to a trained and packed Talent Kit."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from talent_factory.core.errors import DatasetError, PortraitError, UsageError
from talent_factory.core.events import Reporter
from talent_factory.core.files import atomic_folder, write_bytes, write_text
from talent_factory.core.records import write_record
from talent_factory.core.stop import StopSignal
from talent_factory.core.workspace import Workspace, check_token, workspace_from
from talent_factory.datagen.cast import CAST_FILE, PORTRAIT_FILE, CastManifest, load_cast
from talent_factory.datagen.commission import BY_USER
from talent_factory.datagen.prompts import actor_sex_of
from talent_factory.datagen.recipes import class_noun
from talent_factory.datagen.review.book import REVIEW_FILE
from talent_factory.datagen.setting import STORE_FOLDER, cast_folder, token_of
from talent_factory.quality import Dials
from talent_factory.storage.catalog import open_store
from talent_factory.storage.keys import checked_id
from talent_factory.storage.port import Store

__all__ = ["TrainingClient"]


class TrainingClient:
    """Trains actors from the addresses that `ActorTrainingDataGenerator` returned, or from any others.

    `workspace` is where everything lies (default: $TALENT_WORKSPACE or the current folder), `base` the model
    to train for, `quality` (draft, standard, best) or `dials` the numbers. `store` is where images are read
    back from, as it is named for the generator; `allow_local` also reads other files and addresses of this
    machine and network.
    """

    def __init__(
        self,
        workspace: Workspace | Path | str | None = None,
        *,
        base: str = "mini",
        quality: str = "standard",
        dials: Dials | None = None,
        store: str | Path | Store | None = None,
        allow_local: bool = False,
        reporter: Reporter | None = None,
        stop: StopSignal | None = None,
    ) -> None:
        if not isinstance(workspace, Workspace):
            workspace = workspace_from(Path(workspace) if workspace is not None else None)
        self._place, self._local = workspace, allow_local
        self._store = open_store(store, default=workspace.root / STORE_FOLDER)
        self._base, self._quality, self._dials = base, quality, dials
        self._reporter, self._stop = reporter, stop

    def train_actor(
        self,
        *,
        actor_id: str | int,
        training_image_urls: Sequence[str | Path],
        user_id: str | int | None = None,
        actor_type: str = "human",
        actor_sex: str | None = None,
        token: str | None = None,
        captions: Sequence[str] | None = None,
    ) -> dict[str, Any]:
        """Train on these images and return where the kit is.

        Images of a cast in this workspace keep its captions, token and review. Others are read from the
        store, from https addresses or from `Path`s, with `captions` in the same order or "TOKEN CLASS,
        portrait". Returns `talent_id`, `kit_path`, `token`, `class_noun`, `total_training_images` and
        `from_cast`. A second call with the same images does nothing; after an interruption it goes on.

        Raises UsageError (ids, no images, captions that do not fit), PortraitError (an image that cannot be
        fetched or read), StorageError, and what a training raises.
        """
        from talent_factory.pipeline import RunOptions, train_images

        actor, urls = checked_id("actor id", actor_id), list(training_image_urls)
        if not urls:
            raise UsageError("there are no training images", remedy="give training_image_urls")
        if captions is not None and len(captions) != len(urls):
            raise UsageError(
                f"{len(captions)} captions for {len(urls)} images", remedy="give one for each, in order"
            )
        word = check_token(token or token_of(actor))
        noun = class_noun(actor_type.strip().lower(), actor_sex_of(actor_sex))
        found = None if captions is not None else self._cast_of(actor, user_id, urls)
        if found is not None:
            folder, cast = found
            word, noun = token or cast.token, cast.class_noun
            source = self._selected(folder, cast, urls, word)
        else:
            source = self._gathered(urls, captions or [f"{word} {noun}, portrait"] * len(urls), word)
        kit = train_images(
            source,
            token=word,
            class_noun=noun,
            workspace=self._place,
            options=RunOptions(quality=self._quality, dials=self._dials, base=self._base),
            reporter=self._reporter,
            stop=self._stop,
        )
        return {
            "talent_id": kit.name,
            "kit_path": str(kit),
            "token": word,
            "class_noun": noun,
            "total_training_images": len(urls),
            "from_cast": found is not None,
        }

    def _cast_of(
        self, actor: str, user_id: str | int | None, urls: Sequence[str | Path]
    ) -> tuple[Path, CastManifest] | None:
        """The cast of this workspace that delivered all of `urls`."""
        if user_id is not None:
            folders = [cast_folder(self._place, user_id, actor, "actor")]
        else:
            folders = sorted((self._place.casts / BY_USER).glob(f"*/{actor}/actor"))
        for folder in folders:
            if (folder / CAST_FILE).is_file():
                cast = load_cast(folder)
                if {str(url) for url in urls} <= {slot.url for slot in cast.done}:
                    return folder, cast
        return None

    def _selected(self, folder: Path, cast: CastManifest, urls: Sequence[str | Path], token: str) -> Path:
        """The cast itself, or a copy of it that holds only the images that are wanted."""
        wanted = {str(url) for url in urls}
        slots = tuple(slot for slot in cast.done if slot.url in wanted)
        if len(slots) == len(cast.done) and token == cast.token:
            return folder
        target = self._place.cache / "selections" / token
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_folder(target) as fresh:
            for name in (PORTRAIT_FILE, REVIEW_FILE, *(slot.file for slot in slots)):
                if (folder / name).is_file():
                    (fresh / name).parent.mkdir(exist_ok=True)
                    shutil.copyfile(folder / name, fresh / name)
            write_record(fresh / CAST_FILE, cast.model_copy(update={"slots": slots, "token": token}))
        return target

    def _gathered(self, urls: Sequence[str | Path], captions: Sequence[str], token: str) -> Path:
        """A folder with the images behind `urls`, upright and without metadata, and their captions."""
        from talent_factory.datagen.portrait import normalise, save_portrait

        target = self._place.cache / "gathered" / token
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_folder(target) as fresh:
            for number, (url, caption) in enumerate(zip(urls, captions, strict=True), start=1):
                raw = fresh / f"{number:03d}.raw"
                write_bytes(raw, self._read(url))
                try:
                    save_portrait(normalise(raw), fresh / f"{number:03d}.png")
                except PortraitError as error:
                    message = error.message.replace(str(raw), f"training image {number}")
                    raise DatasetError(message, remedy="leave it out, or make it again") from None
                raw.unlink()
                write_text(fresh / f"{number:03d}.txt", f"{' '.join(caption.split())}\n")
        return target

    def _read(self, url: str | Path) -> bytes:
        from talent_factory.datagen.remote import fetch_portrait

        if isinstance(url, Path):
            return _file(url)
        key = self._key(url)
        if key is not None:
            return self._store.get(key)
        if self._local and url.startswith("file:"):
            return _file(Path(url2pathname(urlsplit(url).path)))
        return fetch_portrait(url, allow_local=self._local)

    def _key(self, url: str) -> str | None:
        """The key of an object of our store: what was private there is read with its keys."""
        before, mark, after = unquote(urlsplit(url).path).partition("/custom-actors/")
        key = f"{before.rpartition('/')[2]}{mark}{after}"
        try:
            return key if mark and self._store.url(key) == url else None
        except UsageError:
            return None


def _file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PortraitError(f"{path} cannot be read ({error.strerror})", remedy="check the path") from None
