"""The embedded painter as an image provider."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from contract.image_editor import ImageEditorContract, png_size
from talent_factory.core.errors import ProviderError
from talent_factory.providers.embedded import MEDIA, EmbeddedPainter
from talent_factory.providers.port import EditRequest, ImageEditor
from unit.providers.portraits import character


@pytest.fixture
def portrait(tmp_path: Path) -> Path:
    path = tmp_path / "portrait.png"
    assert cv2.imwrite(str(path), character(96)[..., ::-1])
    return path


def ask(portrait: Path, **changes: object) -> EditRequest:
    facts: dict[str, object] = {"portrait": portrait, "slot": "one", "medium": "manga", "seed": 3}
    return EditRequest.model_validate(facts | {"long_side": 96} | changes)


class TestEmbeddedPainter(ImageEditorContract):
    @pytest.fixture
    def editor(self) -> ImageEditor:
        return EmbeddedPainter()

    @pytest.fixture
    def portrait(self, portrait: Path) -> Path:
        return portrait


def test_it_says_what_is_augmentation() -> None:
    can = EmbeddedPainter().capabilities()
    assert len(can.media) == 17 + 2  # and the two kinds of style pictures
    assert can.augmentations == {medium for medium in MEDIA if medium.startswith("photo_")}
    assert all(can.methods[medium].startswith("augment-") for medium in can.augmentations)
    assert can.price_usd == 0
    assert not can.network


def test_the_same_request_is_the_same_job_in_every_process(portrait: Path) -> None:
    first, second = EmbeddedPainter(), EmbeddedPainter()
    assert first.submit(ask(portrait)) == second.submit(ask(portrait)) == first.submit(ask(portrait))


def test_a_job_follows_the_portraits_bytes_not_its_name(portrait: Path, tmp_path: Path) -> None:
    twin = tmp_path / "twin.png"
    twin.write_bytes(portrait.read_bytes())
    painter = EmbeddedPainter()
    assert painter.submit(ask(portrait)) == painter.submit(ask(twin))


def test_a_portrait_that_changes_after_submit_is_noticed(portrait: Path) -> None:
    painter = EmbeddedPainter()
    job = painter.submit(ask(portrait))
    cv2.imwrite(str(portrait), np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(ProviderError, match="changed after"):
        painter.fetch(job)
    status = painter.poll(job)
    assert status.state == "failed"
    assert "changed after" in status.message


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_image_fails_with_a_remedy(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "portrait.png"
    path.write_bytes(content)
    painter = EmbeddedPainter()
    job = painter.submit(ask(path))
    with pytest.raises(ProviderError, match="not an image") as caught:
        painter.fetch(job)
    assert caught.value.remedy
    assert painter.poll(job).state == "failed"


def test_a_cancelled_request_can_be_made_again(portrait: Path) -> None:
    painter = EmbeddedPainter()
    job = painter.submit(ask(portrait))
    painter.cancel(job)
    assert painter.submit(ask(portrait)) == job
    assert png_size(painter.fetch(job)) == (96, 54)


def test_many_threads_get_what_one_gets(portrait: Path) -> None:
    painter = EmbeddedPainter()
    jobs = [painter.submit(ask(portrait, seed=seed, medium=m)) for seed, m in enumerate(list(MEDIA)[:6])]
    alone = [painter.fetch(job) for job in jobs]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(painter.fetch, jobs)) == alone


@pytest.mark.parametrize(
    "changes",
    [
        {"aspect": "16x9"},
        {"aspect": "0:9"},
        {"aspect": "16:9\n"},
        {"seed": -1},
        {"long_side": 8},
        {"slot": "../up"},
        {"medium": "Manga"},
        {"colour": "red"},
    ],
)
def test_requests_are_strict(portrait: Path, changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ask(portrait, **changes)


def test_an_aspect_too_narrow_is_refused_before_any_work(portrait: Path) -> None:
    painter = EmbeddedPainter()
    with pytest.raises(ProviderError, match="too narrow"):
        painter.submit(ask(portrait, aspect="9:1"))
    assert painter.find(3) is None
