"""`talent kit keygen`, `sign`, `verify` and `trust`: who vouches for a kit."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from talent_factory.cli.common import DryRunOption, JsonOption, WorkspaceOption, emit, printable
from talent_factory.cli.kit_export import BaseDirOption, KitArgument, OwnBaseOption, kit_folder, own_base
from talent_factory.core.errors import UsageError

if TYPE_CHECKING:
    from talent_factory.kits.signing import PublicKey, Verification

_OPENSSF = "model-signing"
WithOption = Annotated[
    str | None,
    typer.Option("--with", help="model-signing: OpenSSF's form, with a P-256 key, beside our own."),
]


def keygen(
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", show_default="your own folder", help="The private key; .pub beside it."),
    ] = None,
    name: Annotated[str, typer.Option("--name", help="Whose key it is, for people.")] = "",
    password: Annotated[
        bool, typer.Option("--password", help="Lock it: by $TALENT_KEY_PASSWORD, or ask for one.")
    ] = False,
    other: WithOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make a key pair that signs kits; an existing key is never overwritten."""
    from talent_factory.kits.signing import generate_key

    openssf = _openssf(other)
    path = out or _usual_key(openssf=openssf)
    if dry_run:
        emit({"private": path, "public": f"{path}.pub", "written": False}, as_json, lambda: print(path))
        return
    secret = _password(ask=True) if password else None
    key = generate_key(path, name=name, password=secret, kind="p256" if openssf else "ed25519")
    document = {"private": path, "public": f"{path}.pub", "fingerprint": key.fingerprint, "line": key.line}
    emit(document, as_json, lambda: _show_key(path, key))


def sign(
    talent_id: KitArgument,
    key: Annotated[
        Path | None,
        typer.Option("--key", show_default="your own key", help="The private key, ed25519."),
    ] = None,
    name: Annotated[str, typer.Option("--name", help="Whose signature it is, for people.")] = "",
    other: WithOption = None,
    base: OwnBaseOption = None,
    base_dir: BaseDirOption = None,
    workspace: WorkspaceOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Sign every file of a kit; the signature lies in the kit and replaces an older one."""
    from talent_factory.core.errors import KitError
    from talent_factory.kits.signing import load_private_key, sign_kit
    from talent_factory.kits.signing.keys import public_key_of
    from talent_factory.kits.signing.openssf import sign_openssf
    from talent_factory.kits.validate import validate_kit

    folder = kit_folder(talent_id, base_dir, workspace)
    openssf = _openssf(other)
    path = key or _usual_key(openssf=openssf)
    secret = _password(ask=False)
    # an older signature ends here, whatever it says
    wrong = [
        fault
        for fault in validate_kit(folder, base_folder=own_base(base)).errors
        if fault.code != "signature"
    ]
    if wrong:
        raise KitError(
            f"{talent_id} is not signed: {wrong[0].file}: {wrong[0].message}", remedy=wrong[0].remedy
        )
    private = load_private_key(path, password=secret)
    if dry_run:
        public = public_key_of(private)
    elif openssf:
        public = sign_openssf(folder, path, password=secret)
    else:
        moment = datetime.now(UTC).replace(microsecond=0)
        public = sign_kit(folder, private, signed_at=moment, name=name or _name_beside(path))
    document = {"kit": talent_id, "fingerprint": public.fingerprint, "written": not dry_run}
    emit(document, as_json, lambda: print(f"{talent_id} is signed by {public.fingerprint}"))


def verify(
    talent_id: KitArgument,
    key: Annotated[
        Path | None, typer.Option("--key", help="A public key to trust for this one check.")
    ] = None,
    base_dir: BaseDirOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check a kit's signatures; exit code 1 unless it is whole and signed by a key that you trust."""
    from talent_factory.core.workspace import workspace_from
    from talent_factory.kits.signing import read_trusted, trusted_keys, verify_kit
    from talent_factory.kits.signing.openssf import verify_openssf

    folder = kit_folder(talent_id, base_dir, workspace)
    trusted = (*trusted_keys(workspace_from(workspace).root), *(read_trusted(_there(key)) if key else ()))
    found = verify_kit(folder, trusted)
    found = found.model_copy(update={"openssf": verify_openssf(folder, trusted)})
    emit(found, as_json, lambda: _show_verification(found))
    if "broken" in (found.state, found.openssf) or "trusted" not in (found.state, found.openssf):
        raise typer.Exit(1)


def trust(
    key: Annotated[
        Path | None, typer.Argument(metavar="[PUBLIC_KEY]", help="A .pub file; without it, show the list.")
    ] = None,
    mine: Annotated[
        bool, typer.Option("--user", help="For all your workspaces, not for this one alone.")
    ] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Trust a public key, or list the keys that are trusted; compare fingerprints with their owner first."""
    from talent_factory.core.workspace import workspace_from
    from talent_factory.kits.signing import (
        TRUSTED_FILE,
        config_folder,
        read_trusted,
        trust_key,
        trusted_keys,
    )

    root = workspace_from(workspace).root
    if key is not None:
        found = read_trusted(_there(key))
        if not found:
            raise UsageError(f"{key} holds no public key", remedy="talent kit keygen makes KEY and KEY.pub")
        for each in found:
            trust_key((config_folder() if mine else root) / TRUSTED_FILE, each)
    keys = trusted_keys(root)
    document = [{"fingerprint": each.fingerprint, "name": each.name, "kind": each.kind} for each in keys]
    emit(document, as_json, lambda: _show_trusted(keys))


def _openssf(other: str | None) -> bool:
    if other not in (None, _OPENSSF):
        raise UsageError(f"no form called {other[:40]!r}", remedy=f"leave --with out, or --with {_OPENSSF}")
    return other is not None


def _usual_key(*, openssf: bool) -> Path:
    from talent_factory.kits.signing import config_folder
    from talent_factory.kits.signing.keys import OWN_KEYS

    return config_folder() / "keys" / OWN_KEYS[openssf]


def _password(*, ask: bool) -> str | None:
    from talent_factory.kits.signing.keys import PASSWORD_VARIABLE

    found = os.environ.get(PASSWORD_VARIABLE)
    if found or not ask:
        return found or None
    return str(typer.prompt("password of the key", hide_input=True, confirmation_prompt=True, err=True))


def _name_beside(path: Path) -> str:
    """The name in the public half, where it lies beside the key."""
    from talent_factory.core.errors import FileError
    from talent_factory.kits.signing import read_trusted

    try:
        return next((key.name for key in read_trusted(path.with_name(path.name + ".pub"))), "")
    except FileError:
        return ""


def _there(path: Path) -> Path:
    if not path.is_file():
        raise UsageError(f"{path} does not exist", remedy="name a public key, such as kits.pem.pub")
    return path


def _show_key(path: Path, key: PublicKey) -> None:
    print(f"private: {path} (keep it to yourself)")
    print(f"public:  {path}.pub")
    print(f"{key.kind} {key.fingerprint} {printable(key.name)}".rstrip())
    print("next: talent kit sign ID, and give others the .pub file")


def _show_verification(found: Verification) -> None:
    print(f"{found.kit}: {found.state}: {printable(found.message)}")
    if found.fingerprint:
        print(f"  key {found.fingerprint} {printable(found.name)}".rstrip() + f", signed {found.signed_at}")
    for problem in found.problems[:20]:
        print(f"  {problem.problem}: {printable(problem.file)}")
    if len(found.problems) > 20:
        print(f"  and {len(found.problems) - 20} more")
    if found.openssf != "unsigned":
        print(f"  model-signing: {found.openssf}")
    if found.state == "unknown-key":
        print("next: compare the fingerprint with the owner, then talent kit trust KEY.pub")
    elif found.state == "unsigned" and found.openssf == "unsigned":
        print(f"next: talent kit sign {found.kit}")


def _show_trusted(keys: tuple[PublicKey, ...]) -> None:
    if not keys:
        print("no key is trusted\nnext: talent kit trust KEY.pub")
    for key in keys:
        print(f"{key.kind:8} {key.fingerprint} {printable(key.name)}".rstrip())
