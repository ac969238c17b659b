"""What is worked out once changes no picture, follows the weights, and leaves nothing behind."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from talent_factory.training import cpu
from talent_factory.training.families import Base, load_base
from talent_factory.training.families.random_base import make_random_base
from talent_factory.training.quick import quick
from talent_factory.training.sampler import Hooks, Manner, Texts, draw, sample

CONVOLUTION = "mid_block.resnets.0.conv1"


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


class Turns:
    """Other weights for a convolution and for what reads the text, in turns from step to step."""

    def __init__(self, model: Base, *, kept: bool) -> None:
        layers = (CONVOLUTION, "up_blocks.1.attentions.0.transformer_blocks.0.attn2.to_v")
        self._weights = [dict(model.unet.named_parameters())[f"{layer}.weight"] for layer in layers]
        self.own = [weight.data for weight in self._weights]
        self._kept = [self._others(turn) for turn in range(2)] if kept else None

    def _others(self, turn: int) -> list[torch.Tensor]:
        return [own * (3.0 - 5.0 * turn) for own in self.own]

    def before_step(self, index: int, steps: int) -> None:
        del steps
        # fresh ones lie where those of the step before did, or nearby
        self.put([])
        self.put(self._others(index % 2) if self._kept is None else self._kept[index % 2])

    def put(self, tensors: list[torch.Tensor]) -> None:
        for weight, tensor in zip(self._weights, tensors or self.own, strict=True):
            weight.data = tensor

    def places(self) -> list[int]:
        """Where the convolution's weights lie."""
        assert self._kept is not None
        return [weights[0].data_ptr() for weights in self._kept]

    def drawn(self, model: Base) -> np.ndarray[tuple[int, ...], np.dtype[np.int16]]:
        hooks = Hooks(before_step=self.before_step)
        made = draw(Texts(model), ["a"], seeds=[1], manner=Manner(steps=6), hooks=hooks).astype(np.int16)
        self.put(self.own)
        return made


@pytest.mark.parametrize("kept", [True, False])
def test_weights_may_take_turns(model: Base, kept: bool) -> None:
    slowly = Turns(model, kept=kept).drawn(model)
    assert np.abs(slowly - sample(model, prompts=["a"], seeds=[1], steps=6)).max() > 4
    with quick(model):
        for _ in range(2):
            assert np.abs(Turns(model, kept=kept).drawn(model) - slowly).max() <= 1


@pytest.mark.parametrize("plenty", [True, False])
def test_packs_of_weights_that_take_turns_are_kept_where_there_is_room(
    model: Base, monkeypatch: pytest.MonkeyPatch, plenty: bool
) -> None:
    turns, made = Turns(model, kept=True), []
    slowly = turns.drawn(model)
    packs = sum(
        conv.weight.nbytes for conv in model.unet.modules() if cpu._packable(conv) and conv.kernel_size[0] > 1
    )
    free = 1 << 40 if plenty else 4 * packs
    monkeypatch.setattr(cpu.psutil, "virtual_memory", lambda: SimpleNamespace(available=free))
    lay_out = cpu._laid_out

    def noted(weight: torch.Tensor, *rest: object) -> torch.Tensor:
        made.append(weight.data_ptr())
        return lay_out(weight, *rest)

    monkeypatch.setattr(cpu, "_laid_out", noted)
    with quick(model):
        for _ in range(2):
            assert np.abs(turns.drawn(model) - slowly).max() <= 1
    assert [made.count(place) for place in turns.places()] == ([1, 1] if plenty else [6, 6])


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
