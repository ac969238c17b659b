"""Show a run in TensorBoard or W&B, for those who have them: adapters that listen to the events of a run."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from talent_factory.core.errors import UsageError
from talent_factory.core.events import Reporter, SilentReporter
from talent_factory.core.files import write_text

# The events that hold figures, and what their curves are filed under.
_CURVES = {"step": "train", "validation": "validation"}


def curves_of(kind: str, fields: Mapping[str, object]) -> dict[str, float]:
    """The figures of an event by the names of their curves; none for events that hold no figures."""
    if kind not in _CURVES:
        return {}
    return {
        f"{_CURVES[kind]}/{name}": value
        for name, value in fields.items()
        if name != "step" and isinstance(value, float)
    }


class BoardReporter(SilentReporter):
    """Writes the figures of each step and validation to a TensorBoard writer."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def event(self, kind: str, **fields: object) -> None:
        """Write the figures of the event; others are not for curves."""
        for name, value in curves_of(kind, fields).items():
            self._writer.add_scalar(name, value, fields["step"])


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


class WandbReporter(SilentReporter):
    """Sends the figures and sample images of a run to W&B."""

    def __init__(self, run: Any, image: Callable[[str], Any]) -> None:
        self._run = run
        self._image = image

    def event(self, kind: str, **fields: object) -> None:
        """Log the figures of the event, or its picture."""
        values: dict[str, Any] = dict(curves_of(kind, fields))
        if kind == "sample":
            values["samples"] = self._image(str(fields["path"]))
        if values:
            self._run.log(values, step=fields["step"])


@contextmanager
def wandb_board(run: Path, *, project: str | None, config: Mapping[str, Any]) -> Iterator[Reporter]:
    """A reporter that writes to the W&B `project`, or a silent one where it is None.

    `WANDB_MODE=offline` keeps everything in `run/wandb`, to be sent later by `wandb sync`. A resumed run goes
    on under the id that it began with. Besides figures and samples it is told `config`: no code, packages,
    host name or statistics of the machine. Raises UsageError when W&B is not installed or nobody is known to
    it.
    """
    if project is None:
        yield SilentReporter()
        return
    try:
        import wandb
    except ImportError:
        raise UsageError(
            f"wandb: {project}, but W&B is not installed",
            remedy="pip install 'talent-factory[wandb]', or write wandb: null",
        ) from None
    folder = run / "wandb"
    known = folder / "id"
    if not known.is_file():
        write_text(known, secrets.token_hex(8))
    settings = wandb.Settings(
        silent=True, console="off", host="-", disable_git=True, save_code=False,
        x_disable_machine_info=True, x_disable_meta=True, x_disable_stats=True, x_save_requirements=False,
    )  # fmt: skip
    try:
        started = wandb.init(
            project=project,
            name=run.name,
            id=known.read_text("utf-8").strip(),
            resume="allow",
            dir=str(run),
            config=dict(config),
            settings=settings,
        )
    except wandb.errors.Error as error:
        raise UsageError(
            f"wandb: {project}: {error}",
            remedy="log in with: wandb login; or set WANDB_MODE=offline, or write wandb: null",
        ) from None
    try:
        yield WandbReporter(started, wandb.Image)
    finally:
        started.finish()
