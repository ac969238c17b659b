"""`talent selftest`: prove on this machine what the project promises."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from talent_factory.cli.common import JsonOption, console, emit, reporter

if TYPE_CHECKING:
    from talent_factory.training.selftest import ResumeProof

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Prove promises on this machine, such as exact resume."
)


@app.callback()
def _group() -> None:
    # a group with one command stays a group, so that `talent selftest resume` keeps its name
    pass


@app.command("resume")
def resume(
    kills: Annotated[int, typer.Option(min=1, max=10_000, help="Runs to kill, each at least once.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Chooses the moments.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Kill tiny trainings at random moments, resume them, and compare the bytes with an unkilled one."""
    from talent_factory.training.selftest import prove_resume

    with reporter() as progress:
        proof = prove_resume(kills=kills, seed=seed, reporter=progress)
    emit({**proof.model_dump(mode="json"), "passed": proof.passed}, as_json, lambda: _show(proof))
    if not proof.passed:
        raise typer.Exit(1)


def _show(proof: ResumeProof) -> None:
    lines = [
        f"{proof.identical} of {proof.runs} runs ended bit-identical to the one that was never killed",
        f"kills by SIGKILL: {proof.kills}, in {proof.seconds:.0f} s",
        f"compared: {', '.join(proof.compared)}",
    ]
    for run in proof.details:
        if not run.identical:
            lines.append(
                f"run {run.number}, killed at steps {run.killed_at_steps}: {', '.join(run.different)} differ"
            )
    console().print("\n".join(lines), markup=False, soft_wrap=True)
