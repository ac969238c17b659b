"""Portraits that are made to fit and results that are checked to their last byte."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from talent_factory.core.errors import ProviderError, ProviderRefused, ProviderUnreachable
from talent_factory.providers import pictures
from talent_factory.providers.pictures import DATA_URL_BYTES, Portraits, checked_image, image_kind
from talent_factory.providers.port import EditRequest


def encoded(kind: str, size: tuple[int, int] = (40, 30), **options: object) -> bytes:
    stream = BytesIO()
    Image.effect_noise(size, 80).convert("RGB").save(stream, kind, **options)
    return stream.getvalue()


def ask(path: Path) -> EditRequest:
    return EditRequest(portrait=path, slot="one", medium="manga", seed=1)


@pytest.mark.parametrize(("kind", "media"), [("PNG", "png"), ("JPEG", "jpeg"), ("WEBP", "webp")])
def test_a_small_portrait_is_sent_as_it_is(tmp_path: Path, kind: str, media: str) -> None:
    data = encoded(kind)
    path = tmp_path / "portrait"
    path.write_bytes(data)
    picture = Portraits().of(ask(path))
    assert picture.data == data
    assert picture.data_url().startswith(f"data:image/{media};base64,")
    assert picture.digest() == {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


def test_a_large_one_shrinks_only_as_far_as_it_must(tmp_path: Path) -> None:
    smooth = tmp_path / "smooth.bmp.png"
    Image.linear_gradient("L").resize((1024, 1024)).convert("RGB").save(smooth, compress_level=0)
    noisy = tmp_path / "noisy.png"
    noisy.write_bytes(encoded("PNG", (900, 900)))
    sizes = []
    for path in (smooth, noisy):
        picture = Portraits().of(ask(path))
        assert len(picture.data) <= DATA_URL_BYTES
        assert len(picture.data_url()) <= 256 * 1024
        with Image.open(BytesIO(picture.data)) as image:
            assert image.format == "JPEG"
            sizes.append(image.size)
    assert sizes[0] == (1024, 1024)
    assert sizes[1][0] == sizes[1][1] < 900


def test_the_work_is_done_once_for_many_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "portrait.png"
    path.write_bytes(encoded("PNG", (300, 300)))
    fits = []
    real = pictures._fit
    monkeypatch.setattr(pictures, "_fit", lambda *given: fits.append(1) or real(*given))  # type: ignore[func-returns-value]
    portraits = Portraits(max_bytes=20_000)
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(portraits.of, [ask(path)] * 32))
    assert len(fits) == 1
    assert len({id(picture) for picture in made}) == 1


def test_a_file_that_changed_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "portrait.png"
    portraits = Portraits()
    seen = []
    for size in ((20, 20), (24, 24)):
        path.write_bytes(encoded("PNG", size))
        os.utime(path, ns=(size[0], size[0]))
        seen.append(portraits.of(ask(path)).digest()["sha256"])
    assert seen[0] != seen[1]


@pytest.mark.parametrize("content", [b"", b"GIF89a....", b"<svg/>", b"\x89PNG\r\n\x1a\n" + b"0" * 300_000])
def test_what_is_no_portrait_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "portrait.png"
    path.write_bytes(content)
    with pytest.raises(ProviderRefused, match=r"cannot read the portrait .*portrait\.png"):
        Portraits().of(ask(path))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_every_cut_of_an_image_is_noticed(kind: str) -> None:
    data = encoded(kind, (20, 15))
    assert checked_image(data, service="Example") is data
    for end in range(len(data) - 1, 16, -1):
        # JPEG ends in a two-byte mark, so half of it is missing as well
        with pytest.raises(ProviderUnreachable, match="incomplete"):
            checked_image(data[:end], service="Example")


def test_bytes_behind_the_end_do_no_harm() -> None:
    data = encoded("JPEG") + b"\0" * 100
    assert checked_image(data, service="Example") == data


@pytest.mark.parametrize("data", [b"", b"<html>", b"GIF89a", b"RIFF1234WAVE", b"\xff\xd8"])
def test_other_things_are_no_images(data: bytes) -> None:
    assert image_kind(data) is None
    with pytest.raises(ProviderError, match="no PNG, JPEG or WebP"):
        checked_image(data, service="Example")
