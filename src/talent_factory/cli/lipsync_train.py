"""`talent lipsync train` and `resume`: from clips to an actor that speaks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from talent_factory.cli.common import DryRunOption, JsonOption, console, emit, reporter

if TYPE_CHECKING:
    from talent_factory.lipsync.config import LipsyncConfig


def train(
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            "-c",
            help="Folder with data, train, model and optimizer.yaml; else configs/lipsync, where that is.",
        ),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change one key, as often as needed."),
    ] = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train on clips as the four files say; `torchrun --nproc-per-node N -m talent_factory.cli.app lipsync
    train` uses N GPUs.

    Every validation and checkpoint lands in output_dir. Stop it with Ctrl-C: it saves, and `resume` goes on.
    """
    from talent_factory.lipsync.config_files import parse_changes, read_config

    shipped = Path("configs/lipsync")
    folder = config or (shipped if shipped.is_dir() else None)
    typed = read_config(folder, parse_changes(changes or []))
    if dry_run:
        _show_plan(typed, as_json=as_json)
    else:
        _train(typed, as_json=as_json)


def resume(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The output_dir of a stopped training.")],
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Change a key that leaves the numbers alone, such as a path."
        ),
    ] = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Go on with a stopped or killed training, as if it had never stopped."""
    from talent_factory.lipsync.config_files import change_config, parse_changes
    from talent_factory.lipsync.train.session import read_run

    kept = {"output_dir": str(run), "resume_from_checkpoint": "latest"}
    typed = change_config(read_run(run).config, {**parse_changes(changes or []), **kept})
    if dry_run:
        _show_plan(typed, as_json=as_json)
    else:
        _train(typed, as_json=as_json)


def _show_plan(config: LipsyncConfig, *, as_json: bool) -> None:
    from talent_factory.lipsync.data.metadata import read_metadata
    from talent_factory.lipsync.train.bill import plan_training
    from talent_factory.lipsync.train.material import refuse_other_size

    listed = _local_metadata(config)
    missing = listed if listed is not None and not listed.exists() else None
    if listed is not None and missing is None:
        refuse_other_size(read_metadata(listed), config.data)
    plan, bill = plan_training(config)

    def human() -> None:
        console().print(plan.as_table())
        console().print("\n".join(bill.lines()), markup=False, soft_wrap=True)
        if missing is not None:
            make = f"talent lipsync metadata --mode scan --input {missing.parent} --output {missing}"
            console().print(f"{missing} is not there yet: {make}", markup=False, soft_wrap=True)
        elif config.data.local_data_base_url is None and config.data.s3_data_base_url is None:
            console().print("no clips are named yet: --set local_data_base_url=FOLDER", markup=False)

    document = {**plan.as_json(), "bill": bill.model_dump(mode="json")}
    emit({**document, "missing": None if missing is None else str(missing)}, as_json, human)


def _local_metadata(config: LipsyncConfig) -> Path | None:
    """The list of clips that a training on local clips reads, there or not; None for far places."""
    data = config.data
    if data.local_data_base_url is None or data.s3_data_base_url is not None:
        return None
    named = data.metadata_url or f"{data.local_data_base_url}/metadata.npz"
    return None if "://" in named else Path(named)


def _train(config: LipsyncConfig, *, as_json: bool) -> None:
    from talent_factory.core.stop import graceful_stop
    from talent_factory.lipsync.train.bill import make_bill
    from talent_factory.lipsync.train.run import train as run_training
    from talent_factory.training.company import helps

    notice = "stopping: the state is being saved; Ctrl-C again to leave at once"
    if helps():  # one of several processes that torchrun started: the first one speaks
        with graceful_stop() as stop:
            run_training(config, stop=stop)
        return
    with reporter() as progress, graceful_stop(notice) as stop:
        for line in make_bill(config).lines():
            progress.message(line)
        result = run_training(config, reporter=progress, stop=stop)
    shown = "".join(f", {name} {value:.4g}" for name, value in result.validation.items())
    loss = "" if result.loss is None else f", loss {result.loss:.4f}"
    emit(
        result,
        as_json,
        lambda: console().print(
            f"{result.run} is trained{loss}{shown}: {result.checkpoint}", markup=False, soft_wrap=True
        ),
    )
