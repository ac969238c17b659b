"""Held-out clips: chosen by name alone, never trained on, measured on the same frames each time."""

from __future__ import annotations

import pytest

from talent_factory.core.errors import ConfigError
from talent_factory.lipsync.records import Clip, Metadata
from talent_factory.lipsync.train.split import speakers_of, split_clips, validation_draws


def clips(*lengths: int) -> Metadata:
    return Metadata(
        clips=tuple(
            Clip(name=f"HDTF-{number:04d}", frames=tuple(f"{n:06d}" for n in range(length)))
            for number, length in enumerate(lengths)
        )
    )


def test_a_share_keeps_clips_aside_and_none_is_both() -> None:
    metadata = clips(*[20] * 20)
    found = split_clips(metadata, 0.1, seed=3)
    assert len(found.held_out) == 2
    assert sorted(found.train + found.held_out) == list(range(20))
    assert found == split_clips(metadata, 0.1, seed=3)
    assert {split_clips(metadata, 0.1, seed=seed).held_out for seed in range(9)} != {found.held_out}


def test_the_choice_is_of_names_not_of_places() -> None:
    metadata = clips(*[20] * 10)
    turned = Metadata(clips=metadata.clips[::-1])
    names = {metadata.clips[n].name for n in split_clips(metadata, 0.3, seed=0).held_out}
    assert names == {turned.clips[n].name for n in split_clips(turned, 0.3, seed=0).held_out}


def named(*names: str) -> Metadata:
    frames = tuple(f"{n:06d}" for n in range(20))
    return Metadata(clips=tuple(Clip(name=name, frames=frames) for name in names))


def test_names_tell_speakers_apart() -> None:
    assert speakers_of(["ANNA-0001", "anna_0002", "BOB-0001", "carl"]) == ["anna", "anna", "bob", "carl"]
    # one name for all says nothing, nor does that of a dataset of many
    assert speakers_of(["ANNA-0001", "ANNA-0002"]) == ["anna-0001", "anna-0002"]
    assert speakers_of(["SYNTH-0001", "HDTF_0002", "BOB-1"]) == ["synth-0001", "hdtf-0002", "bob"]


@pytest.mark.parametrize("wanted", [0.05, 0.2, 0.5, 0.9])
def test_a_share_never_parts_the_clips_of_one_speaker(wanted: float) -> None:
    names = [f"SPEAKER-{who:02d}-{number:04d}" for who in range(12) for number in range(1, 3 + who % 4)]
    metadata = named(*names)
    sides = set()
    for seed in range(8):
        found = split_clips(metadata, wanted, seed=seed)
        aside, train = ({names[n][:10] for n in part} for part in (found.held_out, found.train))
        assert aside
        assert not aside & train
        assert len(found.held_out) <= max(2, -(-len(names) * wanted // 1))
        sides.add(found.held_out)
    assert len(sides) > 1


def test_of_large_speakers_the_smallest_is_kept_aside() -> None:
    metadata = named(*[f"ANNA-{n:04d}" for n in range(9)], *[f"BOB-{n:04d}" for n in range(5)])
    assert split_clips(metadata, 0.05, seed=0).held_out == tuple(range(9, 14))
    assert split_clips(metadata, 0.0, seed=0).held_out == ()


def test_named_clips_are_found_in_both_spellings() -> None:
    metadata = clips(20, 20, 20)
    assert split_clips(metadata, ("HDTF_0001",), seed=0).held_out == (1,)
    with pytest.raises(ConfigError, match="HDTF-0009"):
        split_clips(metadata, ("HDTF-0009",), seed=0)
    with pytest.raises(ConfigError, match="no clip is left"):
        split_clips(metadata, ("HDTF-0000", "HDTF-0001", "HDTF-0002"), seed=0)


def test_one_clip_alone_is_trained_on() -> None:
    assert split_clips(clips(20), 0.5, seed=0).train == (0,)
    with pytest.raises(ConfigError):
        split_clips(clips(1), 0.0, seed=0)


@pytest.mark.parametrize("frames", [1, 3])
def test_validation_looks_at_frames_that_are_there(frames: int) -> None:
    metadata = clips(20, 7, 31)
    draws = validation_draws(metadata, (1, 2), 12, frames=frames, far=5)
    assert len(draws) == 12
    assert {draw.clip for draw in draws} == {1, 2}
    for draw in draws:
        length = len(metadata.clips[draw.clip].frames)
        assert 0 <= draw.target < length
        assert 0 <= draw.reference < length
        assert draw.target != draw.reference
    if frames > 1:
        for first in range(0, 12, frames):
            run = [draw.target for draw in draws[first : first + frames]]
            assert run == list(range(run[0], run[0] + frames))
