"""What is worked out once changes no picture, follows the weights, and leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from talent_factory.training.families import Base, load_base
from talent_factory.training.families.random_base import make_random_base
from talent_factory.training.quick import quick
from talent_factory.training.sampler import Hooks, Manner, Texts, draw, sample


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_random_base(tmp_path_factory.mktemp("quick"), seed=3)


@pytest.fixture(scope="module")
def model(folder: Path) -> Base:
    return load_base(folder)


def forwards(model: Base) -> list[object]:
    modules = [*model.unet.modules(), *model.vae.modules()]
    own = [module.__dict__.get("forward") for module in modules]
    return [*own, *(getattr(module, "processor", None) for module in modules)]


def picture(model: Base, **changes: object) -> np.ndarray[tuple[int, ...], np.dtype[np.int16]]:
    return sample(model, prompts=["a", "b"], seeds=[1, 2], steps=3, **changes).astype(np.int16)  # type: ignore[arg-type]


def test_the_same_pictures_come_quickly(model: Base) -> None:
    before = forwards(model)
    plain = picture(model)
    with quick(model):
        assert forwards(model) != before
        assert np.abs(picture(model) - plain).max() <= 1
        other_size = picture(model, size=(64, 48))
    assert forwards(model) == before
    assert np.array_equal(picture(model), plain)
    assert np.abs(picture(model, size=(64, 48)) - other_size).max() <= 1


@torch.no_grad()
def test_what_is_kept_follows_the_weights(model: Base) -> None:
    own = {name: one.clone() for name, one in model.unet.named_parameters()}
    with quick(model):
        picture(model)
        for name, one in model.unet.named_parameters():
            if one.dim() > 1:
                torch.add(own[name], own[name], alpha=0.3, out=one)
        changed = picture(model)
    fresh = picture(model)
    for name, one in model.unet.named_parameters():
        one.copy_(own[name])
    assert np.abs(changed - fresh).max() <= 1
    assert np.abs(changed - picture(model)).max() > 4


def test_weights_may_change_between_two_steps(model: Base) -> None:
    weight = dict(model.unet.named_parameters())[
        "up_blocks.1.attentions.0.transformer_blocks.0.attn2.to_v.weight"
    ]
    own = weight.clone()

    @torch.no_grad()
    def before_step(index: int, steps: int) -> None:
        weight.copy_(own if index == 0 else own * 3.0)

    def drawn() -> np.ndarray[tuple[int, ...], np.dtype[np.int16]]:
        hooks = Hooks(before_step=before_step)
        made = draw(Texts(model), ["a"], seeds=[1], manner=Manner(steps=3), hooks=hooks).astype(np.int16)
        with torch.no_grad():
            weight.copy_(own)
        return made

    slowly = drawn()
    with quick(model):
        assert np.abs(drawn() - slowly).max() <= 1
    assert np.abs(slowly - sample(model, prompts=["a"], seeds=[1], steps=3)).max() > 0


def test_bf16_is_quick_too(folder: Path) -> None:
    model = load_base(folder, dtype="bfloat16")
    plain = picture(model)
    with quick(model):
        assert np.abs(picture(model) - plain).mean() < 2


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_one_picture_is_that_of_diffusers(folder: Path, model: Base) -> None:
    from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline

    # ten steps whose timesteps are whole numbers, which is all that diffusers takes
    times = list(range(999, -1, -111))
    pipeline = StableDiffusionPipeline.from_pretrained(
        folder, safety_checker=None, requires_safety_checker=False, dtype=torch.float32
    )
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(
        pipeline.scheduler.config, timestep_spacing="linspace"
    )
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        "ink portrait",
        negative_prompt="blurry",
        timesteps=times,
        guidance_scale=3.0,
        generator=torch.Generator().manual_seed(5),
        output_type="np",
    ).images[0]
    manner = Manner(steps=len(times), guidance=3.0, negative="blurry")
    with quick(model):
        (ours,) = draw(Texts(model), ["ink portrait"], seeds=[5], manner=manner)
    assert np.abs(ours.astype(np.float32) - theirs * 255.0).max() <= 1.01
