from __future__ import annotations

import wave as wave_file
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from contract.lip_extractor import babble
from talent_factory.core.errors import ClipError
from talent_factory.lipsync.audio.wave import read_wave, write_wave

av = pytest.importorskip("av")
SR = 16_000


def test_what_was_written_is_read(tmp_path: Path) -> None:
    sound = babble(SR + 77)
    write_wave(tmp_path / "a.wav", sound)
    back = read_wave(tmp_path / "a.wav")
    assert back.dtype == np.float32
    assert back.shape == sound.shape
    assert np.abs(back - sound).max() < 1e-4


def test_loud_samples_are_clipped_not_wrapped(tmp_path: Path) -> None:
    write_wave(tmp_path / "a.wav", np.array([2.0, -2.0, 0.0]))
    assert read_wave(tmp_path / "a.wav").tolist() == pytest.approx([1, -1, 0], abs=1e-4)


def test_stereo_of_another_rate(tmp_path: Path) -> None:
    time = np.arange(44_100) / 44_100
    left, right = 0.4 * np.sin(2 * np.pi * 440 * time), np.zeros(44_100)
    with wave_file.open(str(tmp_path / "a.wav"), "wb") as out:
        out.setnchannels(2)
        out.setsampwidth(2)
        out.setframerate(44_100)
        out.writeframes((np.stack([left, right], 1) * 32767).astype("<i2").tobytes())
    back = read_wave(tmp_path / "a.wav")
    assert abs(len(back) - SR) <= 16
    wanted = 0.2 * np.sin(2 * np.pi * 440 * np.arange(len(back)) / SR)
    assert np.abs(back - wanted)[200:-200].max() < 5e-3


@pytest.mark.parametrize("name", ["a.mp4", "a.mp3", "a.mkv", "a.flac", "a.ogg"])
def test_compressed_sound_begins_where_it_did(tmp_path: Path, name: str) -> None:
    sound = babble(2 * SR)
    _encode(
        tmp_path / name, sound, {"mp4": "aac", "mp3": "mp3", "mkv": "aac", "flac": "flac", "ogg": "libopus"}
    )
    back = read_wave(tmp_path / name)
    assert abs(len(back) - len(sound)) < SR // 5
    assert abs(_offset(sound, back)) <= 16  # a millisecond


def test_a_track_that_begins_late_is_silent_before(tmp_path: Path) -> None:
    sound = babble(2 * SR)
    _encode(tmp_path / "a.mkv", sound, {"mkv": "pcm_s16le"}, late=0.5)
    back = read_wave(tmp_path / "a.mkv")
    assert not back[: SR // 2 - 100].any()
    assert abs(_offset(sound, back) - SR // 2) <= 16


@pytest.mark.parametrize("late", [0.0, 0.5])
def test_every_rate_counts_from_one_origin(tmp_path: Path, late: float) -> None:
    """The sound track of a video and the features of its mouth are read at two rates."""
    _encode(tmp_path / "a.mkv", babble(2 * SR), {"mkv": "pcm_s16le"}, late=late, gap=(1.0, 1.2))
    slow, fast = read_wave(tmp_path / "a.mkv"), read_wave(tmp_path / "a.mkv", rate=3 * SR)
    assert abs(len(fast) - 3 * len(slow)) <= 64
    assert abs(_offset(slow, fast[1::3])) <= 1


def test_a_gap_is_silence_and_shifts_nothing(tmp_path: Path) -> None:
    sound = babble(3 * SR)
    _encode(tmp_path / "a.mkv", sound, {"mkv": "pcm_s16le"}, gap=(1.0, 1.5))
    back = read_wave(tmp_path / "a.mkv")
    assert abs(len(back) - len(sound)) < 200
    assert not back[int(1.08 * SR) : int(1.48 * SR)].any()
    tail = slice(int(1.6 * SR), int(2.9 * SR))
    assert np.abs(back[tail] - sound[tail]).max() < 0.02


def test_bad_files_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(ClipError, match="not a file"):
        read_wave(tmp_path / "none.wav")
    (tmp_path / "text.wav").write_text("no sound at all", "utf-8")
    with pytest.raises(ClipError, match="cannot be read"):
        read_wave(tmp_path / "text.wav")
    _silent_film(tmp_path / "film.mp4")
    with pytest.raises(ClipError, match="no sound"):
        read_wave(tmp_path / "film.mp4")


def _encode(
    path: Path,
    sound: NDArray[np.float32],
    codecs: dict[str, str],
    *,
    late: float = 0.0,
    gap: tuple[float, float] | None = None,
) -> None:
    codec = codecs[path.suffix[1:]]
    rate = 48_000 if codec == "libopus" else SR
    with av.open(str(path), "w") as container:
        if late or gap:
            film = container.add_stream("mpeg4", rate=25)
            film.width = film.height = 32
            film.pix_fmt = "yuv420p"
        stream = container.add_stream(codec, rate=rate, layout="mono")
        if late or gap:
            for _ in range(5):
                picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
                container.mux(film.encode(picture))
            container.mux(film.encode(None))
        resampler = av.AudioResampler(format=stream.format, layout="mono", rate=rate)
        for start in range(0, len(sound), 1024):
            piece = (sound[start : start + 1024] * 32767).astype(np.int16)[None]
            if gap and gap[0] <= start / SR < gap[1]:
                continue
            frame = av.AudioFrame.from_ndarray(piece, format="s16", layout="mono")
            frame.sample_rate = SR
            frame.time_base = Fraction(1, SR)
            frame.pts = start + round(late * SR)
            for ready in [frame] if rate == SR and codec == "pcm_s16le" else resampler.resample(frame):
                container.mux(stream.encode(ready))
        if codec != "pcm_s16le":
            for ready in resampler.resample(None):
                container.mux(stream.encode(ready))
        container.mux(stream.encode(None))


def _silent_film(path: Path) -> None:
    with av.open(str(path), "w") as container:
        film = container.add_stream("mpeg4", rate=25)
        film.width = film.height = 32
        film.pix_fmt = "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        container.mux(film.encode(frame))
        container.mux(film.encode(None))


def _offset(sound: NDArray[np.float32], back: NDArray[np.float32]) -> int:
    """Samples by which `back` is late."""
    size = 1 << (len(sound) + len(back)).bit_length()
    product = np.fft.irfft(np.fft.rfft(back, size) * np.conj(np.fft.rfft(sound, size)), size)
    place = int(product.argmax())
    return place - size if place > size // 2 else place
