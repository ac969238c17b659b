"""Signatures: every file counts, keys stay private, and nothing forged passes."""

from __future__ import annotations

import base64
import json
import os
import shutil
import stat
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from kit_maker import KIT_ID, edit_manifest
from talent_factory.core.errors import FileError, KitError, UsageError
from talent_factory.core.files import sha256_file
from talent_factory.kits.signing import (
    SIGNATURE_FILE,
    PublicKey,
    Verification,
    config_folder,
    drop_signatures,
    generate_key,
    load_private_key,
    read_trusted,
    sign_kit,
    trust_key,
    trusted_keys,
    verify_kit,
)
from talent_factory.kits.signing.keys import parse_public_key
from talent_factory.kits.signing.openssf import sign_openssf, verify_openssf
from talent_factory.kits.validate import validate_kit

WHEN = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)


@pytest.fixture
def key(tmp_path: Path) -> PublicKey:
    """A key pair in `tmp_path/key`."""
    return generate_key(tmp_path / "key", name="studio one")


@pytest.fixture
def signed(kit: Path, key: PublicKey, tmp_path: Path) -> Path:
    """The kit, signed."""
    sign_kit(kit, load_private_key(tmp_path / "key"), signed_at=WHEN, name="studio_one")
    return kit


def rewrite(kit: Path, changes: dict[str, Any]) -> None:
    path = kit / SIGNATURE_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def problems(found: Verification) -> dict[str, str]:
    return {problem.file: problem.problem for problem in found.problems}


def test_a_signed_kit_is_whole_and_trusted(signed: Path, key: PublicKey, base: Path) -> None:
    found = verify_kit(signed, [key])
    assert (found.state, found.problems, found.name) == ("trusted", (), "studio_one")
    assert (found.kit, found.fingerprint, found.signed_at) == (KIT_ID, key.fingerprint, WHEN.isoformat())
    assert verify_kit(signed, []).state == "unknown-key"
    document = json.loads((signed / SIGNATURE_FILE).read_text())
    files = {path.relative_to(signed).as_posix() for path in signed.rglob("*") if path.is_file()}
    assert set(document["files"]) == files - {SIGNATURE_FILE}
    # the validator takes the signature as a part of the kit
    assert validate_kit(signed, base_folder=base).findings == ()


def test_the_same_kit_and_moment_give_the_same_signature(signed: Path, tmp_path: Path) -> None:
    before = (signed / SIGNATURE_FILE).read_bytes()
    sign_kit(signed, load_private_key(tmp_path / "key"), signed_at=WHEN, name="studio_one")
    assert (signed / SIGNATURE_FILE).read_bytes() == before


def test_every_change_is_named(signed: Path, key: PublicKey, base: Path) -> None:
    for path in sorted(path for path in signed.rglob("*") if path.is_file() and path.name != SIGNATURE_FILE):
        name, data = path.relative_to(signed).as_posix(), path.read_bytes()
        path.write_bytes(data + b" ")
        assert problems(verify_kit(signed, [key])) == {name: "changed"}
        errors = validate_kit(signed, base_folder=base).errors
        assert ("signature", name) in {(finding.code, finding.file) for finding in errors}
        path.unlink()
        if name != "talent.json":
            assert problems(verify_kit(signed, [key])) == {name: "missing"}
        path.write_bytes(data)
    (signed / "more.txt").write_text("x")
    found = verify_kit(signed, [key])
    assert (found.state, problems(found)) == ("broken", {"more.txt": "extra"})


def test_nothing_forged_passes(signed: Path, key: PublicKey, tmp_path: Path) -> None:
    good = (signed / SIGNATURE_FILE).read_bytes()
    document = json.loads(good)
    other = generate_key(tmp_path / "other")
    flipped = bytearray(base64.b64decode(document["signature"]))
    flipped[5] ^= 1
    files = {**document["files"], "LICENSE.txt": "0" * 64}
    forgeries: dict[str, dict[str, Any]] = {
        "another signature": {"signature": base64.b64encode(bytes(flipped)).decode()},
        "none": {"signature": ""},
        "another key": {"key": other.text},
        "another kit": {"kit": "avatar.identity.somebody"},
        "another time": {"signed_at": "2020-01-01T00:00:00Z"},
        "another name": {"name": "somebody_else"},
        "other files": {"files": files},
        "fewer files": {"files": dict(list(document["files"].items())[1:])},
        "no files": {"files": {}},
        "a field more": {"note": "trust me"},
        "another version": {"version": 2},
        "another algorithm": {"algorithm": "none"},
        "a key of another kind": {"key": "ssh-rsa AAAA"},
        "half a key": {"key": "ssh-ed25519 AAAA"},
        "a signature that is no base64": {"signature": "###"},
        "a time without a zone": {"signed_at": "2020-01-01T00:00:00"},
    }
    for what, changes in forgeries.items():
        rewrite(signed, changes)
        assert verify_kit(signed, [key, other]).state == "broken", what
        (signed / SIGNATURE_FILE).write_bytes(good)
    for junk in (b"", b"[]", b"\xff", b'{"a": NaN}', good[:-30], good.replace(b'"kit"', b'"kit": 1, "kit"')):
        (signed / SIGNATURE_FILE).write_bytes(junk)
        assert verify_kit(signed, [key]).state == "broken", junk[:20]


def test_a_changed_file_with_its_new_digest_is_seen(signed: Path, key: PublicKey) -> None:
    """The digests themselves are what was signed."""
    (signed / "LICENSE.txt").write_text("mine now\n")
    digests = json.loads((signed / SIGNATURE_FILE).read_text())["files"]
    rewrite(signed, {"files": {**digests, "LICENSE.txt": sha256_file(signed / "LICENSE.txt")}})
    found = verify_kit(signed, [key])
    assert (found.state, found.problems) == ("broken", ())
    assert "does not fit" in found.message


def test_a_signature_of_another_kit_does_not_move(signed: Path, key: PublicKey, tmp_path: Path) -> None:
    """Whole folders may be copied, but not a signature alone, nor may the id change."""
    copy = tmp_path / "avatar.identity.copy"
    shutil.copytree(signed, copy)
    edit_manifest(copy, lambda manifest: manifest.update(id="avatar.identity.copy"))
    found = verify_kit(copy, [key])
    assert found.state == "broken"
    assert KIT_ID in found.message


def test_an_unsigned_kit_says_so(kit: Path, key: PublicKey) -> None:
    assert verify_kit(kit, [key]).state == "unsigned"
    with pytest.raises(KitError):
        verify_kit(kit.parent / "nothing", [key])


def test_links_are_not_signed(kit: Path, key: PublicKey, tmp_path: Path) -> None:
    (kit / "notes.txt").symlink_to("LICENSE.txt")
    with pytest.raises(KitError, match="a link"):
        sign_kit(kit, load_private_key(tmp_path / "key"), signed_at=WHEN)
    assert not (kit / SIGNATURE_FILE).exists()


def test_a_link_that_came_later_is_named(signed: Path, key: PublicKey) -> None:
    (signed / "examples" / "09.png").symlink_to("01.png")
    found = verify_kit(signed, [key])
    assert (found.state, problems(found)) == ("broken", {"examples/09.png": "extra"})


def test_signatures_end_with_a_change(signed: Path) -> None:
    assert drop_signatures(signed)
    assert not (signed / SIGNATURE_FILE).exists()
    assert not drop_signatures(signed)


def test_a_private_key_is_its_owners_alone_and_never_overwritten(tmp_path: Path, key: PublicKey) -> None:
    path = tmp_path / "key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_bytes()
    with pytest.raises(UsageError, match="never overwritten"):
        generate_key(path)
    (tmp_path / "lone.pub").write_text("x")
    with pytest.raises(UsageError, match="never overwritten"):
        generate_key(tmp_path / "lone")
    (tmp_path / "dangling").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="never overwritten"):
        generate_key(tmp_path / "dangling")
    assert path.read_bytes() == before
    assert (tmp_path / "lone.pub").read_text() == "x"
    os.chmod(path, 0o640)
    with pytest.raises(KitError, match="read by others"):
        load_private_key(path)


def test_a_key_that_appears_meanwhile_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "key"
    path.write_text("another process was quicker")
    monkeypatch.setattr(Path, "exists", lambda self: False)
    with pytest.raises(FileExistsError):
        generate_key(path)
    assert path.read_text() == "another process was quicker"
    assert not os.path.lexists(f"{path}.pub")


def test_a_password_locks_the_key(tmp_path: Path) -> None:
    path = tmp_path / "locked"
    made = generate_key(path, password="correct horse")
    assert b"ENCRYPTED" in path.read_bytes()
    with pytest.raises(KitError, match="is locked"):
        load_private_key(path)
    with pytest.raises(KitError, match="cannot be opened"):
        load_private_key(path, password="wrong")
    assert load_private_key(path, password="correct horse")
    generate_key(tmp_path / "open")
    with pytest.raises(KitError, match="has no password"):
        load_private_key(tmp_path / "open", password="x")
    assert made.fingerprint.startswith("SHA256:")


def test_only_keys_that_fit_are_taken(tmp_path: Path, kit: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import x25519

    stranger = x25519.X25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for name, data in {"odd": stranger, "junk": b"hello", "empty": b""}.items():
        (tmp_path / name).write_bytes(data)
        os.chmod(tmp_path / name, 0o600)
        with pytest.raises(KitError):
            load_private_key(tmp_path / name)
    with pytest.raises(KitError, match="No such file"):
        load_private_key(tmp_path / "none")
    generate_key(tmp_path / "p256", kind="p256")
    with pytest.raises(KitError, match="ed25519"):
        sign_kit(kit, load_private_key(tmp_path / "p256"), signed_at=WHEN)
    with pytest.raises(UsageError, match="one line"):
        generate_key(tmp_path / "long", name="x" * 81)


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="no ssh-keygen here")
def test_ssh_keygen_knows_the_fingerprint_and_its_keys_sign(tmp_path: Path, kit: Path) -> None:
    made = generate_key(tmp_path / "ours", name="ours")
    shown = subprocess.run(
        ["ssh-keygen", "-l", "-f", str(tmp_path / "ours.pub")], capture_output=True, text=True, check=True
    ).stdout
    assert made.fingerprint in shown
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "theirs")], check=True
    )
    theirs = read_trusted(tmp_path / "theirs.pub")
    sign_kit(kit, load_private_key(tmp_path / "theirs"), signed_at=WHEN)
    assert verify_kit(kit, theirs).state == "trusted"


def test_trusted_keys_are_lines_of_two_files(
    tmp_path: Path, key: PublicKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALENT_CONFIG", str(tmp_path / "home"))
    place = tmp_path / "w"
    place.mkdir()
    assert trusted_keys(place) == ()
    (place / "trusted_keys").write_text("# ours\n\n")
    assert trust_key(place / "trusted_keys", key)
    assert not trust_key(place / "trusted_keys", key)
    assert (place / "trusted_keys").read_text() == f"# ours\n\n{key.line}\n"
    other = generate_key(tmp_path / "other", name="other")
    trust_key(config_folder() / "trusted_keys", other)
    trust_key(config_folder() / "trusted_keys", PublicKey(key.text, "by another name"))
    assert {known.name for known in trusted_keys(place)} == {"studio_one", "other"}
    (place / "trusted_keys").write_text(f"{key.line}\nssh-ed25519 broken\n")
    with pytest.raises(FileError, match="line 2"):
        trusted_keys(place)


def test_the_folder_of_keys_follows_the_system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TALENT_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert config_folder() == tmp_path / "talent"
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert config_folder() == tmp_path / ".config" / "talent"


@pytest.mark.parametrize("line", ["", "hello", "ssh-rsa AAAA x", "ssh-ed25519", "ssh-ed25519 !!!!"])
def test_lines_that_are_no_keys(line: str) -> None:
    with pytest.raises(ValueError, match="key"):
        parse_public_key(line)


def test_model_signing_agrees(kit: Path, key: PublicKey, tmp_path: Path) -> None:
    mine = generate_key(tmp_path / "p256", kind="p256", password="secret")
    stranger = generate_key(tmp_path / "stranger", kind="p256")
    assert verify_openssf(kit, [mine]) == "unsigned"
    assert sign_openssf(kit, tmp_path / "p256", password="secret").text == mine.text
    sign_kit(kit, load_private_key(tmp_path / "key"), signed_at=WHEN)
    # neither signature covers the other
    assert verify_openssf(kit, [key, stranger, mine]) == "trusted"
    assert verify_kit(kit, [key]).state == "trusted"
    assert verify_openssf(kit, [stranger]) == "unknown-key"
    (kit / "more.txt").write_text("x")
    assert verify_openssf(kit, [mine]) == "broken"
    (kit / "more.txt").unlink()
    (kit / "LICENSE.txt").write_text("mine now\n")
    assert verify_openssf(kit, [mine]) == "broken"
    (kit / "SIGNATURE.openssf.json").write_text("{}")
    assert verify_openssf(kit, [mine]) == "broken"
    with pytest.raises(KitError, match="P-256"):
        sign_openssf(kit, tmp_path / "key")


def test_without_the_extra_it_says_what_to_install(
    kit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("", ".signing", ".verifying", ".hashing"):
        monkeypatch.setitem(sys.modules, f"model_signing{name}", None)
    (kit / "SIGNATURE.openssf.json").write_text("{}")
    # nobody is trusted whose bundle it could be, so nothing is needed to say that
    assert verify_openssf(kit, []) == "unknown-key"
    with pytest.raises(KitError, match="not installed") as caught:
        verify_openssf(kit, [generate_key(tmp_path / "p256", kind="p256")])
    assert "talent-factory[signing]" in caught.value.remedy
