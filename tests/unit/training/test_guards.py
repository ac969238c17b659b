"""Each guard keeps quiet about a sound training and speaks about a broken one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from talent_factory.core.errors import KitError, TrainingBroken
from talent_factory.training.families import Base, load_base
from talent_factory.training.families.port import TextStates
from talent_factory.training.families.random_base import make_random_base
from talent_factory.training.flat import FlatParameters
from talent_factory.training.guards import (
    FLOW_STEPS,
    GradientWatch,
    blame,
    check_clip,
    check_flow,
    idle_modules,
    require_effect,
    total_norm,
    traced,
    watch_networks,
)
from talent_factory.training.lora import LoraLayer, LoraNetwork, attach
from talent_factory.training.options import NetworkKeys


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return load_base(make_random_base(tmp_path_factory.mktemp("base")))


class Trainer:
    """A few plain steps on the UNet and the text encoder of a base."""

    def __init__(self, base: Base, *, dora: bool = False) -> None:
        shape = NetworkKeys(dora=dora)
        (prefix, text), unet = base.text_encoders[0], base.unet
        self.base = base
        self.networks = [
            attach(unet, rank=2, name=base.lora_name, shape=shape),
            attach(text, prefix=prefix, rank=2, name=base.lora_name, shape=shape),
        ]
        self.flat = FlatParameters([(network, 1e-3) for network in self.networks], compute=torch.float32)
        self.optimizer = torch.optim.SGD([vector.weights for vector in self.flat.vectors], lr=1e-2)
        self.watch = watch_networks(self.networks)

    def step(self, *, frozen_text: bool = False, poison: str = "", limit: float = 1.0) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        self.flat.zero_gradients()
        text = self.base.encode_prompts(["a robot"])
        latents = torch.randn((1, 4, 4, 4), generator=generator)
        text = _cut(text) if frozen_text else text
        estimate = self.base.predict(latents, torch.tensor([500]), text)
        (estimate**2).mean().backward()
        if poison:
            gradient = self.layer(poison).up.grad
            assert gradient is not None
            gradient.view(-1)[0] = float("nan")
        norms = self.watch.note()
        torch.testing.assert_close(norms.norm(), total_norm(self.flat.gradients()), equal_nan=True)
        norm = self.flat.clip(limit)
        self.optimizer.step()
        return norm

    def layer(self, name: str) -> LoraLayer:
        layers = (pair for network in self.networks for pair in network.named_layers())
        return next(layer for own, layer in layers if own == name)


def _cut(text: TextStates) -> TextStates:
    return TextStates(text.context_BTC.detach(), text.pooled_BD)


@pytest.fixture(params=[False, True], ids=["plain", "dora"])
def trainer(base: Base, request: pytest.FixtureRequest) -> Iterator[Trainer]:
    own = Trainer(base, dora=request.param)
    yield own
    for network in own.networks:
        network.detach()


def test_after_a_few_steps_every_module_has_had_its_gradient(trainer: Trainer) -> None:
    trainer.step()
    # up begins at zero, and so does down's gradient
    assert len(trainer.watch.silent()) == len(trainer.watch.gradients)
    for _ in range(FLOW_STEPS - 1):
        trainer.step()
    assert trainer.watch.silent() == ()
    assert check_flow(trainer.watch) == ""
    assert trainer.watch.to_blame() == ()


def test_a_text_encoder_that_the_loss_does_not_reach_stops_the_training(trainer: Trainer) -> None:
    for _ in range(FLOW_STEPS):
        trainer.step(frozen_text=True)
    with pytest.raises(TrainingBroken, match="modules of lora_te has had a gradient"):
        check_flow(trainer.watch)


def test_single_modules_without_gradient_are_named() -> None:
    on, off = torch.ones(3), torch.zeros(3)
    watch = GradientWatch({f"lora_unet_{i}": (on, off if i in (2, 5) else on) for i in range(9)})
    watch.note()
    assert check_flow(watch) == "2 of 9 modules never had a gradient: lora_unet_2, lora_unet_5"
    many = GradientWatch({f"lora_unet_{i}": (on if i == 0 else off,) for i in range(9)})
    many.note()
    assert check_flow(many).endswith("lora_unet_5 and 3 more")


def test_the_module_that_broke_first_is_named(trainer: Trainer) -> None:
    name = "lora_unet_mid_block_attentions_0_proj_in"
    trainer.step()
    norm = trainer.step(poison=name)
    assert not torch.isfinite(norm)
    # clipping has spread it by now, and the next step is broken everywhere
    trainer.step()
    assert trainer.watch.to_blame() == (name,)
    assert blame(trainer.watch, {}) == f"first in the gradient of {name}"


def test_a_break_everywhere_at_once_names_no_module() -> None:
    watch = GradientWatch({f"lora_unet_{i}": (torch.full((3,), float("nan")),) for i in range(9)})
    watch.note()
    assert blame(watch, {}) == "in the gradients of all 9 modules at once"


def test_a_step_that_was_skipped_is_no_break() -> None:
    parts = {"a": (torch.ones(2),), "b": (torch.tensor([float("inf")]),)}
    watch = GradientWatch(parts)
    watch.note()
    watch.forgive(torch.tensor(False))
    assert watch.to_blame() == ("b",)
    watch.forgive(torch.tensor(True))
    assert watch.to_blame() == ()
    parts["b"][0].fill_(1.0)
    parts["a"][0].fill_(float("nan"))
    watch.note()
    assert watch.to_blame() == ("a",)


def test_without_a_watch_the_weights_are_asked(base: Base) -> None:
    sound, broken = torch.ones(2), torch.tensor([1.0, float("inf")])
    assert blame(None, {"a": (sound,), "b": (sound, broken)}) == "in the weights of b"
    assert blame(None, {"a": (sound,)}) == "in the model's own numbers"


def test_clipping_is_checked_by_its_outcome(trainer: Trainer) -> None:
    limit = 1e-3
    before = float(trainer.step(limit=limit))
    after = float(total_norm(trainer.flat.gradients()))
    assert before > limit
    check_clip(before, after, limit)
    check_clip(0.5, 0.5, 1.0)
    check_clip(0.0, 0.0, 1.0)
    with pytest.raises(TrainingBroken, match="after clipping to"):
        check_clip(before, before, limit)
    with pytest.raises(TrainingBroken):
        check_clip(0.5, 0.1, 1.0)
    with pytest.raises(TrainingBroken):
        check_clip(5.0, float("nan"), 1.0)


def test_the_trace_names_the_first_broken_part(base: Base) -> None:
    part = base.unet.get_submodule("mid_block.attentions.0.proj_in")
    weight = part.weight.detach().clone()
    latents, text = torch.ones((1, 4, 4, 4)), base.encode_prompts(["x"])
    with traced(base.unet) as first:
        base.predict(latents, torch.tensor([1]), text)
        assert first() == ""
    with torch.no_grad():
        part.weight[0, 0] = float("nan")
    try:
        with traced(base.unet) as first:
            base.predict(latents, torch.tensor([1]), text)
            assert first() == "mid_block.attentions.0.proj_in (its input was sound)"
        with traced(base.unet) as first:
            base.predict(latents * float("inf"), torch.tensor([1]), text)
            assert first() == "conv_in (its input was broken already)"
    finally:
        with torch.no_grad():
            part.weight.copy_(weight)
    assert not part._forward_hooks


def state(base: Base) -> tuple[LoraNetwork, dict[str, Tensor]]:
    network = attach(base.unet, rank=2)
    return network, network.state()


def test_an_untrained_lora_is_not_shipped(base: Base, tmp_path: Path) -> None:
    network, tensors = state(base)
    network.detach()
    assert len(idle_modules(tensors)) == len(network.layers)
    with pytest.raises(KitError, match="nothing was learnt"):
        require_effect(tensors)
    first, second, *_ = network.layers
    trained = {name: torch.ones_like(tensor) for name, tensor in tensors.items()}
    assert require_effect(trained) == ""
    trained[f"{first}.lora_up.weight"] = torch.zeros(1)
    trained[f"{second}.lora_down.weight"] = torch.zeros(1)
    assert require_effect(trained) == f"2 of {len(network.layers)} modules change nothing: {first}, {second}"
