"""Every kind of picture that a person may bring is taken or refused in one clear line."""

from __future__ import annotations

import os
import struct
import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin

from cast_maker import face, png_header, write_face
from talent_factory.core.errors import PortraitError
from talent_factory.datagen import portrait as subject
from talent_factory.datagen.portrait import normalise, save_portrait


def _pixel(image: Image.Image, x: float, y: float) -> tuple[int, int, int]:
    value = image.getpixel((int(x * image.width), int(y * image.height)))
    assert isinstance(value, tuple)
    return value[0], value[1], value[2]


def _near(one: tuple[int, ...], other: tuple[int, ...], by: int = 12) -> bool:
    return all(abs(a - b) <= by for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "tiff", "gif", "avif"])
def test_plain_formats_are_read_without_a_note(tmp_path: Path, suffix: str) -> None:
    options = {"quality": 95} if suffix in ("jpg", "webp", "avif") else {}
    made = normalise(write_face(tmp_path / f"face.{suffix}", **options))
    assert made.image.mode == "RGB"
    assert made.image.size == (320, 300)
    assert made.notes == ()
    assert _near(_pixel(made.image, 0.5, 0.45), (235, 200, 170))


def test_heic_is_read(tmp_path: Path) -> None:
    path = tmp_path / "face.heic"
    pillow_heif.from_pillow(face()).save(path, quality=90)
    assert _near(_pixel(normalise(path).image, 0.5, 0.45), (235, 200, 170))


def test_heic_without_its_reader_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "face.heic"
    pillow_heif.from_pillow(face()).save(path)
    monkeypatch.setattr(subject, "find_spec", lambda name: None)
    with pytest.raises(PortraitError, match="HEIC") as caught:
        normalise(path)
    assert "pillow-heif" in caught.value.remedy


def test_missing_folder_empty_and_foreign_files_are_refused(tmp_path: Path) -> None:
    empty = tmp_path / "empty.png"
    empty.touch()
    text = tmp_path / "text.png"
    text.write_text("this is no picture, whatever its name says\n" * 50)
    dangling = tmp_path / "link.png"
    dangling.symlink_to(tmp_path / "nowhere.png")
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    loop = tmp_path / "loop.png"
    loop.symlink_to(loop)
    cases = {
        tmp_path / "missing.png": "no such file",
        tmp_path: "a folder",
        empty: "empty",
        text: "not an image",
        dangling: "points to nothing",
        pipe: "regular file",
        loop: "cannot be opened",
        tmp_path / ("x" * 300): "cannot be opened",
    }
    for path, words in cases.items():
        with pytest.raises(PortraitError, match=words) as caught:
            normalise(path)
        assert caught.value.remedy
        assert "\n" not in caught.value.message


def test_a_link_to_a_picture_is_a_picture(tmp_path: Path) -> None:
    link = tmp_path / "link.png"
    link.symlink_to(write_face(tmp_path / "face.png"))
    assert normalise(link).image.size == (320, 300)


def test_an_executable_format_outside_the_list_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "face.eps"
    face().save(path)
    with pytest.raises(PortraitError, match="not an image of a kind"):
        normalise(path)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "gif", "tiff", "avif"])
def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str) -> None:
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (200, 200, 3), dtype=np.uint8))
    path = tmp_path / f"noise.{suffix}"
    noise.save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(PortraitError, match=r"damaged|not an image"):
        normalise(path)


def test_a_truncated_heic_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "noise.heic"
    pillow_heif.from_pillow(face()).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(PortraitError):
        normalise(path)


def test_one_pixel_and_thumbnails_are_refused_and_small_ones_noted(tmp_path: Path) -> None:
    for size in ((1, 1), (63, 200), (200, 63)):
        with pytest.raises(PortraitError, match="too small"):
            normalise(write_face(tmp_path / "small.png", size))
    assert "small" in normalise(write_face(tmp_path / "warned.png", (64, 64))).notes[0]
    assert normalise(write_face(tmp_path / "fine.png", (256, 256))).notes == ()


def test_a_strip_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PortraitError, match="long and narrow"):
        normalise(write_face(tmp_path / "strip.png", (1000, 100)))


@pytest.mark.parametrize("size", [(30_000, 30_000), (10_000, 9_000), (8_001, 8_000)])
def test_a_bomb_is_refused_from_its_header(tmp_path: Path, size: tuple[int, int]) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header(*size))
    assert path.stat().st_size < 200
    with pytest.raises(PortraitError, match=r"megapixels|too many pixels") as caught:
        normalise(path)
    assert "2048" in caught.value.remedy


def test_a_file_of_too_many_bytes_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    with open(path, "wb") as stream:
        stream.truncate(subject.MAX_BYTES + 1)
    with pytest.raises(PortraitError, match="MiB"):
        normalise(path)


def test_cmyk_is_converted_with_a_note(tmp_path: Path) -> None:
    path = tmp_path / "print.jpg"
    face().convert("CMYK").save(path, quality=95)
    made = normalise(path)
    assert made.image.mode == "RGB"
    assert "CMYK" in made.notes[0]
    assert _near(_pixel(made.image, 0.5, 0.45), (235, 200, 170), by=20)


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_sixteen_bit_grey_keeps_its_tones(tmp_path: Path, suffix: str) -> None:
    ramp = np.tile(np.linspace(0, 65535, 256).astype(np.uint16), (256, 1))
    path = tmp_path / f"deep.{suffix}"
    Image.fromarray(ramp).save(path)
    made = normalise(path)
    assert "16 bits" in " ".join(made.notes)
    tones = np.asarray(made.image)[128, :, 0].astype(int)
    assert abs(tones - np.arange(256)).max() <= 1


def test_sixteen_bit_colour_is_noted(tmp_path: Path) -> None:
    import cv2

    deep = np.asarray(face(), np.uint16)[..., ::-1] * 257
    path = tmp_path / "deep.png"
    path.write_bytes(cv2.imencode(".png", deep)[1].tobytes())
    made = normalise(path)
    assert made.notes == ("16 bits a channel reduced to 8",)
    assert _near(_pixel(made.image, 0.5, 0.45), (235, 200, 170))


def test_float_pictures_are_read(tmp_path: Path) -> None:
    path = tmp_path / "float.tiff"
    Image.fromarray(np.tile(np.linspace(0, 1, 128, dtype=np.float32), (128, 1))).save(path)
    assert _pixel(normalise(path).image, 0.99, 0.5)[0] > 250


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "avif"])
def test_of_an_animation_the_first_frame_is_used(tmp_path: Path, suffix: str) -> None:
    frames = [face(), Image.new("RGB", (320, 300), "navy"), Image.new("RGB", (320, 300), "red")]
    path = tmp_path / f"moving.{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=80)
    made = normalise(path)
    assert "3 frames" in made.notes[0]
    assert _near(_pixel(made.image, 0.5, 0.45), (235, 200, 170), by=20)


@pytest.mark.parametrize(
    ("mode", "suffix"), [("P", "png"), ("LA", "png"), ("1", "png"), ("L", "png"), ("PA", "tiff")]
)
def test_other_modes_become_rgb(tmp_path: Path, mode: str, suffix: str) -> None:
    path = tmp_path / f"mode.{suffix}"
    picture = face().convert("LA").convert("PA") if mode == "PA" else face().convert(mode)
    picture.save(path)
    assert normalise(path).image.mode == "RGB"


def test_transparency_is_put_on_light_grey_whatever_hides_below(tmp_path: Path) -> None:
    picture = face().convert("RGBA")
    alpha = Image.new("L", picture.size, 255)
    alpha.paste(0, (0, 0, 60, picture.height))
    picture.putalpha(alpha)
    path = tmp_path / "cut.png"
    picture.save(path)
    made = normalise(path)
    assert _pixel(made.image, 0.05, 0.5) == (224, 224, 224)
    assert "transparent" in made.notes[0]
    indexed = picture.quantize()
    indexed.save(tmp_path / "indexed.png")
    assert _near(_pixel(normalise(tmp_path / "indexed.png").image, 0.05, 0.5), (224, 224, 224))


def test_a_wholly_transparent_picture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ghost.png"
    Image.new("RGBA", (200, 200), (10, 20, 30, 0)).save(path)
    with pytest.raises(PortraitError, match="transparent") as caught:
        normalise(path)
    assert str(path) in caught.value.message


def test_a_picture_of_one_colour_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "wall.png"
    Image.new("RGB", (300, 300), "gray").save(path)
    assert any("flat colour" in note for note in normalise(path).notes)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_turns_the_picture_upright(tmp_path: Path, orientation: int) -> None:
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = face().transpose(turns[orientation]) if orientation > 1 else face()
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.jpg"
    stored.save(path, exif=exif, quality=95)
    made = normalise(path)
    assert made.image.size == (320, 300)
    assert _near(_pixel(made.image, 0.5, 0.95), (190, 60, 60), by=30)
    assert bool(made.notes) == (orientation > 1)


def test_damaged_exif_does_not_cost_the_portrait(tmp_path: Path) -> None:
    path = tmp_path / "odd.jpg"
    face().save(path, exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x12\x01\x03\0" * 9)
    assert normalise(path).image.size == (320, 300)


def test_a_foreign_profile_is_brought_to_srgb(tmp_path: Path) -> None:
    path = tmp_path / "lab.tiff"
    lab = ImageCms.profileToProfile(
        face(), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert lab is not None
    lab.save(path)
    assert _near(_pixel(normalise(path).image, 0.5, 0.45), (235, 200, 170))


def test_an_srgb_profile_changes_nothing_and_a_broken_one_is_ignored(tmp_path: Path) -> None:
    good = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    made = normalise(write_face(tmp_path / "tagged.png", icc_profile=good))
    assert made.notes == ()
    assert _near(_pixel(made.image, 0.5, 0.45), (235, 200, 170), by=2)
    made = normalise(write_face(tmp_path / "broken.png", icc_profile=b"no profile at all"))
    assert "ignored" in made.notes[0]


def test_a_linear_profile_is_really_applied(tmp_path: Path) -> None:
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    # every tone curve becomes the identity: type "para", function 0, gamma 1.0 (s15Fixed16)
    count = struct.unpack(">I", profile[128:132])[0]
    for index in range(count):
        name, offset, _ = struct.unpack(">4sII", profile[132 + 12 * index : 144 + 12 * index])
        if name in (b"rTRC", b"gTRC", b"bTRC"):
            profile[offset : offset + 16] = b"para" + b"\0" * 8 + struct.pack(">I", 0x10000)
    path = tmp_path / "linear.png"
    Image.new("RGB", (200, 200), (55, 55, 55)).save(path, icc_profile=bytes(profile))
    value = _pixel(normalise(path).image, 0.5, 0.5)[0]
    assert 120 <= value <= 136  # linear 55/255 is about 128 in sRGB


def test_large_pictures_are_scaled_to_the_longest_side(tmp_path: Path) -> None:
    made = normalise(write_face(tmp_path / "large.jpg", (3000, 1500)))
    assert made.image.size == (2048, 1024)
    assert "scaled down" in made.notes[0]


def test_the_saved_portrait_holds_pixels_only(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8825)[1] = "N"
    exif[0x010F] = "Some Camera"
    path = tmp_path / "phone.jpg"
    face().save(path, exif=exif, comment=b"at home")
    save_portrait(normalise(path), tmp_path / "portrait.png")
    data = (tmp_path / "portrait.png").read_bytes()
    assert b"eXIf" not in data
    assert b"Some Camera" not in data
    assert b"at home" not in data
    with Image.open(tmp_path / "portrait.png") as saved:
        assert saved.size == (320, 300)


def test_the_digest_is_of_the_pixels_not_of_the_container(tmp_path: Path) -> None:
    one = normalise(write_face(tmp_path / "a.png"))
    two = normalise(write_face(tmp_path / "b.bmp"))
    other = normalise(write_face(tmp_path / "c.png", (300, 320)))
    assert one.sha256 == two.sha256
    assert one.sha256 != other.sha256


def test_a_text_bomb_in_a_png_is_refused(tmp_path: Path) -> None:
    facts = PngImagePlugin.PngInfo()
    facts.add_text("a", "x" * (PngImagePlugin.MAX_TEXT_CHUNK + 1), zip=True)
    with pytest.raises(PortraitError):
        normalise(write_face(tmp_path / "wordy.png", pnginfo=facts))


_SEEDS: list[bytes] = []


def _seed_files() -> list[bytes]:
    if not _SEEDS:
        for kind in ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "AVIF"):
            stream = BytesIO()
            face((80, 90)).save(stream, kind)
            _SEEDS.append(stream.getvalue())
        stream = BytesIO()
        pillow_heif.from_pillow(face((80, 90))).save(stream)
        _SEEDS.append(stream.getvalue())
    return _SEEDS


@given(data=st.data())
def test_damage_of_any_kind_gives_a_portrait_or_a_clear_refusal(data: st.DataObject, tmp_path: Path) -> None:
    raw = bytearray(data.draw(st.sampled_from(_seed_files()), label="file"))
    for _ in range(data.draw(st.integers(0, 6), label="hits")):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(1, len(raw)), label="cut")
    path = tmp_path / "damaged.bin"
    path.write_bytes(bytes(raw[:cut]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            made = normalise(path)
        except PortraitError as error:
            refusal = error.message
        else:
            refusal = ""
            assert made.image.mode == "RGB"
            assert max(made.image.size) <= subject.MAX_SIDE
    assert "\n" not in refusal
