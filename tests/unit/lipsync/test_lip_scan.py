"""Scanning a dataset: every clip that lacks a file is named, none is mended in silence."""

from __future__ import annotations

from pathlib import Path

import pytest

from lip_clips import make_clips, npy, png
from talent_factory.core.errors import ClipError
from talent_factory.lipsync.data.scan import check_files, scan, scan_all


def test_a_whole_dataset_is_listed_in_order(tmp_path: Path) -> None:
    metadata = make_clips(tmp_path, (12, 3))
    assert [clip.name for clip in metadata.clips] == ["HDTF-0001", "HDTF-0002"]
    assert metadata.clips[0].frames[10] == "000010"
    assert metadata.image_size == 32
    assert scan(tmp_path / "aligned-frames", extractor="mel-1") == metadata
    assert scan(tmp_path).extractor == "mel-1", "what metadata.npz said before is lost"


def test_frames_without_leading_zeros_stand_in_the_order_of_numbers(tmp_path: Path) -> None:
    for number in range(12):
        for folder, suffix, data in (("aligned-frames", "png", png(number)), ("audio", "npy", npy(number))):
            path = tmp_path / folder / "A" / f"{number}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    assert scan(tmp_path).clips[0].frames == tuple(str(n) for n in range(12))


@pytest.mark.parametrize(
    ("gone", "words"),
    [
        (["audio/HDTF-0001/000003.npy"], r"audio/HDTF-0001 lacks 1 files: 000003\.npy"),
        (["aligned-frames/HDTF-0001/000003.png"], r"HDTF-0001 lacks 1 files: 000003\.png"),
        (
            ["audio/HDTF-0001/000003.npy", "aligned-frames/HDTF-0001/000003.png"],
            "1 frames are missing between its first and last, from 000003 on",
        ),
    ],
)
def test_missing_neighbours_are_named_and_refused(tmp_path: Path, gone: list[str], words: str) -> None:
    make_clips(tmp_path)
    for name in gone:
        (tmp_path / name).unlink()
    with pytest.raises(ClipError, match="1 of 2 clips .* are broken; HDTF-0001: .*" + words):
        scan(tmp_path)
    found = scan_all(tmp_path)
    assert list(found.broken) == ["HDTF-0001"]
    assert found.metadata is not None
    assert [clip.name for clip in found.metadata.clips] == ["HDTF-0002"]


def test_a_first_file_of_another_kind_breaks_its_clip(tmp_path: Path) -> None:
    make_clips(tmp_path)
    (tmp_path / "audio" / "HDTF-0001" / "000000.npy").write_bytes(npy(1, (3, 384)))
    (tmp_path / "aligned-frames" / "HDTF-0002" / "000000.png").write_bytes(b"GIF89a" + bytes(40))
    broken = scan_all(tmp_path).broken
    assert "(3, 384)" in broken["HDTF-0001"]
    assert "no PNG" in broken["HDTF-0002"]


def test_clips_of_two_sizes_do_not_mix(tmp_path: Path) -> None:
    make_clips(tmp_path)
    for path in (tmp_path / "aligned-frames" / "HDTF-0002").iterdir():
        path.write_bytes(png(1, 48))
    assert "48 pixels a side" in scan_all(tmp_path).broken["HDTF-0002"]


def test_a_folder_without_clips_or_without_audio_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ClipError, match="holds no folder aligned-frames"):
        scan(tmp_path)
    (tmp_path / "aligned-frames").mkdir()
    with pytest.raises(ClipError, match="no folder of a clip"):
        scan(tmp_path)
    (tmp_path / "aligned-frames" / "A").mkdir()
    with pytest.raises(ClipError, match=r"holds no \.png"):
        scan(tmp_path)
    (tmp_path / "aligned-frames" / "A" / "0.png").write_bytes(png(1))
    with pytest.raises(ClipError, match="audio/A is missing"):
        scan(tmp_path)


def test_metadata_without_its_files_is_told(tmp_path: Path) -> None:
    metadata = make_clips(tmp_path)
    folders = {"image_folder": "aligned-frames", "audio_folder": "audio"}
    assert check_files(metadata, tmp_path, **folders) == {}
    (tmp_path / "audio" / "HDTF_0002" / "000004.npy").unlink()
    told = check_files(metadata, tmp_path, **folders)
    assert told == {"HDTF-0002": "lacks 1 files, the first is audio/HDTF-0002/000004.npy"}


def test_asked_to_every_file_is_read(tmp_path: Path) -> None:
    make_clips(tmp_path, (9, 9, 9, 9))
    picture, late = "aligned-frames/HDTF-{}/000006.png", "audio/HDTF-{}/000005.npy"
    cut, other = tmp_path / picture.format("0001"), tmp_path / picture.format("0003")
    cut.write_bytes(cut.read_bytes()[:-20])
    other.write_bytes(png(1, 48))
    (tmp_path / late.format("0004")).write_bytes(npy(1, (10, 383)))
    assert scan_all(tmp_path).broken == {}
    found = scan_all(tmp_path, every=True)
    assert found.metadata is not None
    assert [clip.name for clip in found.metadata.clips] == ["HDTF-0002"]
    assert "000006.png is no whole PNG" in found.broken["HDTF-0001"]
    assert "48 pixels a side" in found.broken["HDTF-0003"]
    assert "(10, 383)" in found.broken["HDTF-0004"]
