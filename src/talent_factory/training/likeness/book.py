"""What the study of a run leaves in its folder; all written whole, and the same when written twice."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError

from talent_factory.core.errors import FileError
from talent_factory.core.files import atomic_path, write_text
from talent_factory.core.records import read_record, write_record
from talent_factory.training.likeness.records import Choice, Measure, MeasurePlan

MEASURES_FILE = "measures.jsonl"
CHOICE_FILE = "choice.json"
CANDIDATES = "candidates"
SHEETS = "measures"
PLAN_FILE = "plan.json"
_COLUMNS = 8


def read_measures(run: Path) -> list[Measure]:
    """The measures of a run by rising step, none without the file. Raises FileError when it is damaged."""
    path = run / MEASURES_FILE
    if not path.is_file():
        return []
    try:
        lines = path.read_text("utf-8").splitlines()
        return sorted((Measure.model_validate_json(line) for line in lines), key=lambda item: item.step)
    except (ValidationError, UnicodeDecodeError) as error:
        raise FileError(
            f"{path} is damaged: {str(error).splitlines()[0]}",
            remedy=f"delete it: talent train resume {run} measures again",
        ) from error


def write_measure(run: Path, measure: Measure) -> None:
    """Put one measure among the others, in the order of the steps; one of the same step is replaced."""
    others = [item for item in read_measures(run) if item.step != measure.step]
    ordered = sorted([*others, measure], key=lambda item: item.step)
    lines = [json.dumps(item.model_dump(mode="json"), allow_nan=False) + "\n" for item in ordered]
    write_text(run / MEASURES_FILE, "".join(lines))


def candidate_path(run: Path, step: int) -> Path:
    """Where the weights of a measured checkpoint are kept, fp32 in kohya form, until the run is deleted."""
    return run / CANDIDATES / f"step_{step:08d}.safetensors"


def sheet_path(run: Path, step: int, weight: float = 1.0) -> Path:
    """The pictures that a checkpoint was measured by, on one sheet."""
    strength = "" if weight == 1.0 else f"_weight_{weight:.2f}"
    return run / SHEETS / f"step_{step:08d}{strength}.png"


def write_sheet(path: Path, pictures: NDArray[np.uint8]) -> None:
    """Write pictures (N, H, W, 3) on one sheet, eight to a row, without loss."""
    count, height, width, _ = pictures.shape
    rows = -(-count // _COLUMNS)
    sheet = np.zeros((rows * height, min(count, _COLUMNS) * width, 3), np.uint8)
    for index, picture in enumerate(pictures):
        top, left = index // _COLUMNS * height, index % _COLUMNS * width
        sheet[top : top + height, left : left + width] = picture
    with atomic_path(path) as temporary:
        Image.fromarray(sheet).save(temporary, format="PNG")


def read_sheet(path: Path, count: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    """The `count` pictures of a sheet, (N, H, W, 3). Raises FileError when they are not on it."""
    height, width = size
    rows, columns = -(-count // _COLUMNS), min(count, _COLUMNS)
    try:
        with Image.open(path, formats=["PNG"]) as image:
            sheet = np.asarray(image.convert("RGB"), np.uint8)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise FileError(f"{path} cannot be read: {error}", remedy="delete it: it is drawn again") from error
    if sheet.shape != (rows * height, columns * width, 3):
        raise FileError(f"{path} has another size than its plan says", remedy="delete it: it is drawn again")
    cells = sheet.reshape(rows, height, columns, width, 3).swapaxes(1, 2)
    return cells.reshape(-1, height, width, 3)[:count]


def cell_box(index: int, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Where picture `index` lies on a sheet: left, top, right, bottom; `size` is (height, width)."""
    height, width = size
    top, left = index // _COLUMNS * height, index % _COLUMNS * width
    return left, top, left + width, top + height


def write_plan(run: Path, plan: MeasurePlan) -> None:
    """Keep the plan beside the sheets that it explains."""
    write_record(run / SHEETS / PLAN_FILE, plan)


def read_plan(run: Path) -> MeasurePlan:
    """The plan of a run. Raises FileError when it was never measured."""
    return read_record(run / SHEETS / PLAN_FILE, MeasurePlan)


def write_choice(run: Path, choice: Choice) -> None:
    """Write choice.json."""
    write_record(run / CHOICE_FILE, choice)


def read_choice(run: Path) -> Choice | None:
    """What was chosen, None for a run whose last step ships as it is. Raises FileError when damaged."""
    return read_record(run / CHOICE_FILE, Choice) if (run / CHOICE_FILE).is_file() else None


def candidates(run: Path) -> Sequence[int]:
    """The steps whose weights are kept."""
    names = sorted((run / CANDIDATES).glob("step_*.safetensors"))
    return [int(path.stem.removeprefix("step_")) for path in names]


def evaluation(run: Path) -> dict[str, Any]:
    """What a kit says of its measures: plain JSON without any path, empty for a run that was not measured."""
    choice = read_choice(run)
    if choice is None:
        return {}
    plan = read_plan(run)
    asked = [{"prompt": shot.prompt, "seed": shot.seed} for shot in plan.report]
    hidden = {"version", "default_weight"}
    if (choice.step, choice.default_weight) != (choice.measured_step, choice.measured_weight):
        hidden.add("report")  # its figures are of other weights than these
    return {
        **choice.model_dump(mode="json", exclude=hidden),
        "drawn": {"steps": plan.steps, "guidance": plan.guidance, "size": list(plan.size)},
        "held_out_images": len(plan.references) if plan.held_out else 0,
        "report_prompts": asked,
    }
