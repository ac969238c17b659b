"""Sign and verify a kit with OpenSSF's model-signing, where it is installed: an EC key, no network.

Bundle: https://github.com/sigstore/model-transparency; it lies in the kit as SIGNATURE.openssf.json.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any

from talent_factory.core.errors import KitError
from talent_factory.core.files import write_bytes
from talent_factory.kits.signing.keys import PublicKey, load_private_key, public_key_of
from talent_factory.kits.signing.statement import OPENSSF_FILE, SIGNATURE_FILES, Trust


def sign_openssf(kit: Path, key: Path, *, password: str | None = None) -> PublicKey:
    """Write the bundle into the kit, signed with the P-256 key in the file `key`, and return its public half.

    Raises KitError when the extra is not installed or the key is of another kind.
    """
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

    hashing, signing = _library("hashing"), _library("signing")
    private = load_private_key(key, password=password)
    if not isinstance(private, EllipticCurvePrivateKey):
        raise KitError(
            f"key {key} is no P-256 key, which model-signing needs",
            remedy="talent kit keygen --with model-signing",
        )
    config = signing.Config().set_hashing_config(_hashing(hashing))
    # the library hands the password on as it is, and only bytes are taken there
    config.use_elliptic_key_signer(private_key=key, password=password.encode() if password else None)
    # elsewhere first: nothing of ours may stand beside the files while they are listed
    with tempfile.TemporaryDirectory() as elsewhere:
        bundle = Path(elsewhere) / OPENSSF_FILE
        config.sign(kit, bundle)
        write_bytes(kit / OPENSSF_FILE, bundle.read_bytes())
    return public_key_of(private)


def verify_openssf(kit: Path, trusted: Sequence[PublicKey]) -> Trust:
    """Return what the bundle in the kit is worth; its key must be among those `trusted`.

    A bundle does not hold its key: one by an unknown key cannot be checked at all. Raises KitError when there
    is a P-256 key to check it with and the extra is not installed.
    """
    from cryptography.hazmat.primitives import serialization

    if not (kit / OPENSSF_FILE).is_file():
        return "unsigned"
    state: Trust = "unknown-key"
    candidates = [known for known in trusted if known.kind == "p256"]
    verifying = _library("verifying") if candidates else None
    for known in candidates:
        key = serialization.load_ssh_public_key(known.text.encode())
        pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        with tempfile.TemporaryDirectory() as elsewhere:
            path = Path(elsewhere) / "key.pem"
            path.write_bytes(pem)
            fault = _fault(verifying, kit, path)
        if not fault:
            return "trusted"
        if "Key mismatch" not in fault:  # by this very key, or by none at all
            state = "broken"
    return state


def _fault(verifying: Any, kit: Path, key: Path) -> str:
    """Why the bundle does not stand with this key, "" when it does."""
    from cryptography.exceptions import InvalidSignature

    parse_error: type[Exception] = import_module("google.protobuf.json_format").ParseError
    config = verifying.Config().use_elliptic_key_verifier(public_key=key)
    try:
        # the library prints remarks, and stdout is for results
        with redirect_stdout(io.StringIO()):
            config.verify(kit, kit / OPENSSF_FILE)
    except InvalidSignature:
        return "the signature does not fit"
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, OSError, parse_error) as error:
        return str(error) or type(error).__name__
    return ""


def _hashing(hashing: Any) -> Any:
    return hashing.Config().set_ignored_paths(paths=sorted(SIGNATURE_FILES), ignore_git_paths=False)


def _library(part: str) -> Any:
    try:
        return import_module(f"model_signing.{part}")
    except ImportError as error:
        raise KitError(
            "model-signing is not installed", remedy='pip install "talent-factory[signing]"'
        ) from error
