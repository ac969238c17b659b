"""The pixels that count are those that were painted, or those of the face."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from talent_factory.core.errors import DatasetError, UsageError
from talent_factory.core.events import SilentReporter
from talent_factory.core.files import sha256_file
from talent_factory.training import masks
from talent_factory.training.masks import MaskSource, face_mask, loss_masks
from talent_factory.training.options import LossKeys

FILE, FACE = LossKeys(mask="file"), LossKeys(mask="face")


class _Ear(SilentReporter):
    def __init__(self) -> None:
        self.heard: list[str] = []

    def message(self, text: str) -> None:
        self.heard.append(text)


def _source(folder: Path, name: str, image: Image.Image, mask: Image.Image | None = None) -> MaskSource:
    path = folder / f"{name}.png"
    image.save(path)
    painted = None
    if mask is not None:
        painted = folder / f"{name}.mask.png"
        mask.save(painted)
    return MaskSource(path, sha256_file(path), painted, (image.height // 8, image.width // 8))


def _half(width: int = 64, height: int = 48) -> Image.Image:
    grey = np.zeros((height, width), np.uint8)
    grey[:, : width // 2] = 255
    return Image.fromarray(grey)


@pytest.fixture(scope="module")
def photograph() -> Image.Image:
    from skimage.data import astronaut

    return Image.fromarray(astronaut())


def test_none_asks_for_nothing(tmp_path: Path) -> None:
    assert loss_masks([], LossKeys(), cache=tmp_path, reporter=SilentReporter()) is None


def test_a_painted_mask_is_averaged_to_the_latent(tmp_path: Path) -> None:
    source = _source(tmp_path, "a", Image.new("RGB", (64, 48)), _half())
    found = loss_masks([source], FILE, cache=tmp_path, reporter=SilentReporter())
    assert found is not None
    plain, mirrored = found[0]
    assert plain.shape == (1, 6, 8)
    assert plain.dtype == torch.float32
    assert plain[0, 0].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    assert torch.equal(mirrored, plain.flip(2))


def test_an_image_without_mask_counts_everywhere_and_is_told(tmp_path: Path) -> None:
    image, ear = Image.new("RGB", (64, 48)), _Ear()
    sources = [_source(tmp_path, "a", image, _half()), _source(tmp_path, "b", image)]
    found = loss_masks(sources, FILE, cache=tmp_path, reporter=ear)
    assert found is not None
    assert torch.equal(found[1][0], torch.ones(1, 6, 8))
    assert ear.heard == ["loss.mask file: 1 of 2 images lack a painted mask; all their pixels count"]


def test_no_mask_at_all_is_an_error(tmp_path: Path) -> None:
    source = _source(tmp_path, "a", Image.new("RGB", (64, 48)))
    with pytest.raises(DatasetError, match="none of the 1 images has a painted mask"):
        loss_masks([source], FILE, cache=tmp_path, reporter=SilentReporter())


@pytest.mark.parametrize("content", [None, b"", b"no picture"])
def test_a_broken_mask_is_named(tmp_path: Path, content: bytes | None) -> None:
    source = _source(tmp_path, "a", Image.new("RGB", (64, 48)), _half())
    assert source.mask is not None
    if content is None:
        source.mask.unlink()
    else:
        source.mask.write_bytes(content)
    with pytest.raises(DatasetError, match=r"a\.mask\.png cannot be read"):
        loss_masks([source], FILE, cache=tmp_path, reporter=SilentReporter())


@given(left=st.floats(0, 0.8), top=st.floats(0, 0.8), side=st.floats(0.05, 0.2), height=st.integers(4, 40))
def test_a_face_covers_the_area_of_its_widened_box(left: float, top: float, side: float, height: int) -> None:
    mask = face_mask([(left, top, left + side, top + side)], (height, 2 * height))
    assert float(mask.min()) >= 0.0
    assert float(mask.max()) <= 1.0
    wide = [min(1.0, start + 1.3 * side) - max(0.0, start - 0.3 * side) for start in (left, top)]
    assert float(mask.mean()) == pytest.approx(wide[0] * wide[1], rel=1e-4)


def test_the_face_of_a_photograph_counts_and_its_corners_do_not(
    tmp_path: Path, photograph: Image.Image
) -> None:
    source = _source(tmp_path, "a", photograph)
    found = loss_masks([source], FACE, cache=tmp_path / "cache", reporter=SilentReporter())
    assert found is not None
    plain = found[0][0]
    assert plain.shape == (1, 64, 64)
    # the astronaut's nose is near (222, 120) of 512
    assert float(plain[0, 15, 28]) == 1.0
    assert float(plain[0, -8:].max()) == 0.0
    assert 0.02 < float(plain.mean()) < 0.25


def test_faces_are_looked_for_once(
    tmp_path: Path, photograph: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, cache = _source(tmp_path, "a", photograph), tmp_path / "cache"
    first = loss_masks([source], FACE, cache=cache, reporter=SilentReporter())
    finder, asked = masks.find_faces, []

    def counting(image: Image.Image) -> object:
        asked.append(image.size)
        return finder(image)

    monkeypatch.setattr(masks, "find_faces", counting)
    again = loss_masks([source], FACE, cache=cache, reporter=SilentReporter())
    assert (512, 512) not in asked
    assert first is not None
    assert again is not None
    assert torch.equal(first[0][0], again[0][0])

    entry = next(cache.iterdir())
    for damage in ("{", "[[1]]", '["abcd"]', "7"):
        entry.write_text(damage)
        repaired = loss_masks([source], FACE, cache=cache, reporter=SilentReporter())
        assert repaired is not None
        assert torch.equal(first[0][0], repaired[0][0])


def test_no_face_at_all_is_an_error(tmp_path: Path) -> None:
    source = _source(tmp_path, "a", Image.new("RGB", (64, 64), (90, 120, 150)))
    with pytest.raises(DatasetError, match="a face that can be found"):
        loss_masks([source], FACE, cache=tmp_path / "cache", reporter=SilentReporter())


def test_a_missing_finder_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(masks, "find_faces", lambda image: None)
    source = _source(tmp_path, "a", Image.new("RGB", (64, 64)))
    with pytest.raises(UsageError, match="scikit-image") as caught:
        loss_masks([source], FACE, cache=tmp_path / "cache", reporter=SilentReporter())
    assert "talent-factory[faces]" in caught.value.remedy
