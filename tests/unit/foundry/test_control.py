"""A picture steers through a ControlNet as it does in diffusers' pipeline, and the recipe says so."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from talent_factory.core.errors import BaseError, UsageError
from talent_factory.core.events import SilentReporter
from talent_factory.foundry.asked import control_options
from talent_factory.foundry.blend import Mix
from talent_factory.foundry.recipe import Control, read_recipe
from talent_factory.foundry.render import RenderOrder, Shot, render
from talent_factory.training.families.port import Base

STEPS = 10


def control_net(folder: Path, *, width: int = 32) -> Path:
    """A ControlNet for the random base with weights that matter: diffusers begins its outputs at zero."""
    from diffusers import ControlNetModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        made = ControlNetModel(
            block_out_channels=(32, 64),
            layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            cross_attention_dim=width,
            attention_head_dim=2,
            norm_num_groups=8,
            conditioning_embedding_out_channels=(8, 16, 16, 16),
        )
        with torch.no_grad():
            for parameter in made.parameters():
                if parameter.dim() == 4 and not parameter.abs().sum():
                    parameter.normal_(0.0, 0.1)
    made.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return control_net(tmp_path_factory.mktemp("nets") / "openpose")


@pytest.fixture(scope="module")
def pose(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pose") / "pose.png"
    ramp = np.linspace(0, 255, 32 * 32 * 3).astype(np.uint8).reshape(32, 32, 3)
    Image.fromarray(ramp).save(path)
    return path


def drawn(
    base: Base, out: Path, control: Control | None
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    shots = (Shot(prompt="ink portrait", seed=5),)
    order = RenderOrder(shots=shots, steps=STEPS, guidance=3.0, batch=1, control=control)
    (path,) = render(base, order, mix=Mix(), out=out, reporter=SilentReporter())
    with Image.open(path) as image:
        return np.asarray(image).astype(np.float32)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize(("begin", "end"), [(0.0, 1.0), (0.0, 0.5), (0.3, 1.0)])
def test_our_picture_is_that_of_diffusers(
    base: Base, base_folder: Path, net: Path, pose: Path, tmp_path: Path, begin: float, end: float
) -> None:
    from diffusers import (
        ControlNetModel,
        DPMSolverMultistepScheduler,
        StableDiffusionControlNetPipeline,
    )

    pipeline = StableDiffusionControlNetPipeline.from_pretrained(
        base_folder,
        controlnet=ControlNetModel.from_pretrained(net, dtype=torch.float32),
        safety_checker=None,
        requires_safety_checker=False,
        dtype=torch.float32,
    )
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    with Image.open(pose) as picture:
        theirs = pipeline(
            "ink portrait",
            image=picture.convert("RGB"),
            timesteps=list(range(999, -1, -111)),
            num_inference_steps=STEPS,
            guidance_scale=3.0,
            controlnet_conditioning_scale=0.8,
            control_guidance_start=begin,
            control_guidance_end=end,
            generator=torch.Generator().manual_seed(5),
            output_type="np",
        ).images[0]
    control = Control(image=str(pose), model=str(net), strength=0.8, begin=begin, end=end)
    ours = drawn(base, tmp_path / "with", control)
    assert np.abs(ours - theirs * 255.0).max() <= 1.01
    assert np.abs(ours - drawn(base, tmp_path / "without", None)).max() > 4


def test_the_recipe_names_picture_and_model(base: Base, net: Path, pose: Path, tmp_path: Path) -> None:
    drawn(base, tmp_path, Control(image=str(pose), model=str(net), strength=0.5))
    use = read_recipe(tmp_path / "001.png").control
    assert use is not None
    assert (use.model, use.strength) == ("openpose", 0.5)
    assert len(use.model_sha256) == len(use.image_sha256) == 64
    assert use.model_sha256 != use.image_sha256


def test_another_familys_control_is_refused(base: Base, pose: Path, tmp_path: Path) -> None:
    wide = control_net(tmp_path / "wide", width=48)
    with pytest.raises(BaseError, match="48 wide"):
        drawn(base, tmp_path / "out", Control(image=str(pose), model=str(wide)))


def test_what_is_no_control_net_is_refused(base: Base, base_folder: Path, pose: Path, tmp_path: Path) -> None:
    with pytest.raises(BaseError, match="no ControlNetModel"):
        drawn(base, tmp_path, Control(image=str(pose), model=str(base_folder / "unet")))
    with pytest.raises(BaseError, match=r"no config\.json"):
        drawn(base, tmp_path, Control(image=str(pose), model=str(tmp_path)))
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    (pickled / "config.json").write_text(json.dumps({"_class_name": "ControlNetModel"}))
    (pickled / "diffusion_pytorch_model.bin").write_bytes(b"\x80\x02")
    with pytest.raises(BaseError, match="pickle"):
        drawn(base, tmp_path, Control(image=str(pose), model=str(pickled)))


def test_what_is_no_picture_is_refused(base: Base, net: Path, tmp_path: Path) -> None:
    broken = tmp_path / "pose.png"
    broken.write_bytes(b"GIF89a")
    with pytest.raises(UsageError, match="cannot be read"):
        drawn(base, tmp_path, Control(image=str(broken), model=str(net)))


def test_a_control_is_found_in_the_kit(tmp_path: Path, pose: Path) -> None:
    kit = tmp_path / "kit"
    (kit / "controls").mkdir(parents=True)
    (kit / "controls" / "stand.png").write_bytes(pose.read_bytes())
    found = control_options("stand.png", tmp_path, strength=1.0, steps="0-0.5", kits=[kit])
    assert found["control"] == {
        "image": str(kit / "controls" / "stand.png"),
        "model": str(tmp_path),
        "strength": 1.0,
        "begin": 0.0,
        "end": 0.5,
    }
    assert control_options(None, None, strength=1.0, steps="0-1", kits=[]) == {}
    for picture, model, steps in (
        ("stand.png", None, "0-1"),
        (None, tmp_path, "0-1"),
        ("../kit/controls/stand.png", tmp_path, "0-1"),
        (str(pose), tmp_path, "0.5-0.2"),
        (str(pose), tmp_path, "half"),
    ):
        with pytest.raises(UsageError):
            control_options(picture, model, strength=1.0, steps=steps, kits=[kit])
