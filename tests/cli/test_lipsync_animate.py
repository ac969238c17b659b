"""`talent lipsync animate`: a portrait, a kit or a video says a recording, from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from talent_factory.cli.app import app
from talent_factory.lipsync.actor import ActorCard, save_actor
from talent_factory.lipsync.animate.film import Film
from talent_factory.lipsync.audio.wave import write_wave
from talent_factory.lipsync.codec import open_codec
from talent_factory.lipsync.models.unet import build_unet

runner = CliRunner()


@pytest.fixture(scope="module")
def actor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, codec = tmp_path_factory.mktemp("run") / "checkpoint-3", open_codec("dct8")
    config: dict[str, Any] = {
        "sample_size": 4, "block_out_channels": [16, 16], "layers_per_block": 1, "attention_head_dim": 2,
        "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"], "norm_num_groups": 4,
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"], "cross_attention_dim": 384,
    }  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = build_unet(config, codec)
    card = ActorCard(
        image_size=32, codec="dct8", codec_id=codec.id, extractor="mel", extractor_id="mel-1",
        audio_left=2, audio_right=2, preset="test", step=3,
    )  # fmt: skip
    save_actor(folder, unet, card)
    return folder.parent


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    write_wave(tmp_path / "hello.wav", np.random.default_rng(0).normal(size=6400) * 0.1)
    return tmp_path / "hello.wav"


def drawing(path: Path) -> Path:
    """A face of the simplest kind."""
    image = np.full((128, 128, 3), (200, 120, 90), np.uint8)
    cv2.ellipse(image, (64, 62), (27, 32), 0, 0, 360, (150, 190, 235), -1)
    cv2.ellipse(image, (64, 62), (27, 32), 0, 0, 360, (20, 20, 20), 2)
    for x in (53, 75):
        cv2.circle(image, (x, 54), 5, (255, 255, 255), -1)
        cv2.circle(image, (x, 54), 2, (20, 20, 20), -1)
    cv2.ellipse(image, (64, 78), (9, 3), 0, 0, 360, (60, 60, 160), -1)
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)
    return path


def call(*arguments: object) -> Any:
    return runner.invoke(app, ["lipsync", "animate", *map(str, arguments)])


def test_a_drawing_speaks_and_the_face_is_found(tmp_path: Path, actor: Path, audio: Path) -> None:
    picture, out = drawing(tmp_path / "p.png"), tmp_path / "o.mp4"
    asked = ("--image", picture, "--audio", audio, "--model", actor, "--out", out, "--json")
    plan = json.loads(call(*asked, "--dry-run").stdout)
    assert not out.exists()
    assert (plan["frames"], plan["model_step"]) == (10, 3)
    assert 45 <= plan["face_side"] <= 90
    made = json.loads(call(*asked).stdout)
    assert (made["frames"], made["without_face"], made["width"]) == (10, 0, 128)
    # cups are round as well: whoever is taken for a drawing is told so
    assert (made["detector"], made["made_side"], plan["detector"]) == ("drawn-1", 32, "drawn-1")
    assert made["face_side"] == plan["face_side"]
    assert "taken for a drawing" in call(*asked[:-1]).stdout
    frame = Film(out).frame(5).astype(int)
    true = cv2.imread(str(picture))[:, :, ::-1].astype(int)
    assert np.abs(frame[:50] - true[:50]).mean() < 6
    assert np.abs(frame[66:88, 50:78] - true[66:88, 50:78]).mean() > 20


def test_the_preview_of_a_kit_speaks(tmp_path: Path, actor: Path, audio: Path) -> None:
    drawing(tmp_path / "talents" / "avatar" / "avatar.identity.dot" / "preview.png")
    out = tmp_path / "o.mp4"
    asked = ("--audio", audio, "--model", actor, "--out", out, "--workspace", tmp_path)
    done = call("--kit", "avatar.identity.dot", *asked)
    assert done.exit_code == 0, done.output
    assert out.is_file()
    missing = call("--kit", "avatar.identity.nobody", *asked)
    assert missing.exit_code != 0
    assert "no kit avatar.identity.nobody" in str(missing.exception)


def test_a_video_is_said_anew_at_another_rate(tmp_path: Path, actor: Path, audio: Path) -> None:
    first, out = tmp_path / "a.mp4", tmp_path / "b.mp4"
    call("--image", drawing(tmp_path / "p.png"), "--audio", audio, "--model", actor, "--out", first)
    asked = ("--video", first, "--audio", audio, "--model", actor, "--out", out, "--detector", "center")
    made = json.loads(call(*asked, "--fps", "30", "--size", "96", "--json").stdout)
    assert (made["frames"], made["width"], made["rate"]) == (12, 96, 30.0)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "who is to speak"),
        (("--image", "a.png", "--video", "b.mp4"), "who is to speak"),
        (("--image", "a.png", "--fps", "soon"), "--fps"),
        (("--image", "a.png", "--box", "1,2"), "--box"),
        (("--image", "absent.png"), "absent.png"),
        (("--image", "a.png", "--device", "abacus"), "--device"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    tmp_path: Path, actor: Path, audio: Path, arguments: tuple[str, ...], told: str
) -> None:
    done = call(*arguments, "--audio", audio, "--model", actor, "--out", tmp_path / "o.mp4")
    assert done.exit_code != 0
    assert told in str(done.exception)
    assert not (tmp_path / "o.mp4").exists()


@pytest.mark.parametrize("moving", [False, True])
def test_boxes_are_in_pixels_of_the_file_however_it_is_shrunk(
    tmp_path: Path, actor: Path, audio: Path, moving: bool
) -> None:
    picture, first = drawing(tmp_path / "p.png"), tmp_path / "a.mp4"
    call("--image", picture, "--audio", audio, "--model", actor, "--out", first)
    (tmp_path / "b.json").write_text(json.dumps([[34, 26, 94, 96]] * 10))
    who = ("--video", first) if moving else ("--image", picture)
    asked = (*who, "--audio", audio, "--model", actor, "--out", tmp_path / "o.mp4", "--dry-run", "--json")
    for way in (("--box", "34,26,94,96"), ("--detector", f"boxes:{tmp_path / 'b.json'}")):
        whole, half = (json.loads(call(*asked, *way, *size).stdout) for size in ((), ("--size", "64")))
        assert half["width"] == 64
        assert half["face_side"] == pytest.approx(whole["face_side"] / 2, rel=0.01)
    beside = call(*asked, "--box", "500,500,600,600", "--size", "64")
    assert "beside the picture of 128x128" in str(beside.exception)


def test_a_source_is_never_overwritten(tmp_path: Path, actor: Path, audio: Path) -> None:
    first = tmp_path / "a.mp4"
    call("--image", drawing(tmp_path / "p.png"), "--audio", audio, "--model", actor, "--out", first)
    before = first.read_bytes()
    (tmp_path / "b.mp4").symlink_to(first)
    for out, told in ((first, "take the place"), (tmp_path / "b.mp4", "take the place"), (audio, "no name")):
        for more in ((), ("--dry-run",)):
            done = call("--video", first, "--audio", audio, "--model", actor, "--out", out, *more)
            assert done.exit_code != 0
            assert told in str(done.exception)
    assert first.read_bytes() == before
    assert audio.read_bytes()[:4] == b"RIFF"


def test_a_folder_without_an_actor_is_named(tmp_path: Path, audio: Path) -> None:
    picture = drawing(tmp_path / "p.png")
    done = call("--image", picture, "--audio", audio, "--model", tmp_path, "--out", tmp_path / "o.mp4")
    assert done.exit_code != 0
    assert "no speaking actor" in str(done.exception)
