"""The guides to kits and to the foundry are run as they stand, command by command."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

from service_maker import add_mini_kit
from talent_factory.cli.app import run
from talent_factory.foundry.discover import Ingredient, load_kit
from talent_factory.foundry.persona import Persona
from talent_factory.foundry.persona_field import FieldPersona
from talent_factory.foundry.ways import ways
from talent_factory.kits.export import TARGETS

DOCS = Path(__file__).resolve().parents[2] / "docs"
IDENTITY, STYLE = "avatar.identity.dot_kairo", "avatar.style.anime_mecha"
# What draws and measures takes long; weights and the files of others are not here.
_NOT_HERE = (
    "--encoder",
    "downloads/",
    "import ~/ui",
    "peter.safetensors",
    "ada_v",
    "--choose",
    " mix choose",
)


def commands(page: str) -> list[list[str]]:
    """The commands of a page in order, as words behind `talent`; renders become plans."""
    lines = re.findall(r"^    talent (.+)$", (DOCS / page).read_text("utf-8"), re.MULTILINE)
    found = []
    for line in (line.split(" #")[0].strip() for line in lines):
        words = shlex.split(line)
        if any(word in f" {line}" for word in _NOT_HERE):
            continue
        draws = (
            words[0] == "render"
            or words[:2] == ["persona", "render"]
            or (words[0] == "mix" and "." in words[1])
        )
        found.append([*words, "--dry-run"] if draws else words)
    return found


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace with the kits that the guides speak of; the current folder is it."""
    for seed, talent_id in enumerate((IDENTITY, STYLE, "avatar.style.anime_creature")):
        add_mini_kit(tmp_path, talent_id, seed=seed)
    monkeypatch.setenv("TALENT_CONFIG", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_guide_to_kits_runs(workspace: Path) -> None:
    ran = commands("kits.md")
    assert len(ran) > 18
    for words in ran:
        if words[:2] == ["kit", "trust"]:
            shutil.copy(workspace / "config" / "keys" / "kits.pem.pub", workspace / "studio.pub")
        if words[:2] == ["kit", "export"]:
            words = ["lora" if word.startswith("~") else word for word in words]
        assert run(words) == 0, words
        if words[:2] == ["kit", "rename"]:
            assert run(["kit", "rename", "avatar.identity.kairo", IDENTITY]) == 0


def test_the_guide_to_the_foundry_runs(workspace: Path) -> None:
    ran = commands("foundry.md")
    assert len(ran) > 15
    for words in ran:
        if words[0] == "render" and "scenes.txt" in words:
            (workspace / "scenes.txt").write_text("# first\nink portrait of a dot_kairo man\n", "utf-8")
        if words[:2] == ["persona", "import"]:
            words = [*words, "--id", "other"]
        if words[:2] in (["persona", "sheet"], ["persona", "page"]):
            continue
        assert run(words) == 0, words


def test_targets_ways_and_the_keys_of_personas_stand_in_the_guides(workspace: Path) -> None:
    kits, foundry = ((DOCS / name).read_text("utf-8") for name in ("kits.md", "foundry.md"))
    rows = "\n".join(line for line in kits.splitlines() if line.startswith("| `"))
    assert all(f"`{target}`" in rows for target in TARGETS)
    rows = "\n".join(line for line in foundry.splitlines() if line.startswith("| `"))
    assert all(f"`{name}`" in rows for name in Persona.model_fields)
    assert all(f"`{name}`" in foundry for name in set(FieldPersona.model_fields) - {"version"})
    root = workspace / "talents" / "avatar"
    pair = [Ingredient(kit=load_kit(root, talent_id), weight=1.0) for talent_id in (IDENTITY, STYLE)]
    assert len(ways(*pair)) == 7
    assert "draws seven ways" in foundry
