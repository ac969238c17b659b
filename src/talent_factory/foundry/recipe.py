"""What made an image, written into the image: the recipe record and its two PNG text chunks."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING
from xml.sax.saxutils import quoteattr

from pydantic import Field, ValidationError, model_validator

from talent_factory.core.errors import UsageError
from talent_factory.core.records import Record

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TALENT_CHUNK = "talent"
A1111_CHUNK = "parameters"
XMP_CHUNK = "XML:com.adobe.xmp"
# The word of the IPTC for pictures that a trained model made; platforms and laws ask for it.
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
# A text chunk of a recipe is some hundred bytes; more is not ours.
_MAX_CHUNK_CHARS = 64 * 1024


class KitUse(Record):
    """One kit in a mix: which bytes, how strongly, in which blocks and in which share of the steps.

    `name` is what other programs call its file, `tensors_sha256` the hash of the bytes behind its header, by
    which image managers recognise it (AutoV3).
    """

    id: str
    sha256: str
    weight: float
    name: str = ""
    tensors_sha256: str = ""
    blocks: tuple[tuple[str, float], ...] = ()
    begin: float = 0.0
    end: float = 1.0


class Control(Record):
    """A picture and the folder of the ControlNet that reads it, in force from `begin` to `end`."""

    image: str
    model: str
    strength: float = Field(default=1.0, ge=0, le=2)
    begin: float = Field(default=0.0, ge=0, lt=1)
    end: float = Field(default=1.0, gt=0, le=1)

    @model_validator(mode="after")
    def _begins_before_it_ends(self) -> Control:
        if self.begin >= self.end:
            raise ValueError("begin must be less than end")
        return self


class ControlUse(Record):
    """A picture that steered through a ControlNet: which bytes of both, how strongly, in which steps."""

    model: str
    model_sha256: str
    image_sha256: str
    strength: float
    begin: float = 0.0
    end: float = 1.0


class RenderRecipe(Record):
    """Everything needed to make one image again; sizes in pixels, equal recipes give equal bytes.

    `batch` is part of it: float sums are grouped differently in batches of another size, which can move a
    channel value by one level. So are the processor's `threads` where they were asked for; without, equal
    bytes need as many as before.
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
    control: ControlUse | None = None
    precision: str = "float32"
    batch: int = 1
    threads: int | None = None
    version: str

    def parameters(self) -> str:
        """The recipe in the text form of AUTOMATIC1111, which the common image managers read."""
        called = " ".join(f"<lora:{kit.name or kit.id}:{kit.weight:g}>" for kit in self.kits)
        lines = [f"{_one_line(self.prompt)} {called}".rstrip()]
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
            hashes = ", ".join(
                f"{kit.name or kit.id}: {(kit.tensors_sha256 or kit.sha256)[:12]}" for kit in self.kits
            )
            facts.append(f'Lora hashes: "{hashes}"')
        if self.control is not None:
            steer = self.control
            facts.append(
                f'ControlNet 0: "Module: none, Model: {steer.model} [{steer.model_sha256[:8]}], '
                f"Weight: {steer.strength:g}, Guidance Start: {steer.begin:g}, "
                f'Guidance End: {steer.end:g}"'
            )
        facts.append(f"Version: talent-factory {self.version}")
        lines.append(", ".join(facts))
        return "\n".join(lines)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def encode_png(image_HWC: NDArray[np.uint8], recipe: RenderRecipe) -> bytes:
    """PNG bytes of an RGB image with its recipe and what made it; equal input gives equal bytes."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_itxt(A1111_CHUNK, recipe.parameters())
    talent = json.dumps(recipe.model_dump(mode="json"), sort_keys=True, ensure_ascii=False)
    info.add_itxt(TALENT_CHUNK, talent)
    info.add_itxt(XMP_CHUNK, _xmp(f"talent-factory {recipe.version}"))
    buffer = io.BytesIO()
    Image.fromarray(image_HWC, mode=None).save(buffer, "PNG", pnginfo=info, compress_level=6)
    return buffer.getvalue()


def holds_recipe(path: Path, recipe: RenderRecipe) -> bool:
    """Whether `path` is a whole image that this very recipe made."""
    from PIL import Image

    if not path.is_file():
        return False
    try:
        if read_recipe(path) != recipe:
            return False
        with Image.open(path, formats=["PNG"]) as image:
            image.load()
    except (UsageError, OSError, SyntaxError, ValueError):
        return False
    return True


def _xmp(tool: str) -> str:
    """An XMP packet that says: a trained model made this picture, with this tool."""
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about=""'
        ' xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
        ' xmlns:xmp="http://ns.adobe.com/xap/1.0/"'
        f' Iptc4xmpExt:DigitalSourceType="{SOURCE_TYPE}" xmp:CreatorTool={quoteattr(tool)}/>'
        "</rdf:RDF></x:xmpmeta>"
        '<?xpacket end="r"?>'
    )


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
