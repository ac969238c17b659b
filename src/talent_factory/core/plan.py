"""What a dry run shows: steps with the time, memory, disk and money they will take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from talent_factory.core.records import Record

if TYPE_CHECKING:
    from rich.table import Table


class PlanStep(Record):
    """One step: estimates in seconds, MB of memory (peak), MB of disk (added) and US dollars."""

    name: str
    detail: str = ""
    seconds: float = 0.0
    memory_mb: float = 0.0
    disk_mb: float = 0.0
    cost_usd: float = 0.0
    state: Literal["todo", "done"] = "todo"


class Plan(Record):
    """The steps in order; totals count only what is still to do."""

    title: str
    steps: tuple[PlanStep, ...]

    @property
    def todo(self) -> tuple[PlanStep, ...]:
        """Steps that are not done yet."""
        return tuple(step for step in self.steps if step.state == "todo")

    @property
    def seconds(self) -> float:
        """Seconds to go."""
        return sum(step.seconds for step in self.todo)

    @property
    def memory_mb(self) -> float:
        """Peak memory: steps run one after the other, so the largest counts."""
        return max((step.memory_mb for step in self.todo), default=0.0)

    @property
    def disk_mb(self) -> float:
        """Disk that will be added."""
        return sum(step.disk_mb for step in self.todo)

    @property
    def cost_usd(self) -> float:
        """Money that will be spent."""
        return sum(step.cost_usd for step in self.todo)

    def as_json(self) -> dict[str, object]:
        """The plan with its totals, for `--json`."""
        totals = {
            "seconds": self.seconds,
            "memory_mb": self.memory_mb,
            "disk_mb": self.disk_mb,
            "cost_usd": self.cost_usd,
        }
        return {**self.model_dump(mode="json"), "totals": totals}

    def as_table(self) -> Table:
        """A rich table for the terminal."""
        from rich.table import Table
        from rich.text import Text

        table = Table(title=self.title, show_footer=True, title_justify="left")
        columns = [
            ("step", "left", "total"),
            ("what", "left", ""),
            ("time", "right", duration(self.seconds)),
            ("memory", "right", _megabytes(self.memory_mb)),
            ("disk", "right", _megabytes(self.disk_mb)),
            ("cost", "right", _money(self.cost_usd)),
        ]
        for header, side, footer in columns:
            table.add_column(header, justify="right" if side == "right" else "left", footer=footer)
        for step in self.steps:
            if step.state == "done":
                table.add_row(Text(step.name), Text(step.detail), "done", "", "", "", style="dim")
            else:
                numbers = (_megabytes(step.memory_mb), _megabytes(step.disk_mb), _money(step.cost_usd))
                table.add_row(Text(step.name), Text(step.detail), duration(step.seconds), *numbers)
        return table


def duration(seconds: float) -> str:
    """Seconds as a short text: `45 s`, `3 min 10 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _megabytes(value: float) -> str:
    return f"{value / 1024:.1f} GB" if value >= 1024 else f"{value:.0f} MB"


def _money(value: float) -> str:
    return f"${value:.2f}" if value else "free"
