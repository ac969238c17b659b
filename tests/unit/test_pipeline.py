"""The whole path on a tiny base: done once, done again only where needed, and never half."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from html import unescape
from pathlib import Path

import pytest

from pipeline_maker import TOKEN, Small, furnish, make_small, small_dials, write_portrait, write_recipe
from talent_factory.core.errors import (
    Cancelled,
    ConfigError,
    DatasetError,
    KitError,
    PortraitError,
    ResumeRefused,
    UsageError,
    WorkspaceBusy,
)
from talent_factory.core.files import sha256_file, sha256_tree
from talent_factory.core.stop import StopSignal
from talent_factory.core.workspace import exclusive
from talent_factory.foundry.recipe import read_recipe
from talent_factory.kits.manifest import read_manifest
from talent_factory.kits.validate import validate_kit
from talent_factory.pipeline import RunResult, plan, plan_kit, run, train_kit

ALL = ["cast", "dataset", "train", "kit", "renders", "report"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Small:
    """A small world in which one run has ended."""
    small = make_small(tmp_path_factory.mktemp("small"))
    assert [stage.state for stage in small.run().stages] == ["made"] * 6
    return small


@pytest.fixture
def small(world: Small, tmp_path: Path) -> Small:
    """A copy of that world, free to be changed."""
    shutil.copytree(world.root / "work", tmp_path / "small" / "work")
    return furnish(tmp_path / "small", world.base)


def made(result: RunResult) -> list[str]:
    return [stage.name for stage in result.stages if stage.state == "made"]


def test_a_portrait_becomes_a_valid_kit_with_examples_that_name_it(world: Small) -> None:
    kit = world.place.talents / f"avatar.identity.{TOKEN}"
    report = validate_kit(kit, base_folder=world.base)
    assert report.valid, report.findings
    assert not report.warnings
    examples = sorted((kit / "examples").glob("*.png"))
    assert len(examples) == 6
    recipe = read_recipe(examples[0])
    assert recipe.kits[0].sha256 == sha256_file(kit / "weights.safetensors")
    assert f"{TOKEN} woman" in recipe.prompt


def test_nobody_says_of_a_portrait_that_it_shows_nobody_real(world: Small) -> None:
    metadata = read_manifest(world.place.talents / f"avatar.identity.{TOKEN}").metadata
    assert metadata is not None
    assert metadata.subject is None


def test_base_and_kit_render_the_same_prompts_and_seeds(world: Small) -> None:
    renders = world.place.reports / TOKEN / "renders"
    for path in sorted((renders / "base").glob("*.png")):
        plain, trained = read_recipe(path), read_recipe(renders / "kit" / path.name)
        assert (plain.prompt, plain.seed, plain.kits) == (trained.prompt, trained.seed, ())
        assert len(trained.kits) == 1


def test_the_report_shows_the_run(world: Small) -> None:
    html = (world.place.reports / TOKEN / "report.html").read_text()
    assert "3 training images from one portrait" in html
    assert html.count("<polyline") == 2
    text = unescape(re.sub(r"<[^>]+>", "", html))
    assert (
        f"talent render --kit avatar.identity.{TOKEN} --count 4 --prompt 'ink portrait of a {TOKEN} " in text
    )
    assert f"--workspace {world.place.root}" in text


def test_the_best_quality_measures_where_the_base_can_be_judged(small: Small) -> None:
    def training(base: str) -> str:
        found = plan(
            small.portrait,
            token=TOKEN,
            workspace=small.place,
            options=small.options(dials=None, quality="best", base=base),
        )
        return next(step.detail for step in found.steps if step.name == "train")

    assert "checkpoints measured" in training("mini")
    assert "measured" not in training(str(small.base))


def test_a_second_run_does_nothing(small: Small) -> None:
    before = sha256_tree(small.place.root, exclude=(".lock", f"reports/{TOKEN}/events.jsonl"))
    result = small.run()
    assert not result.changed
    assert made(result) == []
    assert sha256_tree(small.place.root, exclude=(".lock", f"reports/{TOKEN}/events.jsonl")) == before


def test_a_second_run_does_not_even_load_torch(small: Small) -> None:
    script = (
        "import sys; from pathlib import Path; from talent_factory.core.workspace import Workspace\n"
        "from talent_factory.pipeline import RunOptions, run\n"
        "options = RunOptions.model_validate_json(sys.argv[1])\n"
        "place = Workspace(Path(sys.argv[3]))\n"
        f"made = run(Path(sys.argv[2]), token='{TOKEN}', workspace=place, options=options)\n"
        "print(made.changed, 'torch' in sys.modules)"
    )
    call = [sys.executable, "-c", script, small.options().model_dump_json(), small.portrait, small.place.root]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_another_portrait_changes_everything_after_it(small: Small) -> None:
    write_portrait(small.portrait, seed=2)
    assert made(small.run()) == ALL
    assert (small.place.runs / f"avatar.identity.{TOKEN}.old1" / "lora.safetensors").is_file()


def test_other_render_numbers_train_nothing(small: Small) -> None:
    assert made(small.run(dials=small_dials(render_steps=3))) == ["kit", "renders", "report"]


def test_another_recipe_makes_only_the_new_pictures(small: Small) -> None:
    images = small.place.casts / TOKEN / "images"
    before = {path.name.split("_", 1)[1]: path.stat().st_mtime_ns for path in images.iterdir()}
    write_recipe(small.root / "three.toml", ("mono_vector", "flat_vector", "eye_contact", "manga"))
    small.run()
    cast = {path.name.split("_", 1)[1] for path in images.iterdir()}
    assert cast >= before.keys() | {"manga.png"}


def test_a_damaged_kit_is_packed_again_and_nothing_else_is_trained(small: Small) -> None:
    (small.place.talents / f"avatar.identity.{TOKEN}" / "weights.safetensors").write_bytes(b"x")
    result = small.run()
    assert made(result)[0] == "kit"
    assert "train" not in made(result)
    assert validate_kit(result.kit, base_folder=small.base).valid


def test_a_style_is_trained_once_and_mixed(small: Small) -> None:
    result = small.run(style=small.style)
    assert made(result) == ["style dataset", "style train", "style kit", "renders", "report"]
    assert result.style_kit == small.place.talents / "avatar.style.wobble"
    rung = read_recipe(small.place.reports / TOKEN / "renders" / "mix_2" / "001.png")
    assert [(kit.id, kit.weight) for kit in rung.kits] == [
        (f"avatar.identity.{TOKEN}", 1.0),
        ("avatar.style.wobble", 0.7),
    ]
    assert "Identity meets style" in result.report.read_text()
    assert not small.run(style=small.style).changed
    assert train_kit(small.style, workspace=small.place) == result.style_kit


def test_a_style_for_another_base_is_refused_before_it_is_trained(small: Small) -> None:
    small.style.write_text(small.style.read_text().replace(str(small.base), "/elsewhere"))
    with pytest.raises(KitError, match="elsewhere"):
        small.run(style=small.style)
    assert not (small.place.runs / "avatar.style.wobble").exists()


def test_a_style_that_cannot_be_is_refused_before_the_actor_is_made(small: Small) -> None:
    text = small.style.read_text()
    options = small.options(style=small.style)
    wrong: list[tuple[str, type[Exception], str]] = [
        (text.replace("avatar.style.", "avatar.identity.") + "token: wobble\n", ConfigError, "no style"),
        (text.replace("/wobble\n", "/nowhere\n"), DatasetError, "nowhere: no such folder"),
    ]
    for config, error, words in wrong:
        small.style.write_text(config)
        for act in (plan, run):
            with pytest.raises(error, match=words):
                act(small.portrait, token="other", workspace=small.place, options=options)
    assert not (small.place.casts / "other").exists()


def test_a_plan_to_train_on_nothing_is_refused(small: Small) -> None:
    for caption in (small.root / "wobble").glob("*.txt"):
        caption.unlink()
    with pytest.raises(DatasetError, match="4 of 4 images have no caption"):
        plan_kit(small.style, workspace=small.place)


def test_changed_inputs_are_refused_by_name_when_training_alone(small: Small) -> None:
    kit = train_kit(small.style, workspace=small.place)
    assert validate_kit(kit, base_folder=small.base).valid
    before = sha256_file(kit / "weights.safetensors")
    small.style.write_text(small.style.read_text().replace("1e-3", "5e-4"))
    states = [step.state for step in plan_kit(small.style, workspace=small.place).steps]
    assert states == ["done", "todo", "todo"]
    with pytest.raises(ResumeRefused, match="learning_rate"):
        train_kit(small.style, workspace=small.place)
    small.style.write_text(small.style.read_text().replace("5e-4", "1e-3"))
    (small.root / "wobble" / "0.txt").write_text("another caption")
    with pytest.raises(ResumeRefused, match=r"01\.png"):
        train_kit(small.style, workspace=small.place)
    assert sha256_file(kit / "weights.safetensors") == before


def test_a_plan_tells_all_and_writes_nothing(small: Small) -> None:
    options = small.options()
    done = plan(small.portrait, token=TOKEN, workspace=small.place, options=options)
    assert [step.name for step in done.steps] == ALL
    assert {step.state for step in done.steps} == {"done"}
    new = plan(small.portrait, token="other", workspace=small.place, options=options)
    assert {step.state for step in new.steps} == {"todo"}
    assert new.seconds > 0
    assert new.memory_mb > 0
    assert new.cost_usd == 0
    assert not (small.place.casts / "other").exists()
    with pytest.raises(PortraitError):
        plan(small.style, token=TOKEN, workspace=small.place, options=options)


def test_two_runs_of_one_workspace_do_not_meet(small: Small) -> None:
    with exclusive(small.place.root), pytest.raises(WorkspaceBusy):
        small.run()


def test_a_stop_is_heard_between_stages(small: Small) -> None:
    stop = StopSignal()
    stop.request()
    options = small.options(dials=small_dials(render_steps=4))
    with pytest.raises(Cancelled):
        run(small.portrait, token=TOKEN, workspace=small.place, stop=stop, options=options)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"dials": None, "quality": "ultra"}, UsageError),
        ({"actor_type": "ghost"}, UsageError),
        ({"recipe": "actor-18"}, ConfigError),
    ],
)
def test_wrong_words_are_refused(small: Small, changes: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error):
        small.run(**changes)


@pytest.mark.parametrize("token", ["../x", "Dot", "dot\n", ""])
def test_a_hostile_token_makes_no_folder(small: Small, token: str) -> None:
    with pytest.raises(UsageError):
        run(small.portrait, token=token, workspace=small.place, options=small.options())


KILLER = """
import os, signal, sys
from html import unescape
from pathlib import Path
from talent_factory.core.workspace import Workspace
from talent_factory.pipeline import RunOptions, run

class Killer:
    def hear(self, *words):
        if " ".join(map(str, words)) == sys.argv[5]:
            os.kill(os.getpid(), signal.SIGKILL)
    def event(self, kind, **fields):
        self.hear(kind, fields.get("stage", ""))
    def progress(self, stage, done, total, **more):
        self.hear(stage, done)
    def message(self, text):
        pass

options = RunOptions.model_validate_json(sys.argv[1])
place = Workspace(Path(sys.argv[3]))
run(Path(sys.argv[2]), token=sys.argv[4], workspace=place, options=options, reporter=Killer())
"""
MOMENTS = ("casting 2", "stage_started dataset", "train 2", "train 6", "stage_started kit", "rendering 4",
           "stage_done kit", "stage_started report")  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_killed_anywhere_it_ends_in_the_same_weights(world: Small, tmp_path: Path) -> None:
    small = furnish(tmp_path / "small", world.base)
    call = [
        sys.executable,
        "-c",
        KILLER,
        small.options().model_dump_json(),
        small.portrait,
        small.place.root,
        TOKEN,
    ]
    for moment in MOMENTS:
        assert subprocess.run([*call, moment], check=False).returncode == -signal.SIGKILL, moment
    subprocess.run([*call, "never"], check=True)
    name = f"avatar.identity.{TOKEN}"
    for path in (f"runs/{name}/lora.safetensors", f"runs/{name}/loss.jsonl"):
        assert sha256_file(small.place.root / path) == sha256_file(world.place.root / path)
    assert validate_kit(small.place.talents / name, base_folder=small.base).valid
    assert not [path for path in small.place.root.rglob(".tmp-*") if "cache" not in path.parts]
    assert not small.run().changed
