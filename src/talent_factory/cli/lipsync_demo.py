"""`talent lipsync demo`: the whole way from nothing to a face that speaks, on two processor cores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from talent_factory.cli.common import (
    DryRunOption,
    JsonOption,
    WorkspaceOption,
    console,
    emit,
    reporter,
    show_plan,
)

if TYPE_CHECKING:
    from talent_factory.lipsync.demo.records import DemoResult

FOLDER = "lipsync-demo"


def demo(
    workspace: WorkspaceOption = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A minute, to see that everything runs; nothing is learnt.")
    ] = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Draw clips, train a small network, let two new faces say a new sentence, score it, write a page.

    Takes at most ten minutes on two cores and downloads nothing. Stopped, it goes on where it was.
    """
    from talent_factory.core.workspace import workspace_from

    root = workspace_from(workspace).root / (FOLDER + ("-quick" if quick else ""))
    if dry_run:
        from talent_factory.lipsync.demo.foresight import demo_plan

        show_plan(demo_plan(root, quick=quick), as_json)
        return
    from talent_factory.core.stop import graceful_stop
    from talent_factory.lipsync.demo.stages import run_demo
    from talent_factory.report.page import write_speaking_page
    from talent_factory.report.speaking import speaking_content

    with reporter() as shown, graceful_stop("stopping; what is done is kept") as stop:
        result = run_demo(root, quick=quick, reporter=shown, stop=stop)
    page = write_speaking_page(speaking_content(result), root / "report.html")
    document = {
        "page": page,
        "videos": [watched.video for watched in result.watched],
        "seconds": result.total_seconds,
        "reached": result.score.reached,
        "checks": result.score.checks,
        "actor": result.actor,
    }
    emit(document, as_json, lambda: _show(result, page))


def _show(result: DemoResult, page: Path) -> None:
    lines = []
    for check in result.score.checks:
        mark = "reached" if check.reached else "MISSED"
        lines.append(f"{check.what:30} {check.shown:>6}   asked {check.target:14} {mark}")
    if result.quick:
        lines.append("--quick: everything runs and nothing is learnt, so these figures say nothing")
    for watched in result.watched:
        lines.append(
            f"{watched.name:10} correlation {watched.correlation:.3f}, {watched.offset} frames late, "
            f"movement {watched.articulation:.2f}, open on silence {watched.leak:.3f}: {watched.video}"
        )
    lines.append(f"{result.total_seconds:.0f} s in all")
    lines.append(f"page: {page}")
    console().print("\n".join(lines), markup=False, soft_wrap=True)
