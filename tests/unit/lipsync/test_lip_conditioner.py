from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from talent_factory.core.errors import ClipError, ConfigError
from talent_factory.lipsync.audio.conditioner import AudioConditioner, positions


def _rows(frames: int) -> NDArray[np.float32]:
    """Features whose numbers say which frame and step they are of."""
    rows = np.arange(1, frames + 1, dtype=np.float32)[:, None] * 100 + np.arange(10, dtype=np.float32)
    return np.repeat(rows[:, :, None], 384, axis=2)


def test_a_window_is_its_frames_in_order_with_positions_added() -> None:
    conditioner = AudioConditioner(2, 2, "mel-1")
    tokens = conditioner.tokens(_rows(9), [4])
    assert tokens.shape == (1, 50, 384)
    assert tokens.dtype == torch.float32
    plain = (tokens - positions(50))[0, :, 0]
    wanted = [100.0 * (frame + 1) + step for frame in range(2, 7) for step in range(10)]
    assert plain.tolist() == pytest.approx(wanted, abs=1e-3)


@pytest.mark.parametrize(("index", "silent"), [(0, [0, 1]), (1, [0]), (7, [4]), (8, [3, 4]), (4, [])])
def test_beyond_the_ends_there_is_nothing(index: int, silent: list[int]) -> None:
    tokens = AudioConditioner().tokens(_rows(9), [index]) - positions(50)
    by_frame = tokens.reshape(5, 10, 384).abs().amax(dim=(1, 2))
    assert [frame for frame in range(5) if by_frame[frame] < 1e-3] == silent


@given(st.integers(1, 12), st.integers(0, 4), st.integers(0, 4), st.data())
def test_a_span_of_rows_gives_what_the_whole_clip_gives(
    length: int, left: int, right: int, data: st.DataObject
) -> None:
    conditioner = AudioConditioner(left, right, "mel-1")
    index = data.draw(st.integers(0, length - 1))
    whole = _rows(length)
    first, last = conditioner.span(index, length)
    assert 0 <= first <= index < last <= length
    part = conditioner.window(whole[first:last], first=first, index=index, length=length)
    assert torch.equal(conditioner.embed(part[None]), conditioner.tokens(whole, [index]))


def test_a_row_that_a_clip_should_have_is_not_made_up() -> None:
    conditioner = AudioConditioner()
    for rows, first in ((_rows(9)[3:7], 3), (_rows(9)[2:6], 2)):
        with pytest.raises(ClipError, match="frame 4 of 9 needs the audio of frames 2 to 7"):
            conditioner.window(rows, first=first, index=4, length=9)
    for index in (-1, 9):
        with pytest.raises(ClipError):
            conditioner.tokens(_rows(9), [index])


def test_the_own_rows_come_back_out_of_the_tokens() -> None:
    conditioner = AudioConditioner(3, 1, "mel-1")
    own = conditioner.own(conditioner.tokens(_rows(9) / 1000, [4, 8]))
    assert np.allclose(own.numpy(), _rows(9)[[4, 8]] / 1000, atol=1e-5)


def test_positions_are_the_sinusoids_of_the_paper() -> None:
    found = positions(50)
    assert torch.allclose(found[0, 0::2], torch.zeros(192))
    assert torch.allclose(found[0, 1::2], torch.ones(192))
    assert float(found[7, 2]) == pytest.approx(np.sin(7 / 10000 ** (2 / 384)), abs=1e-6)
    assert float(found[49, 383]) == pytest.approx(np.cos(49 / 10000 ** (382 / 384)), abs=1e-6)


def test_no_frames_no_tokens() -> None:
    assert AudioConditioner().tokens(_rows(3), []).shape == (0, 50, 384)


def test_impossible_windows_are_refused() -> None:
    with pytest.raises(ConfigError, match="-1 frames before"):
        AudioConditioner(-1, 2)
