"""Sign and verify the digest list of a kit with ed25519 (RFC 8032).

What is signed is a line that names this format, and the JSON of `SIGNATURE.json` without its `signature`:
names sorted, no spaces, UTF-8. It lists every file of the kit but the signatures themselves.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, StringConstraints, ValidationError

from talent_factory.core.errors import KitError
from talent_factory.core.files import json_text, write_bytes
from talent_factory.core.records import Record
from talent_factory.kits.findings import Notes
from talent_factory.kits.folder import KitFolder
from talent_factory.kits.manifest import MANIFEST_FILE, Digest, Moment, TalentId, read_manifest
from talent_factory.kits.signing.keys import PublicKey, parse_public_key, public_key_of
from talent_factory.kits.signing.trust import find_key
from talent_factory.kits.strict import MAX_TEXT_BYTES, StrictJsonError, parse_object

if TYPE_CHECKING:
    from talent_factory.kits.signing.keys import PrivateKey

SIGNATURE_FILE = "SIGNATURE.json"
OPENSSF_FILE = "SIGNATURE.openssf.json"
SIGNATURE_FILES = frozenset({SIGNATURE_FILE, OPENSSF_FILE})
_FORMAT = b"talent kit signature 1\n"
_REMEDY = "restore the kit, or sign it anew: talent kit sign ID"

Trust = Literal["trusted", "unknown-key", "broken", "unsigned"]


class Signature(Record):
    """SIGNATURE.json."""

    version: Literal[1] = 1
    kit: TalentId
    algorithm: Literal["ed25519"] = "ed25519"
    key: Annotated[str, StringConstraints(max_length=200)]
    name: Annotated[str, StringConstraints(max_length=80)] = ""
    signed_at: Moment
    files: dict[str, Digest] = Field(min_length=1, max_length=5000)
    signature: Annotated[str, StringConstraints(max_length=100)] = ""

    def payload(self) -> bytes:
        """The bytes that are signed."""
        stated = self.model_dump(mode="json", exclude={"signature"})
        text = json.dumps(stated, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        return _FORMAT + text.encode()


class FileProblem(Record):
    """A file that is not as it was signed."""

    file: str
    problem: Literal["changed", "missing", "extra", "unreadable"]


class Verification(Record):
    """What a kit's signature is worth: `trusted` alone means both whole and by a key that is trusted."""

    kit: str
    state: Trust
    message: str
    fingerprint: str = ""
    name: str = ""
    signed_at: str = ""
    problems: tuple[FileProblem, ...] = ()
    openssf: Trust = "unsigned"


def sign_kit(kit: Path, key: PrivateKey, *, signed_at: datetime, name: str = "") -> PublicKey:
    """Write SIGNATURE.json into the kit and return the key that signed; an older one is replaced.

    Raises KitError for a folder that is no kit, a file of the kit that cannot be read, or a key that is not
    ed25519.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    manifest = read_manifest(kit)
    if not isinstance(key, Ed25519PrivateKey):
        raise KitError("a kit is signed with an ed25519 key", remedy="talent kit keygen")
    public = public_key_of(key, name=name)
    notes = Notes()
    digests = file_digests(KitFolder(kit, notes))
    if notes.failed:
        first = notes.report(kit=kit, name=manifest.id).errors[0]
        raise KitError(f"{manifest.id} is not signed: {first.file}: {first.message}", remedy=first.remedy)
    for file in digests:
        if not file.isprintable():
            raise KitError(f"{manifest.id} is not signed: a file is called {file[:80]!r}", remedy="rename it")
    statement = Signature(kit=manifest.id, key=public.text, name=name, signed_at=signed_at, files=digests)
    sealed = base64.b64encode(key.sign(statement.payload())).decode()
    document = {**statement.model_dump(mode="json"), "signature": sealed}
    write_bytes(kit / SIGNATURE_FILE, json_text(document).encode())
    return public


def verify_kit(kit: Path, trusted: Sequence[PublicKey]) -> Verification:
    """Check SIGNATURE.json of a kit against its files and the keys that are `trusted`.

    Raises KitError when there is no such kit. Files are named that changed, are missing or were added.
    """
    manifest = read_manifest(kit)
    folder = KitFolder(kit, Notes())
    if SIGNATURE_FILE not in folder.sizes:
        return Verification(kit=manifest.id, state="unsigned", message="no SIGNATURE.json in the kit")
    signed, fault = _open(folder)
    if signed is None:
        return Verification(kit=manifest.id, state="broken", message=fault)
    key = parse_public_key(signed.key)
    known = find_key(trusted, key.text)
    problems = () if fault else (*_problems(folder, signed), *_no_files(folder))
    if not fault and signed.kit != manifest.id:
        fault = f"the signature is for {signed.kit}"
    if not fault and problems:
        fault = f"{len(problems)} files are not as they were signed"
    state: Trust = "broken" if fault else "trusted" if known else "unknown-key"
    said = {
        "trusted": "signed by a trusted key",
        "unknown-key": "whole, and signed by a key you do not trust",
    }
    return Verification(
        kit=manifest.id,
        state=state,
        message=fault or said[state],
        fingerprint=key.fingerprint,
        name=known.name if known else signed.name,
        signed_at=signed.signed_at.isoformat(),
        problems=problems,
    )


def check_signature(folder: KitFolder) -> None:
    """Note as an error of the kit a signature that does not fit its files; who signed is not asked here."""
    if SIGNATURE_FILE not in folder.sizes:
        return
    signed, fault = _open(folder)
    if fault or signed is None:
        folder.notes.error("signature", SIGNATURE_FILE, fault, _REMEDY)
        return
    for problem in _problems(folder, signed):
        folder.notes.error("signature", problem.file, f"{problem.problem} since it was signed", _REMEDY)


def drop_signatures(kit: Path) -> bool:
    """Remove the signatures of a kit that is about to change; returns whether there were any."""
    there = [kit / name for name in sorted(SIGNATURE_FILES) if (kit / name).is_file()]
    for path in there:
        path.unlink()
    return bool(there)


def file_digests(folder: KitFolder) -> dict[str, str]:
    """Return the sha256 of every file of a kit but its signatures."""
    found = {name: folder.digest(name) for name in sorted(folder.sizes) if name not in SIGNATURE_FILES}
    return {name: digest for name, digest in found.items() if digest is not None}


def _open(folder: KitFolder) -> tuple[Signature | None, str]:
    """The signature and what is wrong with it by itself; None when it cannot even be read."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_ssh_public_key

    data = folder.read(SIGNATURE_FILE, limit=MAX_TEXT_BYTES)
    try:
        parse_object(data or b"")
        signed = Signature.model_validate_json(data or b"", strict=True)
        key = load_ssh_public_key(parse_public_key(signed.key).text.encode())
        sealed = base64.b64decode(signed.signature, validate=True)
    except (StrictJsonError, ValidationError, ValueError, binascii.Error) as error:
        return None, f"SIGNATURE.json is no signature: {_first_line(error)}"
    if not isinstance(key, Ed25519PublicKey):
        return None, "SIGNATURE.json is not by an ed25519 key"
    try:
        key.verify(sealed, signed.payload())
    except InvalidSignature:
        return signed, "the signature does not fit what it stands on"
    return signed, ""


def _no_files(folder: KitFolder) -> Iterable[FileProblem]:
    """What lies among the files and is none: links and devices cannot be signed, so they came later."""
    for finding in folder.notes.report(kit=folder.root, name="").errors:
        if finding.code in ("link", "too-many-files"):
            yield FileProblem(file=finding.file[:200], problem="extra")


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        problem: Any = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(str(part)[:60] for part in problem['loc'])}: {problem['msg'][:200]}"
    return str(error)[:200]


def _problems(folder: KitFolder, signed: Signature) -> Iterable[FileProblem]:
    actual = file_digests(folder)
    for name, digest in sorted(signed.files.items()):
        if name not in folder.sizes:
            yield FileProblem(file=name[:200], problem="missing")
        elif name not in actual:
            yield FileProblem(file=name[:200], problem="unreadable")
        elif actual[name] != digest:
            yield FileProblem(file=name[:200], problem="changed")
    for name in sorted(folder.sizes):
        if name not in signed.files and name not in SIGNATURE_FILES:
            yield FileProblem(file=name[:200], problem="extra")
    if MANIFEST_FILE not in signed.files:
        yield FileProblem(file=MANIFEST_FILE, problem="extra")
