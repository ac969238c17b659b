"""The examples run as a user runs them, offline and against a service that is paid; the guide is true."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline_maker import write_recipe
from servers.replicate import TOKEN, Behaviour, FakeReplicate
from talent_factory.datagen.access import BASE_VARIABLES, KEY_VARIABLES
from talent_factory.datagen.generator import ActorExtras
from talent_factory.datagen.setting import Extras
from talent_factory.providers.catalog import provider_names

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SOURCE = EXAMPLES.parent / "src"


def run_example(name: str, *words: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run an example in `folder`, with no key but those that are given."""
    secrets = {name for names in KEY_VARIABLES.values() for name in names} | set(BASE_VARIABLES.values())
    environment = {key: value for key, value in os.environ.items() if key not in secrets}
    environment |= {"PYTHONPATH": str(SOURCE), **variables}
    command = [sys.executable, "-W", "error", str(EXAMPLES / name), *words]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=280
    )


def test_the_guide_names_arguments_and_results_that_exist() -> None:
    text = (EXAMPLES.parent / "docs" / "casting.md").read_text("utf-8")
    table = text.split("| argument | what |", 1)[1].split("\n\n", 1)[0]
    rows = [line.split("|")[1] for line in table.splitlines()[2:]]
    arguments = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert len(arguments) > 15
    assert arguments <= set(ActorExtras.__annotations__) | set(Extras.__annotations__)
    source = (SOURCE / "talent_factory" / "datagen" / "generator.py").read_text("utf-8")
    named = re.findall(r'result\["(\w+)"\]', text)
    assert len(named) >= 4
    assert all(f'"{name}":' in source for name in named)
    variables = {name for names in KEY_VARIABLES.values() for name in names[:1]}
    assert all(f"`{name}`" in text for name in variables)
    assert all(f"| `{name}` |" in text for name in provider_names())


@pytest.mark.slow
def test_the_actor_example_runs_offline_and_again(tmp_path: Path) -> None:
    words = ("--long-side", "320")
    first, again = (run_example("actor_from_portrait.py", *words, folder=tmp_path) for _ in range(2))
    assert first.returncode == 0, first.stderr
    assert "17 of 17 images by embedded for $0.00" in first.stdout
    assert first.stdout == again.stdout
    urls = [line for line in first.stdout.splitlines() if line.startswith("file://")]
    assert len(urls) == 17
    assert (tmp_path / "casting_example" / "debug" / "training_data_grid.jpg").is_file()


@pytest.mark.slow
def test_the_actor_example_pays_only_when_told(tmp_path: Path) -> None:
    write_recipe(tmp_path / "three.toml")
    words = ("--recipe", "three.toml", "--provider", "replicate")
    without = run_example("actor_from_portrait.py", *words, folder=tmp_path)
    assert without.returncode == 1
    assert "REPLICATE_API_TOKEN is not set" in without.stderr
    assert "Traceback" not in without.stderr
    with FakeReplicate(Behaviour(after_polls=1)) as server:
        keys = {"REPLICATE_API_TOKEN": TOKEN, "REPLICATE_BASE_URL": f"{server.url}/v1"}
        done = run_example("actor_from_portrait.py", *words, "--budget", "0.12", folder=tmp_path, **keys)
        assert len(server.jobs) == 3
    assert done.returncode == 0, done.stderr
    assert "3 of 3 images by replicate for $0.12" in done.stdout
    assert TOKEN not in done.stdout + done.stderr


@pytest.mark.slow
def test_the_style_example_runs_offline(tmp_path: Path) -> None:
    done = run_example(
        "style_from_picture.py",
        "--count",
        "6",
        "--long-side",
        "512",
        folder=tmp_path,
        OPENAI_API_KEY="unused",
    )
    assert done.returncode == 0, done.stderr
    assert "6 of 6 images" in done.stdout
