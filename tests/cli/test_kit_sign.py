"""`talent kit keygen`, `sign`, `verify` and `trust`: exit codes, JSON, and what a user reads."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from kit_maker import KIT_ID, make_base, make_kit
from talent_factory.cli.app import run
from talent_factory.kits import keys

PRIVATE = Path("config") / "keys" / "kits.pem"


@pytest.fixture
def kit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A good kit of a workspace that is the current folder; keys of the user lie in `config`."""
    base = make_base(tmp_path / "base")
    monkeypatch.setattr(keys, "MINI_FOLDER", base)
    monkeypatch.setenv("TALENT_CONFIG", str(tmp_path / "config"))
    monkeypatch.delenv("TALENT_KEY_PASSWORD", raising=False)
    monkeypatch.chdir(tmp_path)
    return make_kit(tmp_path / "talents" / "avatar", base, work=tmp_path / "work")


def test_the_whole_way_from_a_key_to_trust(kit: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["kit", "verify", KIT_ID]) == 1
    assert "unsigned" in capsys.readouterr().out
    assert run(["kit", "keygen", "--name", "studio", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert stat.S_IMODE(PRIVATE.stat().st_mode) == 0o600
    assert run(["kit", "sign", KIT_ID, "--dry-run"]) == 0
    assert not (kit / "SIGNATURE.json").exists()
    assert run(["kit", "sign", KIT_ID]) == 0
    capsys.readouterr()
    assert run(["kit", "verify", KIT_ID]) == 0, "one's own key is trusted"
    # somebody else, who has the public key only
    public = Path("studio.pub")
    public.write_bytes(Path(f"{PRIVATE}.pub").read_bytes())
    PRIVATE.parent.rename("elsewhere")
    capsys.readouterr()
    assert run(["kit", "verify", KIT_ID]) == 1
    assert "a key you do not trust" in capsys.readouterr().out
    assert run(["kit", "trust", str(public)]) == 0
    assert Path("trusted_keys").read_text().startswith("ssh-ed25519 ")
    capsys.readouterr()
    assert run(["kit", "verify", KIT_ID, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["state"], found["fingerprint"]) == ("trusted", made["fingerprint"])
    assert found["name"] == "studio"
    assert run(["kit", "validate", KIT_ID]) == 0
    (kit / "LICENSE.txt").write_text("mine now\n")
    capsys.readouterr()
    assert run(["kit", "verify", KIT_ID]) == 1
    assert "changed: LICENSE.txt" in capsys.readouterr().out
    assert run(["kit", "validate", KIT_ID, "--json"]) == 1
    codes = {finding["code"] for finding in json.loads(capsys.readouterr().out)["kits"][0]["findings"]}
    assert codes == {"digest", "signature"}
    Path("elsewhere").rename(PRIVATE.parent)
    assert run(["kit", "sign", KIT_ID]) == 1, "a broken kit is not signed"


def test_keys_are_never_overwritten(kit: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["kit", "keygen", "--out", "mine", "--dry-run"]) == 0
    assert not Path("mine").exists()
    assert run(["kit", "keygen", "--out", "mine"]) == 0
    before = Path("mine").read_bytes()
    capsys.readouterr()
    assert run(["kit", "keygen", "--out", "mine"]) == 2
    assert "never overwritten" in capsys.readouterr().err
    assert Path("mine").read_bytes() == before


def test_a_password_comes_from_the_environment(
    kit: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TALENT_KEY_PASSWORD", "correct horse")
    assert run(["kit", "keygen", "--password"]) == 0
    assert b"ENCRYPTED" in PRIVATE.read_bytes()
    assert run(["kit", "sign", KIT_ID]) == 0
    monkeypatch.setenv("TALENT_KEY_PASSWORD", "wrong")
    assert run(["kit", "sign", KIT_ID]) == 1
    monkeypatch.delenv("TALENT_KEY_PASSWORD")
    assert run(["kit", "sign", KIT_ID]) == 1
    shown = capsys.readouterr()
    assert "is locked" in shown.err
    assert "correct horse" not in shown.out + shown.err


def test_model_signing_stands_beside(kit: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["kit", "keygen", "--with", "model-signing"]) == 0
    assert run(["kit", "sign", KIT_ID, "--with", "model-signing"]) == 0
    assert run(["kit", "validate", KIT_ID]) == 0
    assert run(["kit", "trust", "config/keys/openssf.pem.pub", "--user"]) == 0
    capsys.readouterr()
    assert run(["kit", "verify", KIT_ID, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["state"], found["openssf"]) == ("unsigned", "trusted")
    assert run(["kit", "sign", KIT_ID, "--with", "gpg"]) == 2


def test_mistakes_are_told(kit: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, code, said in (
        (["sign", KIT_ID], 1, "talent kit keygen"),
        (["verify", "avatar.identity.gone"], 1, "there is no kit"),
        (["verify", KIT_ID, "--key", "nothing"], 2, "does not exist"),
        (["trust", "nothing.pub"], 2, "does not exist"),
        (["trust", "talents/avatar/" + KIT_ID + "/base.txt"], 1, "line 1"),
    ):
        assert run(["kit", *words]) == code
        assert said in capsys.readouterr().err
    assert run(["kit", "trust"]) == 0
    assert "no key is trusted" in capsys.readouterr().out
