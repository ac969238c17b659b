"""`talent kit list`, `show`, `search`, `duplicates` and `unused`: find kits without opening each anew."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from talent_factory.cli.common import (
    JsonOption,
    WorkspaceOption,
    console,
    counted,
    emit,
    printable,
    reporter,
)
from talent_factory.cli.kit_export import BaseDirOption
from talent_factory.cli.kit_show import print_kit

if TYPE_CHECKING:
    from rich.table import Column

    from talent_factory.foundry.usage import Uses
    from talent_factory.kits.catalog.catalog import Catalog, Listed
    from talent_factory.kits.catalog.choice import Wish

FitsOption = Annotated[
    str | None,
    typer.Option("--fits", help="Only kits for this base: mini, sd15, sdxl, a model's folder or revision."),
]
KindOption = Annotated[str | None, typer.Option("--kind", help="Only identity or only style kits.")]
TagOption = Annotated[
    list[str] | None, typer.Option("--tag", help="Only kits with this tag; may be repeated.")
]
VerifyOption = Annotated[
    bool, typer.Option("--verify", help="Read all kits again, also those whose files seem unchanged.")
]


def list_kits(
    fits: FitsOption = None,
    kind: KindOption = None,
    tag: TagOption = None,
    sort: Annotated[
        str, typer.Option("--sort", help="name, date, size, rank, weight, token or base.")
    ] = "name",
    verify: VerifyOption = False,
    base_dir: BaseDirOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the kits, invalid ones too; only what changed since the last time is read."""
    from talent_factory.kits.catalog.choice import wish

    wanted = wish(fits=fits, kind=kind, tags=tuple(tag or ()), sort=sort)
    with open_catalog(base_dir, workspace) as catalog:
        bring_up_to_date(catalog, verify=verify)
        entries = catalog.entries(include_invalid=True, wish=wanted)
    emit(entries, as_json, lambda: _print_table(entries))


def show(
    talent_id: Annotated[str, typer.Argument(metavar="ID", help="The kit to show.")],
    base_dir: BaseDirOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one kit: what it is, what the validator says, its twins, and which personas use it."""
    from talent_factory.core.workspace import check_id
    from talent_factory.kits.index import entry, entry_fields
    from talent_factory.kits.validate import inspect_kit

    folder = kits_folder(base_dir, workspace)
    inspection = inspect_kit(folder / check_id(talent_id))
    report = inspection.report
    twins: tuple[str, ...] = ()
    personas: tuple[str, ...] = ()
    if report.valid:
        with open_catalog(base_dir, workspace) as catalog:
            bring_up_to_date(catalog)
            twins = catalog.twins_of(report.id)
        personas = _uses(workspace, renders=False).of(report.id).personas
    document = {
        **entry(report.id, report.path, valid=report.valid, fields=entry_fields(inspection.raw)),
        "manifest": inspection.raw,
        "findings": report.findings,
        "twins": twins,
        "personas": personas,
    }
    emit(document, as_json, lambda: print_kit(document))


def search(
    text: Annotated[str, typer.Argument(help="Words to look for; the last letters may be missing.")] = "",
    fits: FitsOption = None,
    kind: KindOption = None,
    tag: TagOption = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="Kits at most.")] = 20,
    encoder: Annotated[
        str | None,
        typer.Option(
            "--encoder",
            envvar="TALENT_ENCODER",
            help="colours, or clip:FOLDER or siglip:FOLDER with local weights: search by meaning too.",
        ),
    ] = None,
    like: Annotated[
        Path | None, typer.Option("--like", help="A picture; kits that look like it (with --encoder).")
    ] = None,
    base_dir: BaseDirOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find valid kits by words in name, token, tags, description, captions and prompts, best first."""
    from talent_factory.core.errors import UsageError
    from talent_factory.kits.catalog.choice import wish

    wanted = wish(fits=fits, kind=kind, tags=tuple(tag or ())).model_copy(update={"valid": True})
    if not text.strip() and like is None:
        raise UsageError("there is nothing to look for", remedy='talent kit search "robot knight"')
    if like is not None and encoder is None:
        raise UsageError("a picture needs an encoder", remedy="add --encoder clip:FOLDER")
    with open_catalog(base_dir, workspace) as catalog:
        bring_up_to_date(catalog)
        if encoder is not None:
            hits = _search_by_meaning(catalog, encoder, text=text, like=like, wish=wanted, limit=limit)
        else:
            hits = [hit._asdict() for hit in catalog.search(text, wish=wanted, limit=limit)]
        known = catalog.by_folder(hit["id"] for hit in hits)
    found = [{**hit, **known[hit["id"]]._asdict()} for hit in hits]
    emit(found, as_json, lambda: _print_hits(found))


def duplicates(
    base_dir: BaseDirOption = None, workspace: WorkspaceOption = None, as_json: JsonOption = False
) -> None:
    """List kits whose weights are the same numbers, whatever their names and headers say."""
    with open_catalog(base_dir, workspace) as catalog:
        bring_up_to_date(catalog)
        with reporter() as shown:
            groups = catalog.duplicates(reporter=shown)
    emit(groups, as_json, lambda: _print_groups(groups))


def unused(
    fits: FitsOption = None,
    kind: KindOption = None,
    tag: TagOption = None,
    base_dir: BaseDirOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """List kits that no persona names and no picture below renders/ and reports/ was made with."""
    from talent_factory.kits.catalog.choice import wish

    wanted = wish(fits=fits, kind=kind, tags=tuple(tag or ()))
    with open_catalog(base_dir, workspace) as catalog:
        bring_up_to_date(catalog)
        kits = catalog.kits(wanted)
    uses = _uses(workspace, renders=True)
    found = [kit for kit in kits if not any(uses.of(kit.id, kit.weights))]
    emit([kit._asdict() for kit in found], as_json, lambda: _print_unused(found))


def kits_folder(base_dir: Path | None, workspace: Path | None) -> Path:
    """The folder of kits that the options name."""
    from talent_factory.core.workspace import workspace_from
    from talent_factory.kits.index import DEFAULT_FOLDER

    if base_dir is not None:
        return base_dir
    # without a workspace the path stays relative, and so do the paths in the index
    return workspace_from(workspace).talents if workspace is not None else DEFAULT_FOLDER


def open_catalog(base_dir: Path | None, workspace: Path | None) -> Catalog:
    """The catalog of the kits that the options name; of another folder it is kept in a named workspace."""
    from talent_factory.core.workspace import workspace_from
    from talent_factory.kits.catalog.catalog import Catalog, catalog_place

    cache = workspace_from(workspace).cache if workspace is not None else None
    folder = kits_folder(base_dir, workspace)
    return Catalog(folder, place=catalog_place(folder, cache=cache))


def bring_up_to_date(catalog: Catalog, *, verify: bool = False) -> None:
    """Read what changed, with a bar where that takes long, and say what a thorough look found."""
    with reporter() as shown:
        changes = catalog.update(verify=verify, reporter=shown)
        for name in changes.altered:
            shown.message(f"{printable(name)} changed behind the times of its files")


def _uses(workspace: Path | None, *, renders: bool) -> Uses:
    from talent_factory.core.workspace import workspace_from
    from talent_factory.foundry.usage import find_uses

    with reporter() as shown:
        return find_uses(workspace_from(workspace), renders=renders, reporter=shown)


def _search_by_meaning(
    catalog: Catalog, encoder: str, *, text: str, like: Path | None, wish: Wish, limit: int
) -> list[dict[str, Any]]:
    from talent_factory.foundry.text_image import open_text_image_encoder
    from talent_factory.kits.catalog.meaning import Meaning
    from talent_factory.kits.catalog.vectors import read_picture

    eye = open_text_image_encoder(encoder)
    picture = read_picture(like) if like is not None else None
    with reporter() as shown:
        meaning = Meaning(catalog, eye)
        meaning.update(reporter=shown)
    return [hit._asdict() for hit in meaning.search(text, picture=picture, wish=wish, limit=limit)]


def _print_table(entries: list[dict[str, Any]]) -> None:
    from rich.table import Table
    from rich.text import Text

    ids = _id_column(item["id"] for item in entries)
    table = Table(ids, "token", "base", "rank", "weight", "MB", "valid", box=None, pad_edge=False)
    for item in entries:
        cells = [
            item[name] for name in ("id", "token", "base_model", "lora_rank", "default_weight", "size_mb")
        ]
        shown = ["" if cell is None else str(cell)[:80] for cell in cells]
        # Text, because a broken kit may hold anything, markup included
        table.add_row(*(Text(printable(cell)) for cell in shown), "yes" if item["valid"] else "NO")
    console().print(table)


def _id_column(ids: Iterable[str]) -> Column:
    """The first column: ids are there to be copied, so they are never cut."""
    from rich.table import Column

    return Column("kit", overflow="fold", min_width=min(60, max((len(name) for name in ids), default=3)))


def _print_hits(found: list[dict[str, Any]]) -> None:
    from rich.table import Table
    from rich.text import Text

    if not found:
        print("no kit fits\nnext: fewer words, or talent kit list")
        return
    for asked, other in dict.fromkeys(pair for item in found for pair in item["instead"]):
        print(f"{printable(asked)}: no kit says so; {printable(other)} was taken")
    ids = _id_column(item["id"] for item in found)
    table = Table(ids, "token", "base", "tags", "weight", box=None, pad_edge=False)
    for item in found:
        cells = (item["id"], item["token"], item["base"], ", ".join(item["tags"]), f"{item['weight']:g}")
        table.add_row(*(Text(printable(cell[:80])) for cell in cells))
    console().print(table)


def _print_groups(groups: list[tuple[str, ...]]) -> None:
    for group in groups:
        print("  ".join(printable(name) for name in group))
    print(f"{counted(len(groups), 'group')} of kits with the same weights")
    if groups:
        print("next: talent kit rm ID")


def _print_unused(found: list[Listed]) -> None:
    for kit in found:
        print(f"{printable(kit.id)}  {kit.size_mb:g} MB")
    print(f"used by no persona and no render here: {counted(len(found), 'kit')}")
    if found:
        print("next: talent kit rm ID")
