"""`talent kit rm`, `restore`, `trash` and `rename`: put kits away, take them back, call them otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from talent_factory.cli.common import JsonOption, WorkspaceOption, counted, emit, printable
from talent_factory.cli.kit_export import BaseDirOption
from talent_factory.cli.kit_list import kits_folder

if TYPE_CHECKING:
    from talent_factory.kits.catalog.rename import Renamed
    from talent_factory.kits.catalog.trash import Trashed

NothingOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be done; do nothing.")]


def rm(
    kits: Annotated[list[str], typer.Argument(metavar="ID...", help="The kits to put away.")],
    force: Annotated[bool, typer.Option("--force", help="Also kits that a persona uses.")] = False,
    base_dir: BaseDirOption = None,
    workspace: WorkspaceOption = None,
    dry_run: NothingOption = False,
    as_json: JsonOption = False,
) -> None:
    """Move kits, valid or not, to the trash; `talent kit restore` brings them back."""
    from talent_factory.core.errors import PolicyRefused
    from talent_factory.kits.catalog.trash import find_folder, put_away

    folder = kits_folder(base_dir, workspace)
    names = list(dict.fromkeys(kits))
    for name in names:  # all are looked at before the first one goes
        find_folder(folder, name)
        personas = _personas(workspace, name)
        if personas and not force:
            raise PolicyRefused(
                f"{name} is used by persona {', '.join(personas)}",
                remedy="--force puts it away all the same; the persona cannot be rendered then",
            )
    gone = [] if dry_run else [put_away(folder, name) for name in names]
    shown = {"moved": gone, "kits": names, "dry_run": dry_run}
    emit(shown, as_json, lambda: _print_gone(names, dry_run=dry_run))


def restore(
    name: Annotated[str, typer.Argument(metavar="ID", help="The kit, or its name in the trash.")],
    base_dir: BaseDirOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring a kit back from the trash, the latest when several had its id."""
    from talent_factory.kits.catalog.trash import take_back

    folder = kits_folder(base_dir, workspace)
    talent_id = take_back(folder, name)
    emit({"restored": talent_id}, as_json, lambda: print(f"{printable(talent_id)} is back in {folder}"))


def trash(
    empty: Annotated[bool, typer.Option("--empty", help="Delete for good all that is in it.")] = False,
    base_dir: BaseDirOption = None,
    workspace: WorkspaceOption = None,
    dry_run: NothingOption = False,
    as_json: JsonOption = False,
) -> None:
    """List the kits in the trash, or delete them for good."""
    from talent_factory.kits.catalog.trash import empty_trash, trashed

    folder = kits_folder(base_dir, workspace)
    found = trashed(folder)
    emptied = empty and not dry_run
    if emptied:
        empty_trash(folder)
    emit({"trash": found, "emptied": emptied}, as_json, lambda: _print_trash(found, emptied=emptied))


def rename(
    old: Annotated[str, typer.Argument(metavar="ID", help="The kit.")],
    new: Annotated[str, typer.Argument(metavar="NEW_ID", help="Its new id.")],
    base_dir: BaseDirOption = None,
    workspace: WorkspaceOption = None,
    dry_run: NothingOption = False,
    as_json: JsonOption = False,
) -> None:
    """Give a kit another id: its folder and talent.json change, personas follow; weights and token stay."""
    from talent_factory.core.workspace import workspace_from
    from talent_factory.foundry.persona_book import follow_rename
    from talent_factory.kits.catalog.rename import rename_kit
    from talent_factory.kits.registry import move_note

    folder = kits_folder(base_dir, workspace)
    done = rename_kit(folder, old, new, dry_run=dry_run)
    followed: tuple[str, ...] = ()
    if not dry_run and base_dir is None:
        place = workspace_from(workspace)
        move_note(place.root, place.talents, old=old, new=new)
        followed = follow_rename(place.personas, old, new)
    personas = _personas(workspace, old)
    shown = {**done.model_dump(mode="json"), "followed": followed, "personas": personas, "dry_run": dry_run}
    emit(shown, as_json, lambda: _print_renamed(done, followed, personas, dry_run=dry_run))


def _personas(workspace: Path | None, talent_id: str) -> tuple[str, ...]:
    from talent_factory.core.workspace import workspace_from
    from talent_factory.foundry.usage import find_uses

    return find_uses(workspace_from(workspace), renders=False).of(talent_id).personas


def _print_gone(names: list[str], *, dry_run: bool) -> None:
    for name in names:
        print(f"{printable(name)} {'would go' if dry_run else 'went'} to the trash")
    if not dry_run:
        print(
            f"next: talent kit restore {printable(names[0])} brings it back; talent kit trash --empty deletes"
        )


def _print_trash(found: list[Trashed], *, emptied: bool) -> None:
    for item in found:
        print(f"{printable(item.name)}  {item.size_bytes / 2**20:.1f} MB")
    total = sum(item.size_bytes for item in found) / 2**20
    print(f"{counted(len(found), 'kit')}, {total:.1f} MB{', deleted' if emptied else ''}")
    if found and not emptied:
        print("next: talent kit restore ID, or talent kit trash --empty")


def _print_renamed(
    done: Renamed, followed: tuple[str, ...], personas: tuple[str, ...], *, dry_run: bool
) -> None:
    print(f"{done.old} {'would be' if dry_run else 'is'} {done.new}")
    if done.unsigned:
        print(f"its signature covered the old id and is gone: talent kit sign {done.new}")
    for persona in followed:
        print(f"persona {printable(persona)} names {done.new} now")
    for persona in personas:
        name = printable(persona)
        if dry_run:
            print(f"persona {name} names it and would follow")
        else:
            print(f"persona {name} still names {done.old}: correct its id in personas/{name}.json")
    for kit in done.named_by:
        print(f"{printable(kit)} still names it in intended_mix")
