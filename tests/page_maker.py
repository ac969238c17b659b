"""Make the content of a report page from small pictures, for the tests of the page."""

from __future__ import annotations

import math
from pathlib import Path

from PIL import Image

from talent_factory.report.content import (
    CastPicture,
    LossPoint,
    MixCell,
    MixRow,
    NamedText,
    Pair,
    ReportContent,
    Timing,
)


def make_content(folder: Path, *, name: str = "dot_test", text: str = "ink portrait") -> ReportContent:
    """A page with all its sections; `name` and `text` stand wherever a user's words could."""

    def picture(label: str, size: tuple[int, int], colour: tuple[int, int, int]) -> Path:
        path = folder / f"{label}.png"
        Image.new("RGB", size, colour).save(path)
        return path

    portrait = picture("portrait", (900, 700), (190, 120, 60))
    base, kit = picture("base", (64, 64), (90, 90, 90)), picture("kit", (64, 64), (190, 120, 60))
    losses = tuple(
        LossPoint(step=step, loss=0.1 + 0.3 / step + 0.02 * math.sin(step)) for step in range(1, 61)
    )
    return ReportContent(
        token=name,
        title=name,
        lead=f"All about {text}.",
        portrait=portrait,
        hero=kit,
        cast=(
            CastPicture(path=base, slot=text, medium="ink", method="xdog-1", augmentation=False),
            CastPicture(path=kit, slot="Night", medium="photo", method="night-1", augmentation=True),
        ),
        pairs=(Pair(title=text, prompt=text, seed=3, base=base, trained=kit),),
        mixes=(MixRow(title=text, prompt=text, cells=(MixCell(label=text, path=kit),)),),
        style_name=f"avatar.style.{name}",
        loss=losses,
        highlights=(NamedText(name="steps", text="60"),),
        facts=(NamedText(name="trigger", text=text),),
        reasons=(f"because {text}",),
        timings=(Timing(stage="cast", seconds=3), Timing(stage="train", seconds=75.2)),
        commands=(NamedText(name="Draw", text=f'talent render --prompt "{text}"'),),
        version="0.1.0",
    )
