"""The record of a style set: the picture, its style card, the grids, every tile and what became of it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from talent_factory.core.errors import DatasetError, FileError, PartialResult
from talent_factory.core.files import sha256_bytes
from talent_factory.core.records import Record, read_record
from talent_factory.datagen.cast import PortraitFacts
from talent_factory.providers.vision.port import StyleCard, TileVerdict

STYLE_FILE = "style_cast.json"
PICTURE_FILE = "style.png"
GRIDS = "grids"
IMAGES = "images"


class StyleSheet(Record):
    """One picture that was asked for: a grid of nine subjects, or one subject in direct mode."""

    number: int
    key: str
    seed: int
    subjects: tuple[str, ...]
    prompt: str
    state: Literal["planned", "done", "failed"] = "planned"
    file: str = ""
    sha256: str = ""
    width: int = 0
    height: int = 0
    job: str = ""
    cost_usd: float = 0.0
    code: str = ""
    error: str = ""


class StyleTile(Record):
    """One candidate image. `box` is where it lay in its sheet (left, top, right, bottom in pixels), `gutters`
    whether measured gutters bounded it; `image` its number among the kept, 0 for one left out.
    """

    subject: str
    category: str
    caption: str
    sheet: int
    cell: int
    box: tuple[int, int, int, int]
    gutters: bool
    verdict: TileVerdict
    image: int = 0
    file: str = ""
    sha256: str = ""


class StyleCast(Record):
    """`style_cast.json`: the one truth about a style set.

    `method` names how a local painter made it, so that drawings with a carried-over look never pass for what
    an image model paints.
    """

    version: Literal[1] = 1
    token: str
    provider: str
    model: str
    method: str
    vision: str
    mode: Literal["grid", "direct"]
    target: int
    seed: int
    subjects_version: int
    picture: PortraitFacts
    card: StyleCard
    sheets: tuple[StyleSheet, ...]
    tiles: tuple[StyleTile, ...] = ()

    @property
    def kept(self) -> tuple[StyleTile, ...]:
        """The tiles that became images, in order of their numbers."""
        return tuple(sorted((tile for tile in self.tiles if tile.image), key=lambda tile: tile.image))

    @property
    def failed(self) -> tuple[StyleSheet, ...]:
        """Sheets that could not be made."""
        return tuple(sheet for sheet in self.sheets if sheet.state == "failed")

    @property
    def spent_usd(self) -> float:
        """What the sheets cost."""
        return sum(sheet.cost_usd for sheet in self.sheets)

    @property
    def fingerprint(self) -> str:
        """sha256 over the images and their captions, in order."""
        lines = [f"{tile.image} {tile.sha256} {tile.caption}" for tile in self.kept]
        return sha256_bytes("\n".join((self.token, *lines)).encode())

    def summary(self) -> str:
        """One sentence with the counts."""
        rejected = sum(not tile.verdict.ok for tile in self.tiles)
        text = f"{len(self.kept)} of {self.target} images from {len(self.tiles)} candidates"
        text += f", {rejected} rejected" if rejected else ""
        return text + (f"; {len(self.failed)} sheets failed" if self.failed else "")

    def counts(self) -> dict[str, object]:
        """The counts for programs."""
        return {
            "target_training_images": self.target,
            "total_training_images": len(self.kept),
            "total_grids_generated": sum(sheet.state == "done" for sheet in self.sheets),
            "failed": [
                {"slot": f"sheet {s.number}", "code": s.code, "message": s.error} for s in self.failed
            ],
        }

    def require_complete(self) -> None:
        """Raise PartialResult unless as many images were kept as were wanted."""
        missing = self.target - len(self.kept)
        if missing > 0:
            reason = next((f" ({sheet.error})" for sheet in self.failed if sheet.error), "")
            raise PartialResult(
                f"{missing} of {self.target} images are missing{reason}",
                remedy="run the same command again: only missing sheets are made",
            )


def load_style(folder: Path) -> StyleCast:
    """The record of the style set in `folder`. Raises DatasetError when there is none or it is damaged."""
    if not (folder / STYLE_FILE).is_file():
        raise DatasetError(
            f"{folder} holds no {STYLE_FILE}", remedy="talent cast style PICTURE --token TOKEN"
        )
    try:
        return read_record(folder / STYLE_FILE, StyleCast)
    except FileError as error:
        raise DatasetError(
            error.message, remedy="move it away and cast again; finished sheets are taken over"
        ) from error
