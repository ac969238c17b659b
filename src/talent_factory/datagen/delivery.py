"""Finished images on their way to a store: as JPEG, under keys that say whose they are."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Literal

from PIL import Image

from talent_factory.core.errors import TalentError
from talent_factory.datagen.order import Picture
from talent_factory.storage.keys import training_folder, training_image_key
from talent_factory.storage.port import Store

_QUALITY = 95
_HANDS = 4


class Delivery:
    """Puts the images of one actor or style into a store; usable as the `deliver` hook of a cast.

    An image that lies there already with the same bytes is not sent again; another one under the same key
    (an earlier casting of the same actor) is replaced. Safe from several threads.
    """

    def __init__(
        self, store: Store, *, user_id: str | int, actor_id: str | int, kind: Literal["actor", "style"]
    ) -> None:
        """Raises UsageError for ids that cannot be part of a key."""
        self._folder = training_folder(user_id, actor_id)
        self._store, self._user, self._actor, self._kind = store, user_id, actor_id, kind
        self._lock = threading.Lock()
        self._urls: dict[int, str] = {}
        self._errors: dict[int, TalentError] = {}

    def check(self) -> None:
        """Raise StorageError or DiskFull when the store cannot keep: asked before anything is paid for."""
        self._store.check(self._folder)

    @property
    def urls(self) -> Mapping[int, str]:
        """Addresses of what was delivered, by image number."""
        return dict(sorted(self._urls.items()))

    @property
    def errors(self) -> Mapping[int, TalentError]:
        """Why images could not be delivered, by image number."""
        return dict(sorted(self._errors.items()))

    def key(self, number: int) -> str:
        """The key of image `number`."""
        return training_image_key(self._user, self._actor, number, kind=self._kind)

    def __call__(self, picture: Picture) -> str:
        """Deliver an image of a running cast; returns its address, raises StorageError, DiskFull."""
        # its file is called NN_slot.png
        return self.put(int(picture.path.name.partition("_")[0]), picture.path)

    def put(self, number: int, path: Path) -> str:
        """Deliver the picture at `path` as image `number`; returns its address."""
        try:
            stored = self._store.put(self.key(number), jpeg(path), content_type="image/jpeg", replace=True)
        except TalentError as error:
            with self._lock:
                self._errors[number] = error
            raise
        with self._lock:
            self._urls[number] = stored.url
            self._errors.pop(number, None)
        return stored.url

    def withdraw(self, number: int) -> None:
        """Take an image back that is no longer kept; raises StorageError."""
        self._store.delete(self.key(number))
        with self._lock:
            self._urls.pop(number, None)

    def put_rest(self, images: Mapping[int, Path]) -> None:
        """Deliver those of `images` (number to file) that this object has not tried yet; see `errors`."""
        rest = [number for number in images if number not in self._urls and number not in self._errors]
        with ThreadPoolExecutor(_HANDS) as hands:
            list(hands.map(lambda number: self._try(number, images[number]), rest))

    def _try(self, number: int, path: Path) -> None:
        with suppress(TalentError):  # noted in `errors`
            self.put(number, path)


def jpeg(path: Path) -> bytes:
    """The picture at `path` as a JPEG of full colour resolution that holds pixels only."""
    with Image.open(path) as image:
        bare = Image.frombytes("RGB", image.size, image.convert("RGB").tobytes())
    buffer = BytesIO()
    bare.save(buffer, format="JPEG", quality=_QUALITY, subsampling=0)
    return buffer.getvalue()
