"""A picture or a video says a recording: what changes, what stays, and in step with the sound."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from talent_factory.core.errors import ClipError, FileError, UsageError
from talent_factory.lipsync.actor import ActorCard, save_actor
from talent_factory.lipsync.animate.ahead import ahead
from talent_factory.lipsync.animate.blend import changed, face_alpha, match_colours
from talent_factory.lipsync.animate.ear import Ear
from talent_factory.lipsync.animate.faces import find_alignments
from talent_factory.lipsync.animate.film import Film, Still
from talent_factory.lipsync.animate.gate import gate_of, loud_rows
from talent_factory.lipsync.animate.mux import AUDIO_RATE, movie, read_origin
from talent_factory.lipsync.animate.perform import Wish, animate, parse_box, parse_rate
from talent_factory.lipsync.animate.speaker import Speaker, open_speaker
from talent_factory.lipsync.animate.stage import Stage
from talent_factory.lipsync.animate.stream import Stream
from talent_factory.lipsync.animate.timeline import (
    Moment,
    frame_count,
    moment_of,
    source_at,
    there_and_back,
)
from talent_factory.lipsync.audio.conditioner import AudioConditioner
from talent_factory.lipsync.audio.features import MelExtractor
from talent_factory.lipsync.audio.wave import read_wave, write_wave
from talent_factory.lipsync.codec import open_codec
from talent_factory.lipsync.masks import FaceMask
from talent_factory.lipsync.models.unet import build_unet
from talent_factory.lipsync.preprocess.align import Face

SIZE = 32
CONFIG: dict[str, Any] = {
    "sample_size": 4, "block_out_channels": [16, 16], "layers_per_block": 1, "attention_head_dim": 2,
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"], "norm_num_groups": 4,
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"], "cross_attention_dim": 384,
}  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, codec = tmp_path_factory.mktemp("actor"), open_codec("dct8")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = build_unet(CONFIG, codec)
    card = ActorCard(
        image_size=SIZE, codec="dct8", codec_id=codec.id, extractor="mel", extractor_id="mel-1",
        audio_left=2, audio_right=2, preset="test",
    )  # fmt: skip
    save_actor(folder, unet, card)
    return folder


@pytest.fixture(scope="module")
def speaker(model: Path) -> Speaker:
    return open_speaker(model)


def noise(seconds: float, seed: int = 0) -> NDArray[np.float32]:
    sound = np.random.default_rng(seed).normal(size=round(seconds * 16000)) * 0.1
    return sound.astype(np.float32)


def portrait(height: int = 96, width: int = 80) -> NDArray[np.uint8]:
    rows = np.linspace(30, 220, height)[:, None, None]
    tint = np.array([1.0, 0.8, 0.6])
    return np.broadcast_to(rows * tint, (height, width, 3)).astype(np.uint8).copy()


def write_png(path: Path, image: NDArray[Any]) -> Path:
    assert cv2.imwrite(str(path), np.ascontiguousarray(image[:, :, ::-1]))
    return path


# -- when


def test_at_25_a_second_each_frame_has_its_own_row() -> None:
    assert [moment_of(k, Fraction(25)) for k in range(3)] == [Moment(0, 0), Moment(0, 1), Moment(0, 2)]


@pytest.mark.parametrize("rate", [Fraction(24), Fraction(30000, 1001), Fraction(50), Fraction(60)])
def test_at_other_rates_the_middle_of_a_frame_meets_the_middle_of_its_row(rate: Fraction) -> None:
    for index in range(5, 400):
        moment = moment_of(index, rate)
        middle = (160 * moment.phase + 640 * moment.row + 320) / 16000
        assert abs(middle - float((index + Fraction(1, 2)) / rate)) <= 0.00501


def test_frames_cover_the_sound() -> None:
    assert frame_count(16000, Fraction(25)) == 25
    assert frame_count(16001, Fraction(25)) == 26
    assert frame_count(16000, Fraction(30000, 1001)) == 30


def test_a_film_that_ends_runs_back_without_a_jump() -> None:
    times = [there_and_back(t / 10, 1.0) for t in range(45)]
    assert max(abs(a - b) for a, b in pairwise(times)) < 0.1001
    assert min(times) >= 0
    assert max(times) <= 1
    assert source_at([0.0, 0.1, 0.5], 0.49) == 1


# -- what is heard


@pytest.mark.parametrize("piece", [97, 640, 5000])
def test_sound_in_pieces_is_heard_as_the_whole(piece: int) -> None:
    wave, listen = noise(2.03), AudioConditioner(2, 2, "mel-1")
    rate = Fraction(30)
    moments = [moment_of(k, rate) for k in range(frame_count(len(wave), rate))]
    phases = {moment.phase for moment in moments}
    whole = Ear(MelExtractor(), listen, phases=phases)
    whole.push(wave, last=True)
    ear, due, heard = Ear(MelExtractor(), listen, phases=phases), 0, []
    for start in range(0, len(wave), piece):
        ear.push(wave[start : start + piece])
        while due < len(moments) and ear.ready(moments[due]):
            heard.append(ear.window(moments[due]))
            due += 1
        # never later than the window and 40 ms of its own
        assert due >= int((start + piece) / 16000 * rate) - 6 or start + piece >= len(wave)
    ear.push(np.zeros(0, np.float32), last=True)
    heard += [ear.window(moment) for moment in moments[due:]]
    for moment, (window, gate) in zip(moments, heard, strict=True):
        expected, open_ = whole.window(moment)
        np.testing.assert_allclose(window, expected, atol=2e-5)
        assert gate == open_


def test_windows_are_those_of_training() -> None:
    wave, listen, extractor = noise(1.0), AudioConditioner(2, 2, "mel-1"), MelExtractor()
    ear = Ear(extractor, listen, phases={0})
    ear.push(wave, last=True)
    features = extractor.features(wave)
    for index in range(25):
        window, _ = ear.window(moment_of(index, Fraction(25)))
        assert np.array_equal(window, listen.window(features, first=0, index=index, length=25))


def test_the_gate_opens_before_sound_and_closes_after_it() -> None:
    wave = np.zeros(16000, np.float32)
    wave[640 * 8 : 640 * 10] = 0.2
    gate = gate_of(loud_rows(wave))
    assert gate[5] == 0
    assert gate[6:12].tolist() == [1.0] * 6
    assert 1 > gate[12] > gate[13] > gate[14] == 0


# -- where the face is


class Places:
    """A detector that knows where the face is in each frame, or that there is none."""

    id, every = "places", 5

    def __init__(self, *present: bool) -> None:
        self.present, self.asked = present, 0

    def find(self, image: NDArray[Any], *, index: int = 0, near: Face | None = None) -> tuple[Face, ...]:
        self.asked += 1
        if not self.present[min(index, len(self.present) - 1)]:
            return ()
        x = 40.0 + 0.3 * index
        return (Face(left=x - 20, top=10, right=x + 20, bottom=60, bridge=(x, 36), chin=(x, 60)),)


def film(path: Path, frames: int, rate: Fraction = Fraction(25)) -> Film:
    with movie(path, size=(80, 96), rate=rate, origin={}, crf=1) as out:
        for k in range(frames):
            image = portrait()
            image[:, k : k + 6] = (250, 20, 20)
            out.show(image)
        out.hear(np.zeros(round(frames / rate * AUDIO_RATE), np.float32))
    return Film(path)


def test_frames_without_a_face_keep_their_places(tmp_path: Path) -> None:
    present = [True] * 20 + [False] * 15 + [True] * 15
    found = find_alignments(film(tmp_path / "f.mp4", 50), Places(*present))
    assert [cut is not None for cut in found] == present
    assert found[40] is not None
    assert found[40].x == pytest.approx(40 + 0.3 * 40, abs=0.7)


def test_a_short_gap_is_bridged_and_few_frames_are_asked(tmp_path: Path) -> None:
    present = [True] * 50
    detector = Places(*present)
    assert all(find_alignments(film(tmp_path / "f.mp4", 50), detector))
    assert detector.asked < 16
    present[22:27] = [False] * 5
    assert all(find_alignments(Film(tmp_path / "f.mp4"), Places(*present)))


def test_no_face_at_all_is_one_clear_line() -> None:
    with pytest.raises(ClipError, match="no face was found") as caught:
        find_alignments(Still(portrait()), Places(False))
    assert "--box" in caught.value.remedy


# -- what is read and written


def test_a_film_is_read_from_any_place_forward_and_backward(tmp_path: Path) -> None:
    source = film(tmp_path / "f.mp4", 70)
    frames = list(source.frames())
    assert len(frames) == 70
    assert source.rate == 25
    order = [*range(70), *range(69, -1, -1), 40, 3, 4, 69]
    assert all(np.array_equal(source.frame(k), frames[k]) for k in order)
    # the stripe says which frame it is
    assert frames[30][48, 33, 0] > 200 > frames[30][48, 60, 0]


def test_sound_comes_back_where_it_was(tmp_path: Path) -> None:
    sound = np.zeros(AUDIO_RATE, np.float32)
    for at in (3000, 20000, 41000):
        sound[at : at + 300] = noise(300 / 16000, seed=at) * 3
    path = tmp_path / "v.mp4"
    with movie(path, size=(64, 64), rate=Fraction(25), origin={"ai_generated": True}) as out:
        for k in range(25):
            out.show(np.full((64, 64, 3), k * 5, np.uint8))
            out.hear(sound[k * 1920 : (k + 1) * 1920])
    back = read_wave(path, rate=AUDIO_RATE)[: len(sound)]
    spectrum = np.fft.rfft(back, 2 * AUDIO_RATE) * np.conj(np.fft.rfft(sound, 2 * AUDIO_RATE))
    lag = int(np.argmax(np.fft.irfft(spectrum)))
    assert min(lag, 2 * AUDIO_RATE - lag) <= 2  # samples
    assert read_origin(path) == {"ai_generated": True}
    data = path.read_bytes()
    assert data.find(b"moov") < data.find(b"mdat")


def test_what_a_killed_video_left_goes_with_the_next_one(tmp_path: Path) -> None:
    (tmp_path / ".tmp-4194999-0123abcd-v.mp4").write_bytes(b"half")
    with movie(tmp_path / "v.mp4", size=(64, 64), rate=Fraction(25), origin={}) as out:
        out.show(np.zeros((64, 64, 3), np.uint8))
    assert [path.name for path in tmp_path.iterdir()] == ["v.mp4"]


def test_an_error_leaves_no_file(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError),
        movie(tmp_path / "v.mp4", size=(64, 64), rate=Fraction(25), origin={}) as out,
    ):
        out.show(np.zeros((64, 64, 3), np.uint8))
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


# -- how it is put back


@pytest.mark.parametrize("kind", ["half", "rectangle", "ellipse"])
def test_the_made_face_shows_where_it_was_covered_and_fades_at_the_rim(kind: Any) -> None:
    mask = FaceMask(kind=kind)
    alpha, covered = face_alpha(mask, 64), mask.covered(64, 64).numpy()
    assert (alpha[~covered] == 0).all()
    assert alpha[48, 32] == 1
    assert max(alpha[-1].max(), alpha[:, 0].max(), alpha[:, -1].max()) == 0
    assert np.abs(np.diff(alpha, axis=0)).max() < 0.5


def test_colours_meet_all_along_the_rim_and_details_stay() -> None:
    mask, true = FaceMask(), portrait(64, 64)
    tinted = np.clip(true + np.array([18, -12, 9]), 0, 255).astype(np.uint8)
    shows = face_alpha(mask, 64) > 0
    near = match_colours(tinted, true, mask).astype(int)
    assert np.abs(near - true)[shows].max() <= 2
    assert np.abs(tinted.astype(int) - true)[shows].min() > 5
    tinted[46:50, 26:38] = 0  # a mouth, which the true face does not have
    mouth = match_colours(tinted, true, mask)
    assert mouth[46:50, 26:38].max() < 25
    assert np.abs(mouth.astype(int) - near)[40:44, 20:44].max() <= 2


@pytest.mark.parametrize("size", [64, 256])
def test_a_collar_that_moved_does_not_tint_the_neck(size: int) -> None:
    skin, shirt, light = np.array([107, 73, 52]), np.array([110, 80, 130]), np.array([16, 12, 9])
    made = np.broadcast_to(skin, (size, size, 3)).astype(np.uint8).copy()
    true = made.copy()
    made[round(0.97 * size) :] = shirt
    true[round(0.94 * size) :] = shirt  # the head nodded: a collar where the made face has its neck
    neck = slice(round(0.8 * size), round(0.9 * size)), slice(round(0.3 * size), round(0.7 * size))
    mask = FaceMask(kind="rectangle", side=0.15, below=0.0)
    assert np.abs(match_colours(made, true, mask)[neck].astype(int) - skin).max() <= 1
    # and a lamp that was turned up in between is met all the same
    bright = np.clip(true.astype(int) + light, 0, 255).astype(np.uint8)
    assert np.abs(match_colours(made, bright, mask)[neck].astype(int) - skin - light).max() <= 2


# -- the whole


def test_only_the_lower_face_changes_and_silence_is_all_alike(tmp_path: Path, speaker: Speaker) -> None:
    wave = noise(2.0)
    wave[16000:] = 0
    write_wave(tmp_path / "a.wav", wave)
    picture = write_png(tmp_path / "p.png", portrait())
    wish = Wish(picture, tmp_path / "a.wav", tmp_path / "o.mp4", box=(20.0, 20.0, 60.0, 70.0))
    made = animate(wish, speaker)
    assert (made.frames, made.width, made.height, made.without_face) == (50, 80, 96, 0)
    frames = np.stack(list(Film(wish.out).frames())).astype(int)
    # the box's bridge is at 45.5, so all above stays
    assert np.abs(frames[:, :40] - portrait()[:40]).mean() < 3
    # as made, before the encoder adds its own flicker
    cuts = find_alignments(Still(portrait()), Places(True))
    made_ = np.stack(list(Stream(Stage(Still(portrait()), cuts, speaker), speaker).finish_of(wave)))
    assert made_[:24].std(axis=0).max() > 0.5
    assert made_[32:].std(axis=0).max() == 0
    origin = read_origin(wish.out)
    assert origin is not None
    assert origin["ai_generated"] is True
    assert origin["model_sha256"] == speaker.card.unet_sha256


def test_sound_that_begins_late_in_its_file_does_so_in_the_video(tmp_path: Path, speaker: Speaker) -> None:
    """The mouth hears it from the file's time 0 on, and so must the viewer."""
    sound, late = noise(1.0), 0.4
    with av.open(str(tmp_path / "late.mkv"), "w") as container:
        film_ = container.add_stream("mpeg4", rate=25)
        track = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        film_.width = film_.height = 32
        film_.pix_fmt = "yuv420p"
        container.mux(film_.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))))
        container.mux(film_.encode(None))
        piece = (sound * 32767).astype(np.int16)[None]
        frame = av.AudioFrame.from_ndarray(piece, format="s16", layout="mono")
        frame.sample_rate, frame.time_base, frame.pts = 16000, Fraction(1, 16000), round(late * 16000)
        container.mux(track.encode(frame))
        container.mux(track.encode(None))
    picture = write_png(tmp_path / "p.png", portrait())
    wish = Wish(picture, tmp_path / "late.mkv", tmp_path / "o.mp4", box=(20.0, 20.0, 60.0, 70.0))
    assert animate(wish, speaker).frames == 35
    heard = np.abs(read_wave(wish.out))
    assert heard[: round((late - 0.05) * 16000)].max() < 0.01
    assert heard[round((late + 0.02) * 16000) :][:1600].max() > 0.05


def test_a_stream_gives_the_frames_of_the_file_and_is_80_ms_behind(speaker: Speaker) -> None:
    wave, cuts = noise(1.3), find_alignments(Still(portrait()), Places(True))

    def stream() -> Stream:
        return Stream(Stage(Still(portrait()), cuts, speaker), speaker)

    whole = list(stream().finish_of(wave))
    flow, frames, behind = stream(), [], 0
    for start in range(0, len(wave), 700):
        frames += list(flow.push(wave[start : start + 700]))
        behind = max(behind, (start + 700) // 640 - len(frames))
    frames += list(flow.finish())
    assert len(frames) == len(whole) == 33
    assert behind <= 3  # its own 40 ms and 80 ms after it
    assert max(int(np.abs(a.astype(int) - b).max()) for a, b in zip(frames, whole, strict=True)) <= 1


def test_a_video_of_another_rate_goes_back_and_forth_until_the_sound_ends(
    tmp_path: Path, speaker: Speaker
) -> None:
    film(tmp_path / "in.mp4", 20, Fraction(30))
    write_wave(tmp_path / "a.wav", noise(1.5))
    wish = Wish(
        tmp_path / "in.mp4", tmp_path / "a.wav", tmp_path / "o.mp4", moving=True, box=(20.0, 20.0, 60.0, 70.0)
    )
    made = animate(wish, speaker)
    assert (made.rate, made.frames) == (30.0, 45)
    stripe = [
        int(np.argmax(frame[4, :, 0].astype(int) - frame[4, :, 2])) for frame in Film(wish.out).frames()
    ]
    assert stripe[18] > stripe[5]
    assert stripe[22] > stripe[30]  # back again
    assert stripe[44] > stripe[40]


@pytest.mark.parametrize(
    ("text", "rate"), [("25", Fraction(25)), ("29.97", Fraction(30000, 1001)), ("12.5", Fraction(25, 2))]
)
def test_rates_are_read(text: str, rate: Fraction) -> None:
    assert parse_rate(text) == rate


def test_bad_wishes_are_refused(tmp_path: Path, speaker: Speaker) -> None:
    write_wave(tmp_path / "a.wav", noise(0.2))
    picture = write_png(tmp_path / "p.png", portrait())
    (tmp_path / "x.png").write_bytes(b"no picture")
    for text in ("1,2,3", "a,b,c,d"):
        with pytest.raises(UsageError):
            parse_box(text)
    with pytest.raises(UsageError):
        parse_rate("fast")
    with pytest.raises(FileError, match=r"x\.png"):
        animate(Wish(tmp_path / "x.png", tmp_path / "a.wav", tmp_path / "o.mp4"), speaker)
    with pytest.raises(ClipError, match=r"p\.png"):
        animate(Wish(picture, picture, tmp_path / "o.mp4"), speaker)
    with pytest.raises(ClipError, match="no face"):
        animate(Wish(picture, tmp_path / "a.wav", tmp_path / "o.mp4"), speaker)
    assert not (tmp_path / "o.mp4").exists()


def test_what_does_not_agree_with_training_is_refused(model: Path, speaker: Speaker, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "actor"
    shutil.copytree(model, copy)
    card = (copy / "lipsync.json").read_text().replace('"mel-1"', '"whisper:0123456789ab"')
    (copy / "lipsync.json").write_text(card)
    with pytest.raises(FileError, match="trained with the extractor whisper"):
        open_speaker(copy)
    save_actor(tmp_path / "later", speaker.actor.unet, speaker.card, temporal={"gate": torch.zeros(1)})
    with pytest.raises(FileError, match="temporal weights do not fit"):
        open_speaker(tmp_path / "later")
    with pytest.raises(FileError, match="cannot decode"):
        open_speaker(model, decoder="dct4")


def test_errors_of_the_other_thread_arrive_and_leaving_early_ends_it() -> None:
    def items() -> Any:
        yield 1
        raise ValueError("late")

    flow = ahead(items())
    assert next(flow) == 1
    with pytest.raises(ValueError, match="late"):
        next(flow)
    endless = ahead(iter(int, 1), depth=1)
    assert next(endless) == 0
    endless.close()  # type: ignore[attr-defined]


def test_what_did_not_change_keeps_the_pixels_of_the_picture() -> None:
    true = np.full((64, 64, 3), 120, np.uint8)
    made = true + np.uint8(2)
    assert changed(made, true).max() == 0
    made[44:50, 26:38] = 40
    shown = changed(made, true)
    assert shown[44:50, 26:38].min() > 0.99
    assert shown[:36].max() == 0
    assert np.abs(np.diff(shown, axis=1)).max() < 0.5
