"""From raw videos to a dataset: whole, resumable, never shifted; its features changed as a whole."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from film_maker import empty, film, portrait, steady, tone
from talent_factory.core.errors import Cancelled, ClipError, UsageError
from talent_factory.core.files import sha256_tree
from talent_factory.core.records import read_record
from talent_factory.core.stop import StopSignal
from talent_factory.lipsync.audio.features import open_extractor
from talent_factory.lipsync.audio.wave import read_wave
from talent_factory.lipsync.data.metadata import read_metadata
from talent_factory.lipsync.preprocess import hearing
from talent_factory.lipsync.preprocess.align import Alignment
from talent_factory.lipsync.preprocess.hearing import give_features
from talent_factory.lipsync.preprocess.plan import Settings, find_videos
from talent_factory.lipsync.preprocess.prepare import (
    ClipAlignment,
    Made,
    alignment_path,
    collect_metadata,
    preprocess,
)
from talent_factory.lipsync.preprocess.sheet import write_sheets

_FLASHES = (0.8, 2.6)
_SETTINGS = Settings(size=48, least_seconds=1.0, most_seconds=2.0)


def _speaker(time: float) -> NDArray[Any]:
    """A face that moves; nobody from 1.6 to 2.2 s; a bright patch below the mouth at each flash."""
    if 1.6 - 1e-6 <= time < 2.2 - 1e-6:
        return empty()
    image = portrait(dx=10 * np.sin(2 * time), zoom=1 + 0.05 * np.sin(time))
    lit = any(moment - 1e-6 <= time < moment + 0.039 for moment in _FLASHES)
    if lit:
        image[150:162, 140:184] = 255
    return image


@cache
def _film(folder: Path) -> Path:
    sound = tone(3.6, clicks=[moment + 0.01 for moment in _FLASHES])
    return film(folder / "HDTF_7 take.mkv", _speaker, steady(4), sound=sound)


@pytest.fixture
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film of 4 s with sound of 3.6 s, made once."""
    return _film(tmp_path_factory.getbasetemp() / "films")


@cache
def _dataset(video: Path, folder: Path) -> tuple[Path, Made]:
    (made,) = preprocess([video], folder, _SETTINGS)
    return folder, made


@pytest.fixture
def dataset(video: Path, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Path:
    """A copy of what the film became."""
    whole, _ = _dataset(video, tmp_path_factory.getbasetemp() / "dataset")
    return Path(shutil.copytree(whole, tmp_path / "dataset"))


def _frames(root: Path, clip: str) -> list[NDArray[Any]]:
    return [np.asarray(cv2.imread(str(path))) for path in sorted((root / "aligned-frames" / clip).iterdir())]


def test_a_video_becomes_clips_whose_frames_and_sound_meet(dataset: Path, video: Path) -> None:
    _, made = _dataset(video, dataset.parent)
    assert made.clips == ("HDTF_7-take-0001", "HDTF_7-take-0002")
    metadata = read_metadata(dataset / "metadata.npz")
    assert (metadata.extractor, metadata.image_size) == ("mel-1", 48)
    assert [len(clip.frames) for clip in metadata.clips] == [40, 35]
    for clip, first, flash in zip(metadata.clips, (0, 55), (20, 65), strict=True):
        images = _frames(dataset, clip.name)
        assert {image.shape for image in images} == {(48, 48, 3)}
        brightest = int(np.argmax([(image.min(axis=2) > 200).mean() for image in images]))
        wave = read_wave(dataset / "wav" / f"{clip.name}.wav")
        assert len(wave) == 640 * len(images)
        clicked = int(np.flatnonzero(np.abs(wave) > 0.3)[0] // 640)
        assert brightest == clicked == flash - first
        rows = [np.load(dataset / "audio" / clip.name / f"{name}.npy") for name in clip.frames]
        assert np.array_equal(rows, open_extractor("mel").features(wave))
        assert (rows[0].shape, rows[0].dtype) == ((10, 384), np.float32)


def test_what_was_left_out_is_told_and_the_cuts_are_kept(dataset: Path, video: Path) -> None:
    _, made = _dataset(video, dataset.parent)
    assert made.frames == 75
    assert made.unseen == 15
    assert made.unheard == 10
    kept = read_record(alignment_path(dataset, made.clips[1]), ClipAlignment)
    assert (kept.video, kept.clip.first, len(kept.clip.cuts)) == (video.name, 55, 35)
    truth = 160 + 10 * np.sin(2 * np.arange(55, 90) / 25)
    assert np.abs(np.array([cut.x for cut in kept.clip.cuts]) - truth - 2).max() < 8
    assert all(isinstance(cut, Alignment) and 110 < cut.side < 170 for cut in kept.clip.cuts)


def test_the_same_video_gives_the_same_bytes_and_what_is_lost_comes_back(
    dataset: Path, video: Path, tmp_path: Path
) -> None:
    before = sha256_tree(dataset)
    lost = read_metadata(dataset / "metadata.npz").clips[1].name
    # as a kill leaves it: the second clip's pictures are there, its sound is not
    alignment_path(dataset, lost).unlink()
    shutil.rmtree(dataset / "audio" / lost)
    (dataset / "aligned-frames" / lost / "000003.png").write_bytes(b"half")
    (dataset / "metadata.npz").unlink()
    preprocess([video], dataset, _SETTINGS)
    assert sha256_tree(dataset) == before
    preprocess([video], tmp_path / "anew", _SETTINGS, workers=2)
    assert sha256_tree(tmp_path / "anew") == before


def test_finished_clips_are_not_made_again(dataset: Path, video: Path) -> None:
    times = {path: path.stat().st_mtime_ns for path in dataset.rglob("*.png")}
    preprocess([video], dataset, _SETTINGS)
    assert {path: path.stat().st_mtime_ns for path in dataset.rglob("*.png")} == times


def test_a_stop_keeps_what_is_whole(video: Path, tmp_path: Path) -> None:
    stop = StopSignal()
    stop.request()
    with pytest.raises(Cancelled, match="finished clips are kept"):
        preprocess([video], tmp_path / "out", _SETTINGS, stop=stop)
    assert not (tmp_path / "out" / "metadata.npz").exists()
    assert not any((tmp_path / "out" / "aligned-frames").glob("*"))


def test_one_bad_video_does_not_keep_the_others_from_their_clips(
    dataset: Path, video: Path, tmp_path: Path
) -> None:
    sound = tone(2)
    bad = {
        "nobody": film(tmp_path / "nobody.mp4", lambda time: empty(), steady(2), sound=sound),
        "mute": film(tmp_path / "mute.mp4", lambda time: portrait(), steady(2)),
        "brief": film(
            tmp_path / "brief.mp4", lambda t: portrait() if t < 0.5 else empty(), steady(2), sound=sound
        ),
    }
    (tmp_path / "text.mp4").write_text("no video")
    videos = [*bad.values(), tmp_path / "text.mp4", video]
    made = preprocess(videos, dataset, _SETTINGS)
    says = ("no face was found in 50 frames", "has no sound", "longest 0.5 s", "no readable video", None)
    for item, text in zip(made, says, strict=True):
        assert (item.error is None) if text is None else text in str(item.error)
        assert item.error is None or (item.remedy and "\n" not in item.error)
    assert len(read_metadata(dataset / "metadata.npz").clips) == 2


def test_the_sound_may_lie_beside(tmp_path: Path) -> None:
    from talent_factory.lipsync.audio.wave import write_wave

    video = film(tmp_path / "a.mov", lambda time: portrait(), steady(1.6, 30))
    write_wave(tmp_path / "a.wav", tone(1.6, clicks=[0.81]))
    (made,) = preprocess([video], tmp_path / "out", _SETTINGS)
    assert (made.frames, made.unheard) == (40, 0)
    wave = read_wave(tmp_path / "out" / "wav" / "a-0001.wav")
    assert int(np.flatnonzero(np.abs(wave) > 0.3)[0] // 640) == 20


def test_cut_faces_and_given_boxes_need_no_detector(tmp_path: Path) -> None:
    video = film(tmp_path / "a.mp4", lambda time: empty(96, 96), steady(2), sound=tone(2))
    (made,) = preprocess([video], tmp_path / "center", Settings(size=96, detector="center"))
    image = _frames(tmp_path / "center", made.clips[0])[0][..., ::-1]
    assert np.abs(image.astype(int) - empty(96, 96)).max() < 8
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps([[40, 40, 60, 60]] * 30 + [None] * 20))
    settings = _SETTINGS.model_copy(update={"detector": f"boxes:{boxes}", "least_face": 16})
    (made,) = preprocess([video], tmp_path / "boxes", settings)
    assert (made.frames, made.unseen) == (30, 20)


@pytest.mark.parametrize(
    ("change", "says"),
    [({"size": 64}, "pictures of size 48, not 64"), ({"shift": 0.1}, "made with shift 0.0, not 0.1")],
)
def test_clips_made_differently_are_not_mixed(
    dataset: Path, video: Path, change: dict[str, Any], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        preprocess([video], dataset, _SETTINGS.model_copy(update=change))


def test_another_video_of_the_same_name_is_refused(dataset: Path, video: Path, tmp_path: Path) -> None:
    other = film(tmp_path / video.name, lambda time: portrait(), steady(1.2), sound=tone(1.2))
    (made,) = preprocess([other], dataset, _SETTINGS)
    assert "is not the video that gave" in str(made.error)
    with pytest.raises(UsageError, match="both give clips called"):
        preprocess([other, video], tmp_path / "out", _SETTINGS)


def test_videos_are_found_in_folders(tmp_path: Path) -> None:
    for name in ("b/x.MP4", "a.mkv", "b/.hidden.mp4", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = find_videos([tmp_path, tmp_path / "a.mkv"])
    assert [path.name for path in found] == ["a.mkv", "x.MP4"]
    with pytest.raises(ClipError, match="does not exist"):
        find_videos([tmp_path / "none"])
    (tmp_path / "void").mkdir()
    with pytest.raises(ClipError, match="no video in"):
        find_videos([tmp_path / "void"])


def test_the_sheet_shows_every_clip(dataset: Path) -> None:
    clips = read_metadata(dataset / "metadata.npz").clips
    (path,) = write_sheets(dataset, clips, frames="aligned-frames", waves="wav")
    sheet = cv2.imread(str(path))
    assert sheet is not None
    assert sheet.shape[0] > 2 * 112
    (dataset / "aligned-frames" / clips[0].name / "000000.png").unlink()
    with pytest.raises(ClipError, match=r"000000\.png is missing"):
        write_sheets(dataset, clips, frames="aligned-frames", waves="wav")


class Level:
    """An extractor that says how loud each frame is."""

    def __init__(self, name: str = "level-1", fail_after: int | None = None) -> None:
        self.id, self.left = name, fail_after

    def features(self, wave: NDArray[Any]) -> NDArray[Any]:
        if self.left is not None:
            self.left -= 1
            if self.left < 0:
                raise OSError("the model went away")
        loud = np.abs(wave).reshape(-1, 640).max(axis=1).astype(np.float32)
        return np.broadcast_to(loud[:, None, None], (len(loud), 10, 384))


def test_features_are_changed_as_a_whole(dataset: Path) -> None:
    before = sha256_tree(dataset / "audio")
    with pytest.raises(OSError, match="went away"):
        give_features(dataset, Level(fail_after=1))
    assert sha256_tree(dataset / "audio") == before
    assert read_metadata(dataset / "metadata.npz").extractor == "mel-1"
    made = give_features(dataset, Level(fail_after=1), workers=2)  # one clip is there already
    assert (made.before, made.extractor, made.clips, made.frames) == ("mel-1", "level-1", 2, 75)
    metadata = read_metadata(dataset / "metadata.npz")
    assert metadata.extractor == "level-1"
    row = np.load(dataset / "audio" / metadata.clips[0].name / "000020.npy")
    assert row.shape == (10, 384)
    assert row.min() > 0.5
    assert not list(dataset.glob(".audio-*"))
    assert give_features(dataset, Level(fail_after=0)).changed is False


def test_features_are_those_that_preprocess_made(dataset: Path) -> None:
    give_features(dataset, open_extractor("mel"), again=True)
    (dataset / "audio" / hearing.STAMP).unlink()
    fresh, _ = _dataset_of(dataset)
    assert sha256_tree(dataset / "audio") == sha256_tree(fresh / "audio")


def _dataset_of(dataset: Path) -> tuple[Path, Made]:
    base = next(parent for parent in dataset.parents if (parent / "films").is_dir())
    return _dataset(base / "films" / "HDTF_7 take.mkv", base / "dataset")


def test_a_cut_between_features_and_metadata_is_healed(
    dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(path: Path, metadata: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(hearing, "write_metadata", killed)
        give_features(dataset, Level())
    assert read_metadata(dataset / "metadata.npz").extractor == "mel-1"
    give_features(dataset, Level(fail_after=0))
    assert read_metadata(dataset / "metadata.npz").extractor == "level-1"


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda path: path.unlink(), "1 of 2 clips have no sound"),
        (lambda path: os.truncate(path, 1000), "its 40 frames 1.60 s"),
        (lambda path: path.write_bytes(b"no sound"), "cannot be read"),
    ],
)
def test_sound_that_does_not_fit_changes_nothing(
    dataset: Path, harm: Callable[[Path], object], says: str
) -> None:
    before = sha256_tree(dataset / "audio")
    clip = read_metadata(dataset / "metadata.npz").clips[0].name
    harm(dataset / "wav" / f"{clip}.wav")
    with pytest.raises(ClipError, match=says):
        give_features(dataset, Level())
    assert sha256_tree(dataset / "audio") == before


def test_a_dataset_with_other_features_takes_no_clips(dataset: Path, video: Path) -> None:
    give_features(dataset, Level())
    with pytest.raises(UsageError, match="features of level-1, not mel-1"):
        preprocess([video], dataset, _SETTINGS)


def test_metadata_keeps_clips_of_other_origin(dataset: Path) -> None:
    first, second = read_metadata(dataset / "metadata.npz").clips
    alignment_path(dataset, first.name).unlink()
    assert collect_metadata(dataset, 48, "mel-1").clips == (first, second)
