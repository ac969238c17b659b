"""`talent train status --watch` and `talent train stop`: follow runs from elsewhere, and end them well."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from talent_factory.cli.common import JsonOption, WorkspaceOption, console, emit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from talent_factory.core.workspace import Workspace
    from talent_factory.training.runs import RunStatus

_SECONDS = 1.0


def run_folder(run: str, place: Workspace) -> Path:
    """The folder that the user means: a path that exists, else a name below the workspace's runs."""
    from talent_factory.core.workspace import check_id

    path = Path(run).expanduser()
    return path if path.is_dir() else place.runs / check_id(run)


def workspace_of(run: Path, talent_id: str) -> Workspace | None:
    """The workspace whose training of `talent_id` lies in `run`, None for a run elsewhere."""
    from talent_factory.core.workspace import Workspace

    folder = run.resolve()
    place = Workspace(folder.parent.parent)
    return place if folder == place.runs / talent_id else None


def stop_training(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's folder, or its id in the workspace.")],
    workspace: WorkspaceOption = None,
    patience: Annotated[
        float, typer.Option("--patience", min=0.0, help="Seconds to wait until it has saved.")
    ] = 120.0,
    as_json: JsonOption = False,
) -> None:
    """Ask the process that trains RUN to save and end; it may run in any terminal or queue."""
    from talent_factory.core.workspace import workspace_from
    from talent_factory.training.stopping import stop_run

    folder = run_folder(run, workspace_from(workspace))
    ended = stop_run(folder, patience=patience)
    if ended.state == "finished":
        text = f"{ended.id} is trained: it was done before it could stop"
    else:
        text = f"{ended.id}: stopped, saved at step {saved_step(ended)} of {ended.steps}\nnext: {ended.next}"
    emit(ended, as_json, lambda: console().print(text, markup=False, soft_wrap=True))


def saved_step(status: RunStatus) -> int:
    """The step of the newest checkpoint, from which a resume goes on."""
    digits = status.checkpoint.removeprefix("step_")
    return int(digits) if digits.isdecimal() else 0


def status_lines(found: Sequence[RunStatus], runs: Path, paces: dict[str, str] | None = None) -> str:
    """What is known of runs, as text."""
    lines = []
    for item in found:
        loss = "" if item.loss is None else f", loss {item.loss:.4f}"
        pace = (paces or {}).get(item.run, "")
        saved = saved_step(item)
        # a killed run was further than its last checkpoint, and goes on from there
        kept = f"; saved at {saved}" if item.state == "stopped" and saved < item.step else ""
        lines.append(f"{item.id}: {item.state} at step {item.step} of {item.steps}{loss}{pace}{kept}")
        if item.next:
            lines.append(f"  next: {item.next}")
    return "\n".join(lines) or f"no runs in {runs}\nnext: talent train CONFIG"


def watch(look: Callable[[], Sequence[RunStatus]], runs: Path, *, seconds: float = _SECONDS) -> None:
    """Show how far runs are until none is running; in a terminal in place, else a line at each change."""
    from rich.live import Live
    from rich.text import Text

    shown, first = "", _Pace()
    screen = console()
    with Live(console=screen, auto_refresh=False) as live:
        while True:
            found = look()
            text = status_lines(found, runs, first.of(found))
            if screen.is_terminal:
                live.update(Text(text), refresh=True)
            elif text != shown:
                screen.print(text, markup=False, soft_wrap=True)
            shown = text
            if all(item.state != "running" for item in found):
                return
            time.sleep(seconds)


class _Pace:
    """Steps per second since each run was first looked at, and what is left at that pace."""

    def __init__(self) -> None:
        self._first: dict[str, tuple[int, float]] = {}

    def of(self, found: Sequence[RunStatus]) -> dict[str, str]:
        from talent_factory.core.plan import duration

        now, paces = time.monotonic(), {}
        for item in found:
            step, when = self._first.setdefault(item.run, (item.step, now))
            made = item.step - step
            if item.state == "running" and made > 0 and now > when:
                rate = made / (now - when)
                paces[item.run] = f", {rate:.2f} steps/s, {duration((item.steps - item.step) / rate)} left"
        return paces
