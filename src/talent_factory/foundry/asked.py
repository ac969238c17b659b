"""What people type about a render, as plain options: a size, a file of prompts, a picture that steers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, ValidationError

from talent_factory.core.errors import UsageError
from talent_factory.kits.manifest import CONTROLS_FOLDER, parse_prompts
from talent_factory.kits.strict import MAX_TEXT_BYTES, StrictJsonError, read_regular

_SIZE = re.compile(r"(\d{1,5})[xX](\d{1,5})")
# Pixels for each cell of a latent, and the most that a side is drawn with.
_CELL, _MAX_SIDE = 8, 4096


def _possible(size: tuple[int, int]) -> tuple[int, int]:
    if any(side % _CELL or not _CELL <= side <= _MAX_SIDE for side in size):
        raise ValueError(
            f"{size[0]}x{size[1]} is not possible, use multiples of {_CELL} up to {_MAX_SIDE}, "
            f"such as {_nearest(size[0])}x{_nearest(size[1])}"
        )
    return size


def _nearest(side: int) -> int:
    return min(max(round(side / _CELL), 1) * _CELL, _MAX_SIDE)


# (width, height) in pixels that an autoencoder of factor 8 can draw.
PictureSize = Annotated[tuple[int, int], AfterValidator(_possible)]


def read_size(text: str) -> tuple[int, int]:
    """Width and height of `512x768`; raises UsageError for another text."""
    found = _SIZE.fullmatch(text.strip())
    if not found:
        raise UsageError(f"{text!r} is no size", remedy="write it as 512x768")
    return int(found[1]), int(found[2])


def read_prompt_file(path: Path) -> tuple[str, ...]:
    """The prompts of a text file, one a line, or the positive ones of a prompts.json.

    Empty lines and lines that begin with `#` say nothing. Raises UsageError when the file cannot be read or
    holds no prompt.
    """
    try:
        raw = read_regular(path, limit=MAX_TEXT_BYTES)
        if path.suffix.lower() == ".json":
            return parse_prompts(raw).positive_prompts
        lines = [line.strip() for line in raw.decode("utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError, StrictJsonError, ValidationError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
        raise UsageError(
            f"{path} cannot be read: {reason}", remedy="give a text file, a prompt a line"
        ) from error
    prompts = tuple(line for line in lines if line and not line.startswith("#"))
    if not prompts:
        raise UsageError(f"{path} holds no prompt", remedy="write a prompt a line")
    return prompts


def control_options(
    picture: str | None, model: Path | None, *, strength: float, steps: str, kits: Sequence[Path]
) -> dict[str, object]:
    """The option `control` of a render, or nothing; a picture may also lie in `controls/` of one of `kits`.

    Raises UsageError when only half of it is given or the picture is nowhere.
    """
    if picture is None and model is None:
        return {}
    if picture is None or model is None:
        missing = "--control PICTURE" if picture is None else "--control-model FOLDER"
        raise UsageError("a control needs a picture and a ControlNet", remedy=f"add {missing}")
    named = [kit / CONTROLS_FOLDER / picture for kit in kits] if Path(picture).name == picture else []
    found = next((path for path in (Path(picture), *named) if path.is_file()), None)
    if found is None:
        raise UsageError(
            f"there is no picture {picture}", remedy="name a file, or one in the kit's controls/"
        )
    begin, _, end = steps.partition("-")
    try:
        share = {"begin": float(begin), "end": float(end or "nan")}
    except ValueError:
        share = {"begin": 2.0, "end": 2.0}
    if not 0.0 <= share["begin"] < share["end"] <= 1.0:
        raise UsageError(f"{steps!r} is no part of the steps", remedy="write --control-steps 0-0.6")
    return {"control": {"image": str(found), "model": str(model), "strength": strength, **share}}
