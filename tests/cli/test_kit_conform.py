"""`talent kit conform`: kits and bare files, their bases, JSON and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from kit_maker import KIT_ID, make_kit
from lora_files import kohya_arrays, words_for, write_arrays
from talent_factory.cli.app import run
from talent_factory.kits.keys import MINI_FOLDER
from talent_factory.training.families.random_base import make_random_base


@pytest.fixture
def kit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kit of the embedded base; the current folder is its workspace."""
    monkeypatch.chdir(tmp_path)
    return make_kit(tmp_path / "talents" / "avatar", MINI_FOLDER, work=tmp_path / "work")


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    """A file for SD 1.5 as others would send it."""
    return write_arrays(tmp_path / "actor.safetensors", kohya_arrays("sd15", rank=1), words_for("sd15"))


def test_a_kit_of_the_embedded_base_is_compared_on_it(kit: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["kit", "conform", KIT_ID, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["base"] == "mini"
    first, *rest = document["tools"]
    assert (first["tool"], first["verdict"], first["unmatched"]) == ("diffusers", "full", 0)
    assert first["forward_difference"] < 1e-3
    assert {tool["verdict"] for tool in rest} == {"foreign"}
    assert run(["kit", "conform", str(kit)]) == 0
    assert "the program has no base of this shape" in capsys.readouterr().out


def test_a_bare_file_tells_its_base_itself(lora: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["kit", "conform", str(lora), "--tool", "a1111", "--tool", "invokeai"]) == 0
    shown = capsys.readouterr().out
    assert "264 modules, 792 tensors, base sd15" in shown
    assert "taken for SD1, called <lora:avatar.identity.someone:1>" in shown
    assert "diffusers" not in shown


def test_what_is_lost_is_listed_and_fails(lora: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = {"lora_unet_nowhere.alpha": np.array(1.0, np.float32)}
    write_arrays(lora, {**kohya_arrays("sd15", rank=1), **odd}, words_for("sd15"))
    assert run(["kit", "conform", str(lora), "--tool", "comfyui"]) == 1
    shown = capsys.readouterr().out
    assert "comfyui    partial" in shown
    assert "no effect: lora_unet_nowhere.alpha" in shown
    assert run(["kit", "conform", str(lora), "--tool", "forge", "--base", "sdxl"]) == 1
    assert "forge      refused" in capsys.readouterr().out


def test_a_kit_of_a_small_model_asks_for_it(
    kit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = make_random_base(tmp_path / "small")
    make_kit(tmp_path / "talents" / "avatar", base, work=tmp_path / "work", base_model="small")
    assert run(["kit", "conform", KIT_ID]) == 2
    assert "--base FOLDER" in capsys.readouterr().err
    assert run(["kit", "conform", KIT_ID, "--base", str(base), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tools"][0]["forward_difference"] < 1e-3


def test_mistakes_are_told_with_the_next_step(
    kit: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["kit", "conform", "nothing.safetensors"]) == 1
    assert "No such file" in capsys.readouterr().err
    assert run(["kit", "conform", KIT_ID, "--tool", "photoshop"]) == 2
    assert "diffusers, a1111, forge, comfyui, invokeai" in capsys.readouterr().err
    unknown = write_arrays(tmp_path / "x.safetensors", {"a.lora_up.weight": np.ones((2, 2), np.float32)})
    assert run(["kit", "conform", str(unknown)]) == 2
    assert "--base sd15" in capsys.readouterr().err
    (tmp_path / "old.pt").write_bytes(b"x")
    assert run(["kit", "conform", "old.pt"]) == 1
    assert "can run code" in capsys.readouterr().err
