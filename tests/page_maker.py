"""Make the content of a report page from small pictures, for the tests of the page."""

from __future__ import annotations

import math
from pathlib import Path

from PIL import Image

from talent_factory.report.content import (
    CastPicture,
    ChoiceContent,
    ChoiceRow,
    LossPoint,
    MixCell,
    MixRow,
    NamedText,
    Pair,
    ReportContent,
    SheetCell,
    Timing,
)
from talent_factory.training.likeness.records import Report, Reported, Score


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
        choice=make_choice(picture("sheet", (128, 64), (60, 120, 190)), name=name, text=text),
        highlights=(NamedText(name="steps", text="60"),),
        facts=(NamedText(name="trigger", text=text),),
        reasons=(f"because {text}",),
        timings=(Timing(stage="cast", seconds=3), Timing(stage="train", seconds=75.2)),
        commands=(NamedText(name="Draw", text=f'talent render --prompt "{text}"'),),
        version="0.1.0",
    )


def make_choice(sheet: Path, *, name: str, text: str) -> ChoiceContent:
    """A choice between two checkpoints whose pictures lie side by side on `sheet`, 128 x 64 pixels."""
    cells = tuple(
        SheetCell(sheet=sheet, box=(left, 0, left + 64, 64), text=f"{text}, picture at {left}")
        for left in (0, 64)
    )
    scores = [
        Score(
            step=step, identity=step / 40, adherence=0.9, copied=0.1, diversity=1.0, drift=0.2,
            score=step / 50, low=max(0.0, step / 50 - 0.1), high=step / 50 + 0.1,
        )
        for step in (0, 20, 40)
    ]  # fmt: skip
    tags: tuple[tuple[str, ...], ...] = ((), ("ships",), ("best score", "last"))
    rows = tuple(
        ChoiceRow(score=score, tags=tag, cells=cells) for score, tag in zip(scores, tags, strict=True)
    )
    weak = rows[1].score.model_copy(update={"weight": 0.5})
    figures = Reported(identity=0.5, adherence=0.9, harmonic=0.643)
    return ChoiceContent(
        run=name,
        reason=text,
        by_person=True,
        step=20,
        weight=0.5,
        prompts=(text, f"{text} without"),
        rows=rows,
        sweep=(ChoiceRow(score=weak, tags=("recommended",), cells=cells), rows[2]),
        report=Report(by=text, prompts=2, pictures=4, base=figures, chosen=figures, last=figures),
        judges=(text,),
        held_out=True,
        references=3,
        pictures=4,
        command=f"talent train choose {name} --step STEP",
    )
