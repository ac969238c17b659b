"""What made an image, written into the image: the recipe record and its two PNG text chunks."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from talent_factory.core.errors import UsageError
from talent_factory.core.records import Record

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TALENT_CHUNK = "talent"
A1111_CHUNK = "parameters"
# A text chunk of a recipe is some hundred bytes; more is not ours.
_MAX_CHUNK_CHARS = 64 * 1024


class KitUse(Record):
    """One kit in a mix: which bytes, how strongly, in which blocks and in which share of the steps."""

    id: str
    sha256: str
    weight: float
    blocks: tuple[tuple[str, float], ...] = ()
    begin: float = 0.0
    end: float = 1.0


class RenderRecipe(Record):
    """Everything needed to make one image again; sizes in pixels, equal recipes give equal bytes.

    `batch` is part of it: float sums are grouped differently in batches of another size, which can move a
    channel value by one level.
    """

    prompt: str
    negative: str = ""
    seed: int
    steps: int
    guidance: float
    sampler: str
    width: int
    height: int
    base: str
    base_revision: str
    kits: tuple[KitUse, ...] = ()
    projection: float = 0.0
    switch: bool = False
    batch: int = 1
    version: str

    def parameters(self) -> str:
        """The recipe in the text form of AUTOMATIC1111, which the common image managers read."""
        lines = [_one_line(self.prompt)]
        if self.negative:
            lines.append(f"Negative prompt: {_one_line(self.negative)}")
        facts = [
            f"Steps: {self.steps}",
            f"Sampler: {self.sampler}",
            f"CFG scale: {self.guidance:g}",
            f"Seed: {self.seed}",
            f"Size: {self.width}x{self.height}",
            f"Model hash: {self.base_revision[:10]}",
            f"Model: {self.base}",
        ]
        if self.kits:
            hashes = ", ".join(f"{kit.id}: {kit.sha256[:12]}" for kit in self.kits)
            weights = ", ".join(f"{kit.id}: {kit.weight:g}" for kit in self.kits)
            facts += [f'Lora hashes: "{hashes}"', f'Lora weights: "{weights}"']
        facts.append(f"Version: talent-factory {self.version}")
        lines.append(", ".join(facts))
        return "\n".join(lines)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def encode_png(image_HWC: NDArray[np.uint8], recipe: RenderRecipe) -> bytes:
    """PNG bytes of an RGB image with its recipe in both text chunks; equal input gives equal bytes."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_itxt(A1111_CHUNK, recipe.parameters())
    talent = json.dumps(recipe.model_dump(mode="json"), sort_keys=True, ensure_ascii=False)
    info.add_itxt(TALENT_CHUNK, talent)
    buffer = io.BytesIO()
    Image.fromarray(image_HWC, mode=None).save(buffer, "PNG", pnginfo=info, compress_level=6)
    return buffer.getvalue()


def read_recipe(path: Path) -> RenderRecipe:
    """The recipe an image carries.

    Raises UsageError when the file is no PNG, or holds no recipe of ours.
    """
    from PIL import Image, UnidentifiedImageError
    from PIL.PngImagePlugin import PngImageFile

    try:
        with Image.open(path, formats=["PNG"]) as image:
            text = image.text.get(TALENT_CHUNK, "") if isinstance(image, PngImageFile) else ""
    except (OSError, UnidentifiedImageError, ValueError) as error:
        raise UsageError(
            f"{path} cannot be read as PNG: {error}", remedy="give a render of this project"
        ) from error
    if not text or len(text) > _MAX_CHUNK_CHARS:
        raise UsageError(f"{path} carries no recipe", remedy="give an image that `talent render` wrote")
    try:
        return RenderRecipe.model_validate_json(text)
    except ValidationError as error:
        raise UsageError(
            f"{path} carries a recipe this version cannot read ({error.error_count()} fields)",
            remedy="use the version of talent-factory that wrote it",
        ) from error
