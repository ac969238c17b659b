"""From a finished job to an image on the disk: fetched once, kept, turned into a stamped PNG, handed on."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO

from PIL import Image, ImageOps, UnidentifiedImageError

from talent_factory.core.errors import ProviderError, ResultExpired
from talent_factory.core.files import sha256_bytes, write_bytes
from talent_factory.datagen.ledger import Attempt, Ledger
from talent_factory.datagen.order import Deliver, Made, Order, Picture
from talent_factory.datagen.pursuit import Pursuit, describe, is_remote
from talent_factory.datagen.retry import GaveUp
from talent_factory.datagen.stamp import stamp
from talent_factory.providers.port import ImageEditor

MAX_PIXELS = 64_000_000
_FORMATS = ("PNG", "JPEG", "WEBP")
_DAMAGED_FETCHES = 3
# Quick: photographs shrink by a fifth at most where the highest level takes four times as long.
_PNG_LEVEL = 1
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError)


class Collector:
    """Brings reached attempts home; safe for several threads."""

    def __init__(
        self, editor: ImageEditor, ledger: Ledger, pursuit: Pursuit, *, deliver: Deliver | None
    ) -> None:
        self._editor, self._ledger, self._pursuit, self._deliver = editor, ledger, pursuit, deliver
        self._remote = is_remote(editor.capabilities())

    def fetch(self, attempt: Attempt) -> Attempt:
        """`attempt` with its image in the ledger, where no provider can lose it any more.

        Raises GaveUp, Left, DiskFull.
        """
        return attempt if attempt.state == "fetched" else self._fetch(attempt)[0]

    def collect(self, order: Order, attempt: Attempt) -> Made:
        """The image of a reached or fetched `attempt`, on the disk at `order.path`.

        Raises GaveUp, Left, DiskFull; until it returns the ledger knows where to find the image again.
        """
        for turn in range(_DAMAGED_FETCHES):
            if attempt.state != "fetched":
                attempt, raw = self._fetch(attempt)
            else:
                raw = self._ledger.image(attempt) or b""
            try:
                png = as_png(raw)
                break
            except ProviderError as error:
                if not self._remote or turn == _DAMAGED_FETCHES - 1:
                    billed = None if self._remote else False
                    self._ledger.failed(attempt, message=error.message, code="DAMAGED", billed=billed)
                    raise GaveUp(error.message, code="DAMAGED") from error
                attempt = self._ledger.reopen(attempt)
        return self._keep(order, attempt, raw, png)

    def _fetch(self, attempt: Attempt) -> tuple[Attempt, bytes]:
        """The provider's bytes, in the ledger before anything else is done with them."""
        try:
            raw = self._ask(attempt)
        except ResultExpired as error:
            raise self._pursuit.lose(attempt, error.message) from error
        # what a provider on this machine makes costs nothing, so it need not lie on the disk twice
        return (self._ledger.fetched(attempt, raw) if self._remote else attempt), raw

    def _ask(self, attempt: Attempt) -> bytes:
        def fetch() -> bytes:
            return self._editor.fetch(attempt.job)

        try:
            return self._pursuit.patiently(fetch, attempt, raises=ResultExpired)
        except ResultExpired:
            # an address may run out before the image does: asking for the job anew gives a fresh one
            self._pursuit.patiently(lambda: self._editor.poll(attempt.job), attempt, raises=ResultExpired)
            return self._pursuit.patiently(fetch, attempt, raises=ResultExpired)

    def _keep(self, order: Order, attempt: Attempt, raw: bytes, png: bytes) -> Made:
        # IHDR: width and height
        width, height = struct.unpack(">II", png[16:24])
        facts = {**order.facts, "key": order.key, "seed": attempt.seed}
        if self._remote:
            facts |= {"job": attempt.job, "cost_usd": attempt.price / 1e6}
        data = stamp(png, facts)
        digest = sha256_bytes(data)
        write_bytes(order.path, data)
        attempt = self._ledger.done(attempt)
        picture = Picture(
            key=order.key, path=order.path, raw=raw, sha256=digest, seed=attempt.seed, sent=attempt.sent
        )
        url, error = hand_on(picture, self._deliver if order.wanted else None)
        return Made(
            order=order,
            state="done",
            sha256=digest,
            width=width,
            height=height,
            seed=attempt.seed,
            job=attempt.job if self._remote else "",
            cost_usd=attempt.cost / 1e6,
            url=url,
            error=error,
        )


def hand_on(picture: Picture, deliver: Deliver | None) -> tuple[str, str]:
    """Address and error of a delivery; one that failed is for the next run to try again."""
    if deliver is None:
        return "", ""
    try:
        return deliver(picture), ""
    except Exception as error:  # noqa: BLE001 - foreign code, and the image is made
        return "", f"made, but not delivered: {describe(error)}"


def as_png(data: bytes) -> bytes:
    """`data` as a PNG: 8-bit RGB PNGs as they are, others (PNG, JPEG, WebP) decoded, turned upright, encoded.

    Raises ProviderError for anything else, for damaged images and for those of too many pixels.
    """
    try:
        with Image.open(BytesIO(data), formats=_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ProviderError(f"the provider's image is too large ({image.width} x {image.height})")
            image.load()
            if image.format == "PNG" and image.mode == "RGB":
                return data
            upright = ImageOps.exif_transpose(image)
            stream = BytesIO()
            upright.convert("RGB").save(stream, "PNG", compress_level=_PNG_LEVEL)
            return stream.getvalue()
    except UnidentifiedImageError:
        raise ProviderError(
            "the provider answered with something that is no PNG, JPEG or WebP image"
        ) from None
    except _DAMAGE as error:
        raise ProviderError(f"the provider answered with a damaged image ({error})") from error
