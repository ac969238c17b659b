"""The public keys that a user or a workspace trusts: a file of lines, one key each."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from talent_factory.core.errors import FileError
from talent_factory.core.files import write_text
from talent_factory.kits.signing.keys import OWN_KEYS, PublicKey, config_folder, parse_public_key
from talent_factory.kits.strict import MAX_TEXT_BYTES, read_regular

TRUSTED_FILE = "trusted_keys"


def trusted_keys(workspace: Path) -> tuple[PublicKey, ...]:
    """Return the keys trusted in this workspace and by this user, each once; one's own are trusted."""
    user = config_folder()
    own = [user / "keys" / f"{name}.pub" for name in OWN_KEYS]
    files = [workspace / TRUSTED_FILE, user / TRUSTED_FILE, *own]
    keys = [key for path in files for key in read_trusted(path)]
    return tuple({key.text: key for key in reversed(keys)}.values())


def read_trusted(path: Path) -> tuple[PublicKey, ...]:
    """Return the keys in a file: a line each, empty lines and lines that begin with # left out.

    A missing file holds none. Raises FileError for a line that is no key.
    """
    if not path.exists():
        return ()
    try:
        lines = read_regular(path, limit=MAX_TEXT_BYTES).decode("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"{path} cannot be read: {error}", remedy="restore it or delete it") from error
    keys = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            keys.append(parse_public_key(line))
        except ValueError as error:
            raise FileError(f"{path} line {number}: {error}", remedy="remove the line") from error
    return tuple(keys)


def trust_key(path: Path, key: PublicKey) -> bool:
    """Add `key` to the file `path`; returns whether it is new there. Raises FileError as `read_trusted`."""
    known = read_trusted(path)
    if any(other.text == key.text for other in known):
        return False
    before = path.read_text("utf-8") if path.exists() else ""
    if before and not before.endswith("\n"):
        before += "\n"
    write_text(path, f"{before}{key.line}\n")
    return True


def find_key(keys: Iterable[PublicKey], text: str) -> PublicKey | None:
    """Return the one of `keys` that is `text`, under the name it is trusted by."""
    return next((key for key in keys if key.text == text), None)
