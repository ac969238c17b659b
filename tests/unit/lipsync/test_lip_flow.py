"""Frames become faces: the same however they are cut, over time as in training, and fast as plainly."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lip_training import SMALL
from talent_factory.lipsync.actor import ActorCard, save_actor
from talent_factory.lipsync.animate.film import Still
from talent_factory.lipsync.animate.flow import Flow
from talent_factory.lipsync.animate.perform import Wish, animate
from talent_factory.lipsync.animate.speaker import (
    BATCH,
    Pairs,
    Speaker,
    open_speaker,
    open_speaker_on,
    to_pixels,
)
from talent_factory.lipsync.animate.stage import Stage
from talent_factory.lipsync.animate.stream import Stream
from talent_factory.lipsync.audio.wave import read_wave, write_wave
from talent_factory.lipsync.codec import open_codec
from talent_factory.lipsync.models.fast import fastest_dtype
from talent_factory.lipsync.models.temporal import TemporalUNet
from talent_factory.lipsync.models.unet import build_unet, make_latents
from talent_factory.lipsync.preprocess.align import Alignment
from talent_factory.lipsync.score.rows import Subject, score_actor

SIZE, LENGTH = 32, 5


def write_actor(folder: Path, *, temporal: str | None) -> Speaker:
    """An untrained actor; its attention over time does nothing yet ("zero") or much ("loud")."""
    codec = open_codec("dct8")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = build_unet(SMALL, codec)
        # a reference of its own: TemporalUNet leaves its hooks on the network
        over_time = TemporalUNet(build_unet(SMALL, codec))
        if temporal == "loud":
            for layer in over_time.layers:
                torch.nn.init.normal_(layer.out.weight, std=0.5)  # type: ignore[union-attr,arg-type]
    card = ActorCard(
        image_size=SIZE, codec="dct8", codec_id="dct8", extractor="mel", extractor_id="mel-1",
        audio_left=2, audio_right=2, length=LENGTH if temporal else 1,
    )  # fmt: skip
    save_actor(folder, unet, card, temporal=over_time.temporal_state() if temporal else None)
    return open_speaker(folder)


@pytest.fixture(scope="module")
def speakers(tmp_path_factory: pytest.TempPathFactory) -> dict[str | None, Speaker]:
    root = tmp_path_factory.mktemp("actors")
    return {kind: write_actor(root / str(kind), temporal=kind) for kind in (None, "zero", "loud")}


def material(speaker: Speaker, count: int) -> tuple[Pairs, NDArray[Any], NDArray[Any]]:
    rng = np.random.default_rng(count)
    crops = list(rng.integers(0, 256, (count, SIZE, SIZE, 3)).astype(np.uint8))
    faces = speaker.look(crops)
    windows = rng.normal(size=(count, 5, 10, 384)).astype(np.float32)
    return [(face, faces[0]) for face in faces], windows, rng.uniform(0, 2, count).astype(np.float32)


def flown(speaker: Speaker, given: tuple[Pairs, NDArray[Any], NDArray[Any]], piece: int) -> NDArray[Any]:
    flow, (faces, windows, gates) = Flow(speaker), given
    made = [
        flow.push(faces[k : k + piece], windows[k : k + piece], gates[k : k + piece])
        for k in range(0, len(faces), piece)
    ]
    return np.concatenate([*made, flow.finish()]).astype(int)


@pytest.mark.parametrize("count", [1, 3, LENGTH, LENGTH + 1, 2 * LENGTH + 2, 23])
def test_faces_over_time_do_not_depend_on_the_cut(speakers: dict[str | None, Speaker], count: int) -> None:
    given = material(speakers["loud"], count)
    whole = flown(speakers["loud"], given, count)
    assert len(whole) == count
    for piece in (1, 2, 7):
        np.testing.assert_array_equal(flown(speakers["loud"], given, piece), whole)


@pytest.mark.parametrize("count", [3, LENGTH, 17])
def test_untrained_attention_over_time_paints_as_without(
    speakers: dict[str | None, Speaker], count: int
) -> None:
    given = material(speakers[None], count)
    plain = flown(speakers[None], given, 8)
    assert np.abs(flown(speakers["zero"], given, 8) - plain).max() <= 1
    assert np.abs(flown(speakers["loud"], given, 8) - plain).max() > 8


def test_one_window_is_that_of_training(speakers: dict[str | None, Speaker], tmp_path: Path) -> None:
    speaker = speakers["loud"]
    faces, windows, gates = material(speaker, LENGTH)
    gates[:] = 1
    network = TemporalUNet(build_unet(SMALL, speaker.codec))
    network.unet.load_state_dict(speaker.actor.unet.state_dict())
    network.load_temporal(speaker.actor.temporal or {})
    with torch.inference_mode():
        latents = make_latents(
            network.eval(), torch.cat([face.masked for face, _ in faces]),
            torch.cat([near.whole for _, near in faces]), speaker.conditioner.embed(windows), length=LENGTH,
        )  # fmt: skip
        wanted = to_pixels(speaker.decoder.decode(latents)).astype(int)
    assert np.abs(flown(speaker, (faces, windows, gates), 2) - wanted).max() <= 1


def test_nothing_is_carried_over_frames_without_a_face(speakers: dict[str | None, Speaker]) -> None:
    faces, windows, gates = material(speakers["loud"], 18)
    flow = Flow(speakers["loud"])
    first = np.concatenate([flow.push(faces[:7], windows[:7], gates[:7]), flow.finish()])
    second = np.concatenate([flow.push(faces[7:], windows[7:], gates[7:]), flow.finish()])
    alone = flown(speakers["loud"], (faces[7:], windows[7:], gates[7:]), 4)
    assert len(first) == 7
    np.testing.assert_array_equal(second, alone)


@pytest.mark.parametrize("kind", [None, "loud"])
def test_fast_painting_is_plain_painting(speakers: dict[str | None, Speaker], kind: str | None) -> None:
    """Within 1e-4 of latents of about unit deviation: far below a level of a pixel."""
    speaker = speakers[kind]
    size = speaker.length if kind else BATCH
    faces, windows, gates = material(speaker, size)
    fast = speaker.paint(faces, windows, gates)
    assert any("forward" in module.__dict__ for module in speaker.actor.unet.modules())
    packed = {module: module.__dict__.pop("forward") for module in speaker.actor.unet.modules()
              if "forward" in module.__dict__}  # fmt: skip
    try:
        plain = speaker.paint(faces, windows, gates)
    finally:
        for module, forward in packed.items():
            module.__dict__["forward"] = forward
    torch.testing.assert_close(fast, plain, atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", [None, "loud"])
def test_sixteen_bits_move_no_colour_that_one_could_see(
    speakers: dict[str | None, Speaker], kind: str | None
) -> None:
    """At most three levels of 255, half a level in the mean, against full precision."""
    exact = speakers[kind]
    quick = open_speaker(exact.actor.folder, dtype=torch.bfloat16)
    crops = [cv2.resize(photograph()[k : k + 8, :8], (SIZE, SIZE)) for k in range(2 * BATCH)]
    windows = np.random.default_rng(3).normal(size=(len(crops), 5, 10, 384)).astype(np.float32)
    made = []
    for speaker in (exact, quick):
        faces = speaker.look(crops)
        made.append(flown(speaker, ([(face, faces[0]) for face in faces], windows, np.ones(len(crops))), 8))
    assert np.abs(made[0] - made[1]).max() <= 3
    assert np.abs(made[0] - made[1]).mean() <= 0.5
    chosen = open_speaker_on(exact.actor.folder, device="cpu")
    assert next(chosen.actor.unet.parameters()).dtype == fastest_dtype("cpu")


def photograph() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (96, 80, 3)).astype(np.uint8)


def test_an_actor_of_the_second_stage_animates_streams_and_is_scored(
    speakers: dict[str | None, Speaker], tmp_path: Path
) -> None:
    speaker, rng = speakers["loud"], np.random.default_rng(1)
    wave = (rng.normal(size=21_000) * 0.1).astype(np.float32)
    write_wave(tmp_path / "a.wav", wave)
    assert cv2.imwrite(str(tmp_path / "p.png"), photograph())
    wish = Wish(tmp_path / "p.png", tmp_path / "a.wav", tmp_path / "o.mp4", box=(20.0, 20.0, 60.0, 70.0))
    made = animate(wish, speaker)
    assert (made.frames, made.without_face) == (33, 0)
    assert abs(len(read_wave(wish.out)) - len(wave)) < 1200

    def stream() -> Stream:
        still = Still(photograph())
        return Stream(Stage(still, (Alignment(x=40, y=45, side=50),), speaker), speaker, rate=Fraction(25))

    whole = list(stream().finish_of(wave))
    flow, frames = stream(), []
    for start in range(0, len(wave), 1700):
        frames += list(flow.push(wave[start : start + 1700]))
        # its own 40 ms, 80 ms of sound after it, and the window that it waits for
        assert min(start + 1700, len(wave)) // 640 - len(frames) <= 3 + LENGTH
    frames += list(flow.finish())
    assert len(frames) == len(whole) == 33
    assert max(int(np.abs(a.astype(int) - b).max()) for a, b in zip(frames, whole, strict=True)) <= 1
    shown = rng.integers(0, 256, (12, SIZE, SIZE, 3)).astype(np.uint8)
    sound = rng.normal(size=(12, 10, 384)).astype(np.float32)
    score = score_actor(speaker, [Subject("one", shown, sound, rng.uniform(size=12).astype(np.float32))])
    assert score.row("ours").correlation is not None
