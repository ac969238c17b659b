"""Show a run in TensorBoard, for those who have it: an adapter that listens to the events of the steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from talent_factory.core.errors import UsageError
from talent_factory.core.events import Reporter, SilentReporter


class BoardReporter(SilentReporter):
    """Writes the numbers of each `step` event to a TensorBoard writer."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def event(self, kind: str, **fields: object) -> None:
        """Write the numbers of a step; other events are not for curves."""
        if kind != "step":
            return
        step = fields["step"]
        for name, value in fields.items():
            if name != "step" and isinstance(value, float):
                self._writer.add_scalar(f"train/{name}", value, step)


@contextmanager
def board(run: Path, *, wanted: bool) -> Iterator[Reporter]:
    """A reporter that writes `run/tensorboard`, or a silent one. Raises UsageError when it is missing."""
    if not wanted:
        yield SilentReporter()
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UsageError(
            "tensorboard: true, but TensorBoard is not installed",
            remedy="pip install 'talent-factory[tensorboard]', or write tensorboard: false",
        ) from None
    writer = SummaryWriter(str(run / "tensorboard"))
    try:
        yield BoardReporter(writer)
    finally:
        writer.close()
