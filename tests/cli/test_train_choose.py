"""A measured training end to end: the kit says how it was chosen, and a person may choose otherwise."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline_maker import make_small, write_portrait
from talent_factory.cli.app import run as talent
from talent_factory.core.files import sha256_file
from talent_factory.core.workspace import Workspace
from talent_factory.kits.manifest import read_manifest
from talent_factory.kits.validate import validate_kit
from talent_factory.pipeline import train_kit
from talent_factory.report.choice import gather_choice
from talent_factory.training.likeness import book
from talent_factory.training.runs import LORA_FILE, finished

TALENT_ID = "avatar.identity.dot_test"


class Measured:
    """A workspace with one measured training, and the config that made it."""

    def __init__(self, root: Path) -> None:
        small = make_small(root)
        self.base, self.place, self.config = small.base, Workspace(root / "work"), root / "dot_test.yaml"
        self.run = self.place.runs / TALENT_ID
        folder = root / "photos"
        folder.mkdir()
        for number in range(4):
            write_portrait(folder / f"{number}.png", seed=20 + number)
            (folder / f"{number}.txt").write_text(f"portrait of a dot_test woman, number {number}")
        self.config.write_text(
            f"""id: {TALENT_ID}
kind: lora
sdx_version: "1.5"
base_model: {small.base}
train_data_dir: {folder}
resolution: 64
lora_rank: 2
max_train_steps: 6
learning_rate: 1e-2
batch_size: 1
token: dot_test
class_noun: woman
sample_every: 0
checkpoint_every: 2
device: cpu
choose: {{measure: true, encoder: probe, prompts: 2, seeds: 1, steps: 2, weights: [0.5, 1.0]}}
"""
        )

    def train(self) -> Path:
        return train_kit(self.config, workspace=self.place)

    @property
    def page(self) -> Path:
        return self.place.reports / TALENT_ID / "choice.html"


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    made = Measured(tmp_path_factory.mktemp("measured"))
    made.train()
    return made


def call(measured: Measured, *words: str) -> int:
    return talent(["--quiet", "train", "choose", *words, "--workspace", str(measured.place.root)])


def test_the_kit_says_how_its_checkpoint_was_chosen(measured: Measured) -> None:
    choice = book.read_choice(measured.run)
    assert choice is not None
    kit = measured.place.talents / TALENT_ID
    manifest = read_manifest(kit)
    assert manifest.default_weight == choice.default_weight
    assert manifest.metadata is not None
    told = manifest.metadata.eval
    assert told is not None
    assert told["step"] == choice.step
    assert [score["step"] for score in told["scores"]] == [0, 2, 4, 6]
    assert told["report"]["by"] == "probe answers"
    assert len(told["judges"]["probe"]) == 64
    assert len(told["report_prompts"]) == 2
    # a kit tells nothing about its maker's folders
    assert str(measured.place.root.parent) not in json.dumps(told)
    assert validate_kit(kit, base_folder=measured.base).valid


def test_the_page_shows_every_checkpoint_and_how_to_overrule_it(measured: Measured) -> None:
    html = measured.page.read_text()
    choice = book.read_choice(measured.run)
    assert choice is not None
    content = gather_choice(measured.run)
    assert content is not None
    assert [row.score.step for row in content.rows] == [0, 2, 4, 6]
    assert len(content.prompts) == 3  # two that choose, one without the trigger
    assert html.count("<td><img ") == len(content.prompts) * (len(content.rows) + len(content.sweep))
    assert f"Why step {choice.step}" in html
    assert "talent train choose" in html
    assert "http" not in html.replace("http-equiv", "")


def test_choose_tells_what_was_measured(measured: Measured, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(measured, TALENT_ID) == 0
    told = capsys.readouterr().out
    assert "recommended strength" in told
    assert str(measured.page) in told
    assert call(measured, TALENT_ID, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["chosen_by"] == "measure"
    assert document["page"] == str(measured.page)


def test_a_person_chooses_and_the_kit_is_packed_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = Measured(tmp_path / "own")
    kit = measured.train()
    choice = book.read_choice(measured.run)
    assert choice is not None
    other = next(step for step in (2, 4, 6) if step != choice.step)
    lora, before = sha256_file(measured.run / LORA_FILE), sha256_file(kit / "weights.safetensors")
    assert call(measured, TALENT_ID, "--step", str(other), "--weight", "0.7", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["step"], document["chosen_by"], document["default_weight"]) == (other, "person", 0.7)
    manifest = read_manifest(kit)
    assert manifest.default_weight == 0.7
    assert manifest.metadata is not None
    assert manifest.metadata.eval is not None
    assert manifest.metadata.eval["chosen_by"] == "person"
    assert "report" not in manifest.metadata.eval  # its figures are of the measured step
    assert sha256_file(kit / "weights.safetensors") != before
    assert sha256_file(measured.run / LORA_FILE) == sha256_file(book.candidate_path(measured.run, other))
    assert "chosen by a person" in measured.page.read_text()
    assert validate_kit(kit, base_folder=measured.base).valid

    # the same training again keeps what the person said, and does nothing
    packed = sha256_file(kit / "talent.json")
    assert measured.train() == kit
    assert sha256_file(kit / "talent.json") == packed
    assert finished(measured.run) is not None

    # and back: the measured step has its measured strength again
    assert call(measured, TALENT_ID, "--step", str(choice.step)) == 0
    assert sha256_file(measured.run / LORA_FILE) == lora
    assert read_manifest(kit).default_weight == choice.default_weight


def test_what_cannot_be_chosen_is_said_in_one_line(
    measured: Measured, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(measured, TALENT_ID, "--step", "5") == 2
    assert "step 5 was not measured\nnext: choose one of 2, 4, 6" in capsys.readouterr().err
    assert call(measured, "avatar.identity.nobody") == 1
    assert "holds no run" in capsys.readouterr().err
    other = ["--quiet", "train", "choose", str(measured.run), "--step", "2", "--workspace", str(tmp_path)]
    assert talent(other) == 1
    assert "is no run of the workspace" in capsys.readouterr().err
    assert call(measured, TALENT_ID, "--step", "2", "--weight", "3") == 2


def test_what_was_chosen_is_read_without_torch() -> None:
    modules = "talent_factory.report.choice, talent_factory.training.likeness.choose"
    script = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment)
