"""Turn any picture a person may bring into one clean RGB portrait, or say in one line why that cannot be."""

from __future__ import annotations

import hashlib
import stat
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from talent_factory.core.errors import PortraitError
from talent_factory.core.files import write_bytes
from talent_factory.datagen.colour import to_rgb

MAX_PIXELS = 64_000_000
MAX_BYTES = 64 * 1024 * 1024
MAX_SIDE = 2048
MIN_SIDE = 64
SMALL_SIDE = 256
MAX_RATIO = 4.0

# Formats are an allow-list: Pillow knows some seventy, and each decoder is a door.
_FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF")
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"hevm", b"mif1", b"msf1", b"heif")
_ORIENTATION = 0x0112

# What Pillow and its codecs raise on damaged files; anything else is a fault of ours and must be seen.
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    RuntimeError,
    ArithmeticError,
    LookupError,
    TypeError,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True, slots=True)
class Portrait:
    """One normalised picture: 8-bit sRGB, upright, no alpha, no metadata, long side <= `max_side`.

    `sha256` is taken over the size and the pixels, so the same picture in another container is the same
    portrait. `notes` says, in words for the user, what had to be converted.
    """

    image: Image.Image
    sha256: str
    notes: tuple[str, ...]


def normalise(source: Path, *, max_side: int = MAX_SIDE, min_side: int = MIN_SIDE) -> Portrait:
    """Read `source` as an upright 8-bit sRGB picture with its long side at most `max_side` pixels.

    Convertible oddities (CMYK, 16 bit, palette, alpha, animation, rotation, foreign colour profile) are
    converted and noted. Raises PortraitError for a missing, damaged, unreadable, too small, too large or
    non-image file. A picture of too many pixels is refused from its header, before a pixel is decoded.
    """
    data = _read(source)
    notes: list[str] = []
    with _bombs_are_errors(source), _open(source, data) as picture:
        _check_size(source, picture.size, min_side)
        _note_container(picture, data, notes)
        try:
            picture.load()
            upright = _upright(picture, notes)
            image = to_rgb(upright, notes, where=str(source))
        except PortraitError:
            raise
        except MemoryError as error:
            raise PortraitError(
                f"{source}: not enough memory to decode {_size(picture.size)} pixels",
                remedy=f"scale it down to {max_side} px on the long side",
            ) from error
        except _DAMAGE as error:
            raise _damaged(source, error) from error
    if len(image.getcolors(1) or ()) == 1:
        notes.append("one flat colour: nobody can be seen in it")
    if max(image.size) > max_side:
        before = image.size
        image = _fit(image, max_side)
        notes.append(f"scaled down from {_size(before)} to {_size(image.size)}")
    if min(image.size) < SMALL_SIDE:
        notes.append(f"small: {_size(image.size)} pixels; {SMALL_SIDE} or more on the short side look better")
    return Portrait(image=image, sha256=pixel_digest(image), notes=tuple(notes))


def save_portrait(portrait: Portrait, target: Path) -> None:
    """Write the normalised picture as a PNG that holds pixels only: no EXIF, hence no place or device."""
    write_bytes(target, portrait_png(portrait))


def portrait_png(portrait: Portrait) -> bytes:
    """The bytes that `save_portrait` writes."""
    bare = Image.frombytes("RGB", portrait.image.size, portrait.image.tobytes())
    stream = BytesIO()
    bare.save(stream, format="PNG", compress_level=6)
    return stream.getvalue()


def pixel_digest(image: Image.Image) -> str:
    """sha256 over mode, size and raw pixels of `image`."""
    head = f"{image.mode} {image.width}x{image.height}\n".encode()
    return hashlib.sha256(head + image.tobytes()).hexdigest()


def _read(source: Path) -> bytes:
    """The file's bytes, after checks that need no decoder."""
    try:
        status = source.stat()
    except FileNotFoundError:
        dangling = source.is_symlink()
        raise PortraitError(
            f"{source}: " + ("a link that points to nothing" if dangling else "no such file"),
            remedy="check the path",
        ) from None
    except (OSError, ValueError) as error:
        raise PortraitError(f"{source}: cannot be opened ({error})", remedy="check the path") from error
    if stat.S_ISDIR(status.st_mode):
        raise PortraitError(f"{source}: a folder, not an image", remedy="name one image file in it")
    if not stat.S_ISREG(status.st_mode):
        raise PortraitError(f"{source}: not a regular file", remedy="copy the picture to a plain file")
    if status.st_size == 0:
        raise PortraitError(f"{source}: the file is empty", remedy="copy or download it again")
    if status.st_size > MAX_BYTES:
        raise PortraitError(
            f"{source}: {status.st_size / 2**20:.0f} MiB, more than the {MAX_BYTES // 2**20} MiB allowed",
            remedy="save it as JPEG or PNG with at most 2048 px on the long side",
        )
    try:
        return source.read_bytes()
    except OSError as error:
        raise PortraitError(
            f"{source}: cannot be read ({error.strerror})", remedy="check its rights"
        ) from error


def _open(source: Path, data: bytes) -> Image.Image:
    if _is_heif(data):
        _register_heif(source)
    Image.init()
    formats = [name for name in _FORMATS if name in Image.OPEN]
    try:
        return Image.open(BytesIO(data), formats=formats)
    except UnidentifiedImageError:
        raise PortraitError(
            f"{source}: not an image of a kind that is read here",
            remedy="use PNG, JPEG, WEBP, HEIC, AVIF, TIFF, GIF or BMP",
        ) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise
    except _DAMAGE as error:
        raise _damaged(source, error) from error


def _is_heif(data: bytes) -> bool:
    return data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS


def _register_heif(source: Path) -> None:
    if find_spec("pillow_heif") is None:
        raise PortraitError(
            f"{source}: a HEIC picture, and the reader for it is not installed",
            remedy="pip install pillow-heif, or export the picture as JPEG",
        )
    import pillow_heif

    pillow_heif.register_heif_opener()


@contextmanager
def _bombs_are_errors(source: Path) -> Iterator[None]:
    """Pillow only warns above 89 megapixels; here both its warning and its error are one clear refusal."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # e.g. odd EXIF, odd palette transparency: judged by the result
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise PortraitError(
            f"{source}: far too many pixels for a portrait", remedy=f"scale it down to {MAX_SIDE} px"
        ) from error


def _check_size(source: Path, size: tuple[int, int], min_side: int) -> None:
    width, height = size
    if width * height > MAX_PIXELS:
        raise PortraitError(
            f"{source}: {_size(size)} pixels, more than the {MAX_PIXELS // 10**6} megapixels allowed",
            remedy=f"scale it down to {MAX_SIDE} px on the long side",
        )
    if min(size) < min_side:
        raise PortraitError(
            f"{source}: {_size(size)} pixels, too small to show anyone",
            remedy=f"bring a picture of at least {min_side} px on the short side, better {SMALL_SIDE}",
        )
    if max(size) > MAX_RATIO * min(size):
        raise PortraitError(
            f"{source}: {_size(size)} pixels, too long and narrow for a portrait",
            remedy="crop it around the subject",
        )


def _note_container(picture: Image.Image, data: bytes, notes: list[str]) -> None:
    frames = int(getattr(picture, "n_frames", 1))
    if frames > 1:
        notes.append(f"{frames} frames: only the first one is used")
    # Pillow reads a 16-bit colour PNG as 8 bit without a word, so the header is asked: IHDR byte 24 is the
    # depth.
    if picture.format == "PNG" and data[24:25] == b"\x10":
        notes.append("16 bits a channel reduced to 8")


def _upright(picture: Image.Image, notes: list[str]) -> Image.Image:
    """The picture turned as its EXIF orientation says; damaged EXIF is no reason to refuse a good picture."""
    try:
        orientation = picture.getexif().get(_ORIENTATION, 1)
        turned = ImageOps.exif_transpose(picture) if orientation in range(2, 9) else picture
    except _DAMAGE:
        notes.append("damaged EXIF data ignored")
        return picture
    if turned is not picture:
        notes.append("turned upright as its EXIF data says")
    return turned


def _fit(image: Image.Image, max_side: int) -> Image.Image:
    scale = max_side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS)


def _damaged(source: Path, error: BaseException) -> PortraitError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return PortraitError(f"{source}: damaged or cut short ({reason})", remedy="copy or download it again")


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
