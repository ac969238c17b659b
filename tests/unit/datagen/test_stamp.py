"""Facts inside a PNG leave its pixels alone and survive only whole files."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cast_maker import face
from talent_factory.core.errors import ProviderError
from talent_factory.datagen.stamp import measure, read_stamp, stamp


def _png() -> bytes:
    stream = BytesIO()
    face((40, 30)).save(stream, "PNG")
    return stream.getvalue()


@given(
    facts=st.dictionaries(st.text(max_size=8), st.one_of(st.text(max_size=20), st.integers(), st.booleans()))
)
def test_facts_come_back_and_pixels_stay(facts: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    try:
        stamped = stamp(_png(), facts)
    except UnicodeEncodeError:  # lone surrogates cannot stand in any file
        return
    path.write_bytes(stamped)
    assert read_stamp(path) == facts
    assert measure(stamped) == (40, 30)
    with Image.open(BytesIO(stamped)) as image:
        assert np.array_equal(np.asarray(image), np.asarray(face((40, 30))))


def test_damaged_missing_and_unstamped_images_tell_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    assert read_stamp(path) == {}
    path.write_bytes(_png())
    assert read_stamp(path) == {}
    path.write_bytes(stamp(_png(), {"key": "k"})[:-40])
    assert read_stamp(path) == {}


@pytest.mark.parametrize("data", [b"", b"<html>busy</html>", b"\x89PNG\r\n\x1a\n"])
def test_answers_that_are_no_png_are_refused(data: bytes) -> None:
    with pytest.raises(ProviderError):
        stamp(data, {})
    with pytest.raises(ProviderError):
        measure(data)


def test_a_cut_png_is_refused() -> None:
    with pytest.raises(ProviderError, match="damaged"):
        measure(_png()[:-30])
