"""`talent kit`: validate, index, list, show and conform the kits of a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from talent_factory.cli.common import JsonOption, WorkspaceOption, counted, emit, printable
from talent_factory.cli.kit_examples import examples
from talent_factory.cli.kit_export import export, prompt, subject
from talent_factory.cli.kit_import import import_kits
from talent_factory.cli.kit_list import (
    VerifyOption,
    bring_up_to_date,
    duplicates,
    kits_folder,
    list_kits,
    open_catalog,
    search,
    show,
    unused,
)
from talent_factory.cli.kit_registry import registry
from talent_factory.cli.kit_shelf import rename, restore, rm, trash
from talent_factory.cli.kit_sign import keygen, sign, trust, verify

if TYPE_CHECKING:
    from talent_factory.kits.catalog.catalog import Catalog
    from talent_factory.kits.findings import KitReport
    from talent_factory.kits.validate import Inspection

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Take kits in, find, check, sign and export them."
)

BaseDirOption = Annotated[
    Path | None,
    typer.Option(
        "--base-dir", show_default="talents/avatar", help="Folder that holds the <talent_id>/ folders."
    ),
]
TalentArgument = Annotated[
    str | None, typer.Argument(metavar="[TALENT_ID]", help="One kit; all kits without it.")
]


@app.command("validate")
def validate(
    talent_id: TalentArgument = None,
    base_dir: BaseDirOption = None,
    workspace: WorkspaceOption = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show remedies and warnings too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Open every file of one kit or of all kits and say what is wrong; exit code 1 when a kit is invalid."""
    if not validate_folder(
        kits_folder(base_dir, workspace), talent_id=talent_id, verbose=verbose, as_json=as_json
    ):
        raise typer.Exit(1)


@app.command("index")
def index(
    base_dir: BaseDirOption = None,
    workspace: WorkspaceOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file, not to stdout.")
    ] = None,
    pretty: Annotated[bool, typer.Option("--pretty", help="Indent the JSON.")] = False,
    include_invalid: Annotated[
        bool, typer.Option("--include-invalid", help="List invalid kits too.")
    ] = False,
    verify: VerifyOption = False,
    as_json: JsonOption = False,
) -> None:
    """Print a JSON array with one entry a kit, for programs that choose among kits (always JSON)."""
    with open_catalog(base_dir, workspace) as catalog:
        bring_up_to_date(catalog, verify=verify)
        write_index(catalog, output=output, pretty=pretty, include_invalid=include_invalid)


app.command("registry")(registry)
app.command("import")(import_kits)
app.command("list")(list_kits)
app.command("search")(search)
app.command("show")(show)
app.command("duplicates")(duplicates)
app.command("unused")(unused)
app.command("rm")(rm)
app.command("restore")(restore)
app.command("trash")(trash)
app.command("rename")(rename)
app.command("examples")(examples)
app.command("export")(export)
app.command("prompt")(prompt)
app.command("subject")(subject)
app.command("keygen")(keygen)
app.command("sign")(sign)
app.command("verify")(verify)
app.command("trust")(trust)


@app.command("conform")
def conform(
    target: Annotated[str, typer.Argument(metavar="ID|FILE", help="A kit, or any LoRA file.")],
    tool: Annotated[
        list[str] | None,
        typer.Option("--tool", help="diffusers, a1111, forge, comfyui or invokeai; may be repeated."),
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            "--base", help="sd15 or sdxl for their shape alone; mini or a model to compare outputs on it too."
        ),
    ] = None,
    base_dir: BaseDirOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say which programs read the weights, and what each makes of them; exit code 1 when one loses any."""
    from talent_factory.cli.kit_conform import check, show

    report = check(target, tools=tool or (), base=base, folder=kits_folder(base_dir, workspace))
    emit(report, as_json, lambda: show(report))
    if not report.good:
        raise typer.Exit(1)


@app.command("schema")
def schema(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write to this file, not to stdout.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print the JSON schema of talent.json (always JSON)."""
    from talent_factory.core.files import write_text
    from talent_factory.kits.manifest import schema_text

    if output is None:
        print(schema_text(), end="")
    else:
        write_text(output, schema_text())


def validate_folder(base_dir: Path, *, talent_id: str | None, verbose: bool, as_json: bool) -> bool:
    """Validate one kit or all kits of `base_dir`, show the reports and return whether all are valid.

    Raises UsageError for a text that is no talent id and KitError when `base_dir` is no folder.
    """
    from talent_factory.kits.index import inspect_kits

    inspections = [_inspect_one(base_dir, talent_id)] if talent_id else inspect_kits(base_dir)
    reports = [inspection.report for inspection in inspections]
    valid = all(report.valid for report in reports)
    emit({"valid": valid, "kits": reports}, as_json, lambda: print_reports(reports, base_dir, verbose))
    return valid


def index_folder(base_dir: Path, *, output: Path | None, pretty: bool, include_invalid: bool) -> None:
    """Print the index of `base_dir` as a JSON array, or write it to `output` in one step.

    Raises KitError when `base_dir` is no folder.
    """
    with open_catalog(base_dir, None) as catalog:
        bring_up_to_date(catalog)
        write_index(catalog, output=output, pretty=pretty, include_invalid=include_invalid)


def write_index(catalog: Catalog, *, output: Path | None, pretty: bool, include_invalid: bool) -> None:
    """Print what the catalog knows as a JSON array, or write it to `output` in one step."""
    from talent_factory.core.files import write_text

    # a folder's name may be no UTF-8: escapes can say it all the same
    if pretty:
        text = json.dumps(catalog.entries(include_invalid=include_invalid), indent=2)
    else:
        text = catalog.index_text(include_invalid=include_invalid)
    if output is None:
        print(text)
    else:
        write_text(output, text + "\n")


def _inspect_one(base_dir: Path, talent_id: str) -> Inspection:
    from talent_factory.core.workspace import check_id
    from talent_factory.kits.validate import inspect_kit

    return inspect_kit(base_dir / check_id(talent_id))


def print_reports(reports: list[KitReport], base_dir: Path, verbose: bool) -> None:
    """Show what the validator says of kits, one line a finding, and how many are valid."""
    for report in reports:
        print(f"{'valid  ' if report.valid else 'INVALID'}  {printable(report.id)}")
        for finding in report.findings if verbose else report.errors:
            where = f"{finding.file}: " if finding.file else ""
            print(f"  {finding.severity:7}  {printable(where + finding.message)}  [{finding.code}]")
            if verbose:
                print(f"           try: {finding.remedy}")
    bad = sum(not report.valid for report in reports)
    weak = sum(len(report.warnings) for report in reports)
    hint = " (--verbose shows them)" if weak and not verbose else ""
    kits = counted(len(reports), "kit")
    good = len(reports) - bad
    print(f"{kits} in {base_dir}: {good} valid, {bad} invalid, {counted(weak, 'warning')}{hint}")
