"""Bring any Pillow mode and colour profile to 8-bit sRGB without alpha, and note what was lost on the way."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from talent_factory.core.errors import PortraitError

# Transparent parts get a light neutral: white would swallow pale hair, black would swallow dark hair.
BACKDROP = (224, 224, 224)

_DEEP_MODES = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")


def to_rgb(image: Image.Image, notes: list[str], *, where: str) -> Image.Image:
    """`image` of any mode -> a new RGB image in sRGB. Appends to `notes` what was converted.

    Raises PortraitError, naming the file `where`, when every pixel is transparent.
    """
    profile = image.info.get("icc_profile")
    alpha = _alpha(image)
    if alpha is not None and alpha.getextrema()[1] == 0:
        raise PortraitError(f"{where}: every pixel is transparent", remedy="export it with its background")
    if image.mode in _DEEP_MODES:
        image = _eight_bits(image)
        if "16 bits a channel reduced to 8" not in notes:
            notes.append("16 bits a channel reduced to 8")
    elif image.mode == "CMYK":
        notes.append("print colours (CMYK) turned to screen colours")
    rgb = _colours(image, profile, notes)
    if alpha is None or alpha.getextrema() == (255, 255):
        return rgb
    notes.append("transparent parts put on light grey")
    backdrop = Image.new("RGB", rgb.size, BACKDROP)
    return Image.composite(rgb, backdrop, alpha)


def _alpha(image: Image.Image) -> Image.Image | None:
    """The alpha channel as an L image, also for palette and colour-key transparency; None without one."""
    if not image.has_transparency_data:
        return None
    return image.convert("RGBA").getchannel("A")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit, 32-bit integer or float greys to 8 bits by the range that their values show."""
    values_HW: NDArray[np.float64] = np.nan_to_num(
        np.asarray(image, dtype=np.float64), posinf=0.0, neginf=0.0
    )
    top = float(values_HW.max(initial=0.0))
    if image.mode == "F" and top <= 1.0:
        white = 1.0
    elif image.mode in ("I", "F") and top <= 255.0:
        white = 255.0
    else:
        white = 65535.0 if top <= 65535.0 else top
    grey_HW = np.clip(values_HW / white * 255.0 + 0.5, 0, 255).astype(np.uint8)
    return Image.fromarray(grey_HW)


def _colours(image: Image.Image, profile: Any, notes: list[str]) -> Image.Image:
    """Colours to sRGB: by the embedded profile where it fits the mode, else by Pillow's plain conversion."""
    if image.mode in ("P", "PA", "1", "LA", "La", "RGBA", "RGBa", "RGBX", "HSV", "YCbCr"):
        image = image.convert("L" if image.mode in ("1", "LA", "La") else "RGB")
    if image.mode == "LAB":
        lab = ImageCms.createProfile("LAB")
        return _transform(image, ImageCms.ImageCmsProfile(lab))
    if not isinstance(profile, bytes) or not profile:
        return image.convert("RGB")
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        name = ImageCms.getProfileDescription(source).strip()
        rgb = _transform(image, source)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        notes.append("a colour profile that does not fit the picture was ignored")
        return image.convert("RGB")
    if "srgb" not in name.lower():
        notes.append(f"colours brought from {name or 'an unnamed profile'} to sRGB")
    return rgb


def _transform(image: Image.Image, source: ImageCms.ImageCmsProfile) -> Image.Image:
    target = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    made = ImageCms.profileToProfile(image, source, target, outputMode="RGB")
    if made is None:
        raise ValueError("no transform between the profiles")
    return made
