"""Sizes that models can make, and the cut to the aspect that was asked for."""

from __future__ import annotations

from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from talent_factory.core.errors import ProviderError
from talent_factory.providers.embedded.framing import canvas_size
from talent_factory.providers.sizing import cover_size, covering, cut_to_aspect, near_size, png

ASPECTS = st.sampled_from(["1:1", "16:9", "9:16", "4:3", "3:4", "3:2", "2:3", "4:5", "21:9", "4:1"])


@given(aspect=ASPECTS, long_side=st.integers(64, 4096), multiple=st.sampled_from([8, 16, 32]))
def test_a_covering_size_holds_the_canvas_and_little_more(aspect: str, long_side: int, multiple: int) -> None:
    width, height = cover_size(aspect, long_side, multiple=multiple)
    across, down = canvas_size(aspect, long_side)
    assert width % multiple == height % multiple == 0
    assert 0 <= width - across < multiple
    assert 0 <= height - down < multiple


@given(aspect=ASPECTS, long_side=st.integers(1024, 4096))
def test_a_near_size_keeps_the_aspect_within_a_percent(aspect: str, long_side: int) -> None:
    width, height = near_size(aspect, long_side, multiple=16)
    across, down = canvas_size(aspect, 100_000)
    assert width % 16 == height % 16 == 0
    assert width / height == pytest.approx(across / down, rel=0.01)
    assert 0.88 * long_side <= max(width, height) <= long_side


def test_near_sizes_are_exact_where_they_can_be() -> None:
    assert near_size("16:9", 1360, multiple=16) == (1280, 720)
    assert near_size("1:1", 1024, multiple=16) == (1024, 1024)
    assert near_size("3:4", 1360, multiple=16) == (1008, 1344)


def test_fixed_sizes_are_chosen_for_what_is_left_after_the_cut() -> None:
    sizes = ((1024, 1024), (1536, 1024), (1024, 1536))
    assert covering("16:9", sizes) == (1536, 1024)
    assert covering("1:1", sizes) == (1024, 1024)
    assert covering("3:4", sizes) == (1024, 1536)


@pytest.mark.parametrize(
    ("size", "aspect", "cut"),
    [((96, 64), "16:9", (96, 54)), ((64, 96), "1:1", (64, 64)), ((50, 100), "4:5", (50, 62))],
)
def test_a_picture_is_cut_from_its_middle(size: tuple[int, int], aspect: str, cut: tuple[int, int]) -> None:
    image = Image.new("RGB", size, "white")
    image.putpixel((size[0] // 2, size[1] // 2), (255, 0, 0))
    with Image.open(BytesIO(cut_to_aspect(png(image), aspect))) as result:
        assert result.size == cut
        assert result.getpixel((cut[0] // 2, cut[1] // 2)) == (255, 0, 0)


def test_a_picture_that_fits_keeps_its_bytes() -> None:
    stream = BytesIO()
    Image.effect_noise((160, 90), 40).convert("RGB").save(stream, "JPEG")
    assert cut_to_aspect(stream.getvalue(), "16:9") == stream.getvalue()


@pytest.mark.parametrize("data", [b"", b"text", b"\x89PNG\r\n\x1a\n broken"])
def test_what_is_no_picture_is_said_in_one_line(data: bytes) -> None:
    with pytest.raises(ProviderError, match="no whole picture"):
        cut_to_aspect(data, "1:1")


def test_half_a_picture_is_not_taken() -> None:
    whole = png(Image.effect_noise((64, 64), 40))
    with pytest.raises(ProviderError):
        cut_to_aspect(whole[: len(whole) // 2], "1:1")
