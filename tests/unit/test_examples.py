"""The examples run as a user runs them, offline and against a service that is paid; the guide is true."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline_maker import write_portrait, write_recipe
from servers.replicate import TOKEN, Behaviour, FakeReplicate
from service_maker import IDENTITY, make_workspace, serving
from talent_factory.datagen.access import BASE_VARIABLES, KEY_VARIABLES
from talent_factory.datagen.generator import ActorExtras
from talent_factory.datagen.setting import Extras
from talent_factory.lipsync.actor import ActorCard, save_actor
from talent_factory.lipsync.audio.wave import write_wave
from talent_factory.lipsync.codec import open_codec
from talent_factory.lipsync.models.unet import build_unet
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
    write_recipe(tmp_path / "three.toml")
    write_portrait(tmp_path / "Ada V.png")
    mine = run_example("actor_from_portrait.py", "Ada V.png", "--recipe", "three.toml", folder=tmp_path)
    assert mine.returncode == 0, mine.stderr
    assert "3 of 3 images" in mine.stdout
    assert "/custom-actors/Ada_V/" in mine.stdout, "another picture is another actor"


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


@pytest.mark.slow
def test_orders_of_a_user_stay_within_the_budget_and_are_drawn_once(tmp_path: Path) -> None:
    with serving(make_workspace(tmp_path / "workspace")) as service:
        place = ("--url", service.url, "--token-file", str(service.workspace / "service" / "token"))
        words = (*place, "--kit", f"{IDENTITY}:0.5", "--steps", "1", "--budget", "0.03")

        def order(number: str, count: int) -> subprocess.CompletedProcess[str]:
            return run_example(
                "picture_orders.py", "ada", number, *words, "--count", str(count), folder=tmp_path
            )

        first, again = order("1", 2), order("1", 2)
        assert first.returncode == 0, first.stderr
        assert "done: 2 of 2 pictures for $0.02" in first.stdout
        assert again.stdout == first.stdout
        assert [path.name for path in sorted((tmp_path / "pictures").rglob("*.png"))] == [
            "001.png",
            "002.png",
        ]
        assert "ada has $0.01 left and the order costs $0.02" in order("2", 2).stderr
        assert "belongs to another request" in order("1", 1).stderr
        with service.client() as client:
            assert len(client.jobs().jobs) == 1
    unreached = order("3", 1)
    assert "cannot be reached" in unreached.stderr
    booked = json.loads((tmp_path / "accounts" / "ada.json").read_text("utf-8"))
    assert booked == {"1": 0.02, "3": 0.01}


@pytest.mark.slow
def test_a_program_on_the_public_face_passes_a_strict_type_check(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir", str(tmp_path)]
    command += ["--follow-imports", "silent", *(str(path) for path in sorted(EXAMPLES.glob("*.py")))]
    done = subprocess.run(
        command, env={**os.environ, "MYPYPATH": str(SOURCE)}, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_the_live_example_speaks_while_sound_arrives(tmp_path: Path) -> None:
    config = {
        "sample_size": 4, "block_out_channels": [16, 16], "layers_per_block": 1, "attention_head_dim": 2,
        "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"], "norm_num_groups": 4,
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"], "cross_attention_dim": 384,
    }  # fmt: skip
    card = ActorCard(
        image_size=32, codec="dct8", codec_id="dct8", extractor="mel", extractor_id="mel-1", audio_left=2,
        audio_right=2,
    )  # fmt: skip
    save_actor(tmp_path / "actor", build_unet(config, open_codec("dct8")), card)
    Image.new("RGB", (80, 96), (200, 160, 120)).save(tmp_path / "face.png")
    write_wave(tmp_path / "hello.wav", np.sin(np.arange(16000) / 20).astype(np.float32) * 0.3)
    words = ("--model", "actor", "--image", "face.png", "--audio", "hello.wav", "--detector", "center")
    done = run_example("speak_live.py", *words, "--piece", "0.25", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-1] == "25 frames in frames"
    # 80 ms behind: of what was heard, all but the last two frames are shown
    assert lines[1] == "0.50 s heard, 0.40 s shown"
    assert len(list((tmp_path / "frames").glob("*.png"))) == 25
    without = run_example("speak_live.py", *words[2:], "--model", "nowhere", folder=tmp_path)
    assert without.returncode == 1
    assert "holds no speaking actor" in without.stderr
    assert "Traceback" not in without.stderr
