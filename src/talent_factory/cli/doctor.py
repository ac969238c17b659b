"""`talent doctor`: is this machine ready, and if not, what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from talent_factory.cli.common import JsonOption, WorkspaceOption, console, emit

if TYPE_CHECKING:
    from talent_factory.core.doctor import Finding

_MARKS = {"ok": ("ok", "green"), "warn": ("warn", "yellow"), "error": ("error", "bold red")}


def doctor(
    workspace: WorkspaceOption = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Also ask torch for its device; takes seconds.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check this machine and say what to do about it; exit code 1 when something must be mended first."""
    from talent_factory.core.doctor import run_checks, worst
    from talent_factory.core.workspace import workspace_from

    findings = run_checks(workspace_from(workspace), deep=deep)
    verdict = worst(findings)
    emit({"verdict": verdict, "findings": findings}, as_json, lambda: _show(findings))
    if verdict == "error":
        raise typer.Exit(1)


def _show(findings: list[Finding]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for header in ("", "subject", "finding", "what to do"):
        table.add_column(header, overflow="fold")
    for finding in findings:
        word, style = _MARKS[finding.severity]
        table.add_row(Text(word, style), Text(finding.subject), Text(finding.message), Text(finding.remedy))
    console().print(table)
