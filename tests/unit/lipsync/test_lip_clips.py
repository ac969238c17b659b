"""Frames and audio of clips: exact from loose files and packs; everything damaged is an error."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lip_clips import make_clips, npy, png
from talent_factory.core.errors import ClipError, FileError, PartialResult, UsageError
from talent_factory.lipsync.data.decode import features, picture
from talent_factory.lipsync.data.loose import LooseClips
from talent_factory.lipsync.data.open import ClipSettings, open_clips
from talent_factory.lipsync.data.pack import Form, pack_clips
from talent_factory.lipsync.data.places import Files


def packed(root: Path, pictures: Form = "png") -> None:
    clips = open_clips(ClipSettings(local=root, packs="never"))
    assert isinstance(clips, LooseClips)
    pack_clips(clips, root, pictures=pictures)


@pytest.mark.parametrize("pictures", ["png", "rgb"])
def test_loose_files_and_packs_hold_the_same(tmp_path: Path, pictures: Form) -> None:
    metadata = make_clips(tmp_path)
    packed(tmp_path, pictures)
    loose = open_clips(ClipSettings(local=tmp_path, packs="never"))
    packs = open_clips(ClipSettings(local=tmp_path))
    assert type(loose) is not type(packs)
    for number, clip in enumerate(metadata.clips):
        count = len(clip.frames)
        assert np.array_equal(loose.audio(number, 0, count), packs.audio(number, 0, count))
        assert packs.audio(number, 2, 5).shape == (3, 10, 384)
        assert packs.audio(number, 2, 5).dtype == np.float32
        for index in range(count):
            assert np.array_equal(loose.frame(number, index), packs.frame(number, index))
    for clips in (loose, packs):
        clips.close()
        clips.close()


def test_audio_keeps_every_bit_in_packs(tmp_path: Path) -> None:
    make_clips(tmp_path)
    # no float16 holds these
    (tmp_path / "audio" / "HDTF-0001" / "000002.npy").write_bytes(npy(1))
    packed(tmp_path)
    loose = open_clips(ClipSettings(local=tmp_path, packs="never"))
    packs = open_clips(ClipSettings(local=tmp_path, packs="always"))
    assert np.array_equal(loose.audio(0, 0, 14), packs.audio(0, 0, 14))
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "packs").iterdir()}
    assert sizes["HDTF-0001.clip"] > 14 * 3840 * 4 > sizes["HDTF-0002.clip"]


def test_packing_again_keeps_what_is_there_and_redoes_what_changed(tmp_path: Path) -> None:
    make_clips(tmp_path)
    loose = open_clips(ClipSettings(local=tmp_path, packs="never"))
    assert isinstance(loose, LooseClips)
    assert pack_clips(loose, tmp_path).clips == 2
    again = pack_clips(loose, tmp_path)
    assert (again.clips, again.kept, again.frames) == (0, 2, 23)
    changed = tmp_path / "aligned-frames" / "HDTF-0001" / "000003.png"
    changed.write_bytes(png(5))
    future = (tmp_path / "packs" / "HDTF-0001.clip").stat().st_mtime_ns + 10**9
    os.utime(changed, ns=(future, future))
    assert pack_clips(loose, tmp_path).clips == 1
    packs = open_clips(ClipSettings(local=tmp_path))
    assert np.array_equal(packs.frame(0, 3), loose.frame(0, 3))


def test_clips_that_cannot_be_packed_are_named_and_the_others_are_packed(tmp_path: Path) -> None:
    make_clips(tmp_path)
    broken = tmp_path / "aligned-frames" / "HDTF-0001" / "000003.png"
    broken.write_bytes(broken.read_bytes()[:-30])
    loose = open_clips(ClipSettings(local=tmp_path, packs="never"))
    assert isinstance(loose, LooseClips)
    with pytest.raises(
        PartialResult, match=r"1 of 2 clips could not be packed: .*000003\.png is no whole PNG"
    ):
        pack_clips(loose, tmp_path)
    assert [path.name for path in (tmp_path / "packs").iterdir()] == ["HDTF-0002.clip"]


def test_damage_in_a_pack_is_found_by_the_frame(tmp_path: Path) -> None:
    make_clips(tmp_path)
    packed(tmp_path)
    path = tmp_path / "packs" / "HDTF-0001.clip"
    whole = path.read_bytes()
    for at, words in ((len(whole) - 5, "frame 000013 is damaged"), (len(whole) // 2, "is damaged")):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        clips = open_clips(ClipSettings(local=tmp_path))
        with pytest.raises(ClipError, match=words):
            clips.audio(0, 0, 14)
            [clips.frame(0, index) for index in range(14)]
        clips.close()
    for data, words in (
        (whole[:-40], "is cut"),
        (whole[:300], "header"),
        (whole[:4], "no clip pack"),
        (b"", "is empty"),
        (whole[:8] + b"\x09" + whole[9:], "format 9"),
        (whole.replace(b'"clip"', b'"clap"', 1), "header"),
    ):
        path.write_bytes(data)
        clips = open_clips(ClipSettings(local=tmp_path, packs="always"))
        with pytest.raises(ClipError, match=words):
            clips.frame(0, 13)
        clips.close()


def test_a_pack_of_other_frames_or_audio_is_refused(tmp_path: Path) -> None:
    make_clips(tmp_path / "a")
    packed(tmp_path / "a")
    make_clips(tmp_path / "b", (11, 9), extractor="whisper:0123")
    os.rename(tmp_path / "a" / "packs", tmp_path / "b" / "packs")
    clips = open_clips(ClipSettings(local=tmp_path / "b"))
    for number in (0, 1):
        with pytest.raises(ClipError, match="other frames or audio"):
            clips.frame(number, 0)


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("aligned-frames/HDTF-0001/000004.png", None, "lacks aligned-frames/HDTF-0001/000004.png"),
        ("aligned-frames/HDTF-0001/000004.png", png(1)[:-20], "000004.png is no whole PNG"),
        ("aligned-frames/HDTF-0001/000004.png", b"", "is no whole PNG"),
        ("aligned-frames/HDTF-0001/000004.png", b"\xff\xd8\xff\xe0" + bytes(50), "is no whole PNG"),
        ("audio/HDTF-0001/000004.npy", None, "lacks audio/HDTF-0001/000004.npy"),
        ("audio/HDTF-0001/000004.npy", npy(2)[:-4], "bytes"),
        ("audio/HDTF-0001/000004.npy", b"", "is no .npy"),
        ("audio/HDTF-0001/000004.npy", npy(2, (10, 383)), r"\(10, 383\)"),
        ("audio/HDTF-0001/000004.npy", npy(2, (384, 10)), r"\(384, 10\)"),
        ("audio/HDTF-0001/000004.npy", npy(2, (10, 5, 384)), r"\(10, 5, 384\)"),
    ],
)
def test_a_missing_or_broken_file_is_named(tmp_path: Path, name: str, data: bytes | None, words: str) -> None:
    make_clips(tmp_path)
    if data is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes(data)
    clips = open_clips(ClipSettings(local=tmp_path))
    with pytest.raises(ClipError, match=words) as caught:
        clips.frame(0, 4)
        clips.audio(0, 2, 7)
    assert "000004" in caught.value.message
    assert "HDTF-0001" in caught.value.message


def _saved(array: np.ndarray, *, pickled: bool = False) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=pickled)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((10, 384), np.int32), "int32"),
        (np.zeros((10, 384), np.complex64), "complex64"),
        (np.full((10, 384), np.nan, np.float32), "not finite"),
        (np.asfortranarray(np.zeros((10, 384), np.float32)), "rows"),
        (np.full((10, 384), None, object), "pickled objects"),
    ],
)
def test_features_of_another_kind_are_refused(array: np.ndarray, words: str) -> None:
    with pytest.raises(ClipError, match=words):
        features(_saved(array, pickled=array.dtype == object), where="x.npy")


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f2", "<f8"])
@pytest.mark.parametrize("shape", [(10, 384), (2, 5, 384), (1, 10, 384), (3840,)])
def test_features_of_all_known_shapes_are_read(dtype: str, shape: tuple[int, ...]) -> None:
    values = np.arange(3840).reshape(shape) / 4
    found = features(_saved(values.astype(dtype)), where="x")
    assert found.dtype == np.float32
    assert found.shape == (10, 384)
    assert np.array_equal(found.reshape(-1), values.astype(dtype).astype(np.float32).reshape(-1))


def _encoded(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_pictures_of_other_kinds() -> None:
    whole = Image.open(io.BytesIO(png(3)))
    for mode in ("RGBA", "P", "L"):
        found = picture(_encoded(whole.convert(mode)), size=None, where="x")
        assert np.array_equal(found, np.asarray(whole.convert(mode).convert("RGB")))
    assert picture(png(3, 64), size=32, where="x").shape == (32, 32, 3)
    for bad in (Image.new("RGB", (32, 30)), Image.new("I;16", (32, 32)), Image.new("RGB", (4100, 4100))):
        with pytest.raises(ClipError):
            picture(_encoded(bad), size=None, where="x")


def test_where_clips_are_has_to_be_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no place"):
        open_clips(ClipSettings())
    with pytest.raises(ClipError, match="is no folder"):
        open_clips(ClipSettings(local=tmp_path / "none"))
    with pytest.raises(FileError, match=r"metadata\.npz does not exist"):
        open_clips(ClipSettings(local=tmp_path))
    make_clips(tmp_path)
    with pytest.raises(ClipError, match="holds no packs/"):
        open_clips(ClipSettings(local=tmp_path, packs="always"))


def test_reading_a_frame_that_a_clip_lacks_never_gives_zeros(tmp_path: Path) -> None:
    metadata = make_clips(tmp_path)
    clips = LooseClips(metadata, Files(local=tmp_path))
    for first, last in ((-1, 2), (12, 16)):
        with pytest.raises(ClipError, match="has no frames"):
            clips.audio(0, first, last)
    with pytest.raises(ClipError, match="has no frame"):
        clips.frame(0, 14)
