"""The doctor finds what is wrong and names what to do."""

from __future__ import annotations

import os
from importlib import metadata
from pathlib import Path

import pytest

from talent_factory.core import doctor
from talent_factory.core.doctor import Finding, run_checks, worst
from talent_factory.core.files import write_sums
from talent_factory.core.workspace import Workspace


def _by_subject(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.subject: finding for finding in findings}


def _make_base(folder: Path) -> None:
    for part in ("unet", "vae", "text_encoder", "tokenizer", "scheduler"):
        (folder / part).mkdir(parents=True)
        (folder / part / "config.json").write_text(part)
    (folder / "model_index.json").write_text("{}")
    write_sums(folder)


def test_a_good_workspace(tmp_path: Path) -> None:
    (tmp_path / "talents" / "avatar" / "avatar.style.x").mkdir(parents=True)
    (tmp_path / "talents" / "avatar" / "avatar.style.x" / "talent.json").write_text("{}")
    found = _by_subject(run_checks(Workspace(tmp_path)))
    assert found["workspace"].severity == "ok"
    assert found["torch"].severity == "ok"
    assert found["kits"].message.startswith("1 in")
    assert sorted(os.listdir(tmp_path)) == ["talents"]


def test_a_workspace_that_is_not_there_yet_is_not_made(tmp_path: Path) -> None:
    found = _by_subject(run_checks(Workspace(tmp_path / "new" / "deep")))
    assert found["workspace"].severity == "ok"
    assert not (tmp_path / "new").exists()


def test_extras_are_named_and_nobody_needs_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = metadata.version

    def version(name: str) -> str:
        if name in ("wandb", "av"):
            raise metadata.PackageNotFoundError(name)
        return "0.45.5" if name == "bitsandbytes" else known(name)

    monkeypatch.setattr(metadata, "version", version)
    found = _by_subject(run_checks(Workspace(tmp_path)))
    assert {"bitsandbytes", "prodigyopt", "schedulefree", "wandb"} <= found.keys()
    assert found["bitsandbytes"].message == "0.45.5: optimizer adamw8bit"
    assert "not installed" in found["wandb"].message
    assert "talent-factory[wandb]" in found["wandb"].remedy
    assert found["wandb"].severity == "ok"
    # all that lip-sync needs beside the rest, each by itself
    assert found["av"].message == "not installed; only needed for: talent lipsync: sound and videos"
    assert "talent-factory[lipsync]" in found["av"].remedy
    assert found["accelerate"].message == f"{known('accelerate')}: talent lipsync: training"
    assert found["fastapi"].message == f"{known('fastapi')}: talent serve"
    assert found["scikit-image"].remedy == ""


def test_missing_and_old_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name in ("torch", "pillow-heif"):
            raise metadata.PackageNotFoundError(name)
        return "0.0.1"

    monkeypatch.setattr(metadata, "version", version)
    found = _by_subject(run_checks(Workspace(tmp_path)))
    assert (found["torch"].severity, found["numpy"].severity, found["heic"].severity) == (
        "error",
        "error",
        "warn",
    )
    assert "older than" in found["numpy"].message
    assert all(found[name].remedy for name in ("torch", "numpy", "heic"))


def test_broken_base(tmp_path: Path) -> None:
    base = tmp_path / "mini"
    _make_base(base)
    assert doctor._base(base)[0].severity == "ok"
    (base / "unet" / "config.json").write_text("changed")
    finding = doctor._base(base)[0]
    assert finding.severity == "error"
    assert "unet/config.json" in finding.message
    (base / "SHA256SUMS").unlink()
    assert doctor._base(base)[0].severity == "warn"
    (base / "model_index.json").unlink()
    assert "model_index.json" in doctor._base(base)[0].message


@pytest.mark.parametrize(("free", "severity"), [(2**40, "ok"), (2**30, "warn"), (2**20, "error")])
def test_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, severity: str) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda place: type("Usage", (), {"free": free}))
    assert doctor._disk(tmp_path)[0].severity == severity


def test_no_write_access(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, data: bytes) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(doctor, "write_bytes", refuse)
    finding = doctor._write_access(tmp_path)[0]
    assert finding.severity == "error"
    assert "Permission denied" in finding.message


def test_worst() -> None:
    ok, warn = (
        Finding(severity="ok", subject="a", message="b"),
        Finding(severity="warn", subject="a", message="b"),
    )
    error = Finding(severity="error", subject="a", message="b")
    assert [worst(f) for f in ([], [ok], [ok, warn], [warn, error, ok])] == ["ok", "ok", "warn", "error"]
