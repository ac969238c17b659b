"""Keys that sign kits: private ones as PEM files for their owner alone, public ones as one line of text.

The line is OpenSSH's (`ssh-ed25519 AAAA… name`), and so is the fingerprint (`SHA256:…`): a key can be shown,
compared and published with tools that people have.
"""

from __future__ import annotations

import base64
import hashlib
import os
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from talent_factory.core.errors import KitError, UsageError
from talent_factory.kits.strict import read_regular

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    PrivateKey = Ed25519PrivateKey | EllipticCurvePrivateKey

KeyKind = Literal["ed25519", "p256"]
PASSWORD_VARIABLE = "TALENT_KEY_PASSWORD"
# Of ed25519 and of P-256, in `keys` of the configuration folder; the public half ends in .pub.
OWN_KEYS = ("kits.pem", "openssf.pem")
_KINDS = {"ssh-ed25519": "ed25519", "ecdsa-sha2-nistp256": "p256"}
_MAX_KEY_BYTES = 16 << 10


@dataclass(frozen=True)
class PublicKey:
    """A public key: `text` is its OpenSSH form without a comment, `name` whose it is said to be."""

    text: str
    name: str = ""

    @property
    def kind(self) -> KeyKind:
        """What it can check."""
        return "ed25519" if self.text.startswith("ssh-ed25519 ") else "p256"

    @property
    def fingerprint(self) -> str:
        """What people compare, as `ssh-keygen -l` prints it."""
        blob = base64.b64decode(self.text.split(" ")[1])
        return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")

    @property
    def line(self) -> str:
        """The key as a line of a file."""
        return f"{self.text} {self.name}".rstrip()


def config_folder() -> Path:
    """Return the folder of this user's keys: $TALENT_CONFIG, else `talent` in the system's place for it."""
    if own := os.environ.get("TALENT_CONFIG"):
        return Path(own).expanduser()
    usual = os.environ.get("APPDATA" if sys.platform == "win32" else "XDG_CONFIG_HOME")
    return (Path(usual) if usual else Path.home() / ".config") / "talent"


def generate_key(
    path: Path, *, name: str = "", password: str | None = None, kind: KeyKind = "ed25519"
) -> PublicKey:
    """Make a key pair: `path` is private, readable for its owner alone, `path`.pub is public.

    Nothing is ever overwritten. Raises UsageError when one of the files exists or the name is no plain word.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    public_path = path.with_name(path.name + ".pub")
    for there in (path, public_path):
        if there.exists() or there.is_symlink():
            raise UsageError(f"{there} exists, and keys are never overwritten", remedy="name another --out")
    label = _label(name)
    private: PrivateKey = (
        Ed25519PrivateKey.generate() if kind == "ed25519" else ec.generate_private_key(ec.SECP256R1())
    )
    lock: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password:
        lock = serialization.BestAvailableEncryption(password.encode())
    data = private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    _write_new(path, data, mode=0o600)
    public = public_key_of(private, name=label)
    try:
        _write_new(public_path, (public.line + "\n").encode(), mode=0o644)
    except OSError:
        path.unlink()
        raise
    return public


def public_key_of(private: PrivateKey, *, name: str = "") -> PublicKey:
    """Return the public half of a private key."""
    from cryptography.hazmat.primitives import serialization

    text = private.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    return PublicKey(text.decode(), name)


def load_private_key(path: Path, *, password: str | None = None) -> PrivateKey:
    """Return the private key in the file `path`, PEM or OpenSSH's own form, ed25519 or P-256.

    Raises KitError when it is missing, broken, of another kind, locked by another password, or readable for
    others than its owner.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    try:
        data = read_regular(path, limit=_MAX_KEY_BYTES)
        mode = path.stat().st_mode
    except OSError as error:
        raise KitError(f"key {path}: {error.strerror or error}", remedy="talent kit keygen") from error
    if os.name == "posix" and stat.S_IMODE(mode) & 0o077:
        raise KitError(f"key {path} can be read by others", remedy=f"chmod 600 {path}")
    openssh = b"OPENSSH PRIVATE KEY" in data[:64]
    load = serialization.load_ssh_private_key if openssh else serialization.load_pem_private_key
    try:
        key = load(data, password.encode() if password else None)
    except TypeError as error:
        said = "is locked" if not password else "has no password"
        raise KitError(f"key {path} {said}", remedy=f"set or unset {PASSWORD_VARIABLE}") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise KitError(
            f"key {path} cannot be opened: wrong password, or no private key",
            remedy=f"check {PASSWORD_VARIABLE}, or make a key: talent kit keygen",
        ) from error
    curve = isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1)
    if not curve and not isinstance(key, Ed25519PrivateKey):
        raise KitError(f"key {path} is neither ed25519 nor P-256", remedy="talent kit keygen")
    return key  # type: ignore[return-value]


def parse_public_key(line: str) -> PublicKey:
    """Return the public key in a line of OpenSSH's form; raises ValueError for anything else."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    kind, _, rest = line.strip().partition(" ")
    blob, _, name = rest.strip().partition(" ")
    if kind not in _KINDS:
        raise ValueError("no ed25519 or P-256 key")
    try:
        key = serialization.load_ssh_public_key(f"{kind} {blob}".encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError("a damaged key") from error
    text = key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
    return PublicKey(text, " ".join(name.split())[:80])


def _label(name: str) -> str:
    label = "_".join(name.split())
    if len(label) > 80 or not label.isprintable():
        raise UsageError("the name of a key is at most 80 letters on one line", remedy="--name studio")
    return label


def _write_new(path: Path, data: bytes, *, mode: int) -> None:
    """Create the file or fail: between looking and writing nobody can put one there."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), mode)
    with open(descriptor, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
