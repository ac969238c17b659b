"""Each step has its weights in place: what comes back is kept where there is memory, and all is exact."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from talent_factory.core.events import SilentReporter
from talent_factory.foundry import merging
from talent_factory.foundry.blend import Mix
from talent_factory.foundry.discover import Ingredient, Kit
from talent_factory.foundry.merging import add_product, mixed
from talent_factory.foundry.render import RenderOrder, Shot, render
from talent_factory.training.families.port import Base
from talent_factory.training.lora import target_layers

ATTENTION = "lora_unet_mid_block_attentions_0_proj_in"
ROOM = {"none": 0, "plenty": 1 << 40}


@pytest.fixture
def trio(identity: Kit, style: Kit) -> tuple[Ingredient, ...]:
    """Three that take turns, the last of them the first kit at another weight."""
    uses = ((identity, 0.9), (style, 0.333), (identity, -0.5))
    return tuple(Ingredient(kit=kit, weight=weight) for kit, weight in uses)


def give_memory(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(merging, "free_memory", lambda device: free)


def unet_bits(base: Base) -> list[Tensor]:
    return [p.detach().clone() for p in base.unet.parameters()]


def unet_is(base: Base, wanted: list[Tensor]) -> bool:
    return all(torch.equal(old, new) for old, new in zip(wanted, base.unet.parameters(), strict=True))


def unet_bytes(base: Base) -> int:
    """Of the layers that kits adapt."""
    return sum(layer.weight.nbytes for _, layer in target_layers(base.unet, name=base.lora_name))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((640, 1300), torch.contiguous_format),
        ((1280, 1280, 1, 1), torch.channels_last),
        ((320, 640, 3, 3), torch.channels_last),
        ((320, 640, 3, 3), torch.contiguous_format),
    ],
)
def test_a_sum_made_in_pieces_is_that_made_at_once(
    shape: tuple[int, ...], layout: torch.memory_format, dtype: torch.dtype
) -> None:
    torch.manual_seed(1)
    own = torch.randn(shape).mul(0.05).to(dtype).contiguous(memory_format=layout)
    up, down = torch.randn(shape[0], 12) * 0.1, torch.randn(12, own[0].numel()) * 0.1
    before, out = own.clone(), torch.empty_like(own)
    add_product(own, up, down, out=out)
    assert torch.equal(out, (own + (up @ down).view(shape)).to(dtype))
    assert out.stride() == own.stride()
    assert torch.equal(own, before)


def test_a_sum_can_be_made_for_any_layout() -> None:
    own = torch.randn(6, 4).T
    up, down, out = torch.randn(4, 2), torch.randn(2, 6), torch.empty_like(own)
    add_product(own, up, down, out=out)
    assert torch.equal(out, own + up @ down)


def test_nothing_is_written_when_nothing_changes(base: Base, trio: tuple[Ingredient, ...]) -> None:
    late = trio[1].model_copy(update={"begin": 0.5})
    parameter = dict(target_layers(base.unet, name=base.lora_name))[ATTENTION].weight
    for mix, wanted in ((Mix(ingredients=trio[:2]), 0), (Mix(ingredients=(trio[0], late)), 2)):
        with mixed(base, mix) as mixture:
            changes = 0
            for index in (*range(4), 0):
                before = parameter.data_ptr(), parameter._version
                mixture.before_step(index, 4)
                changes += (parameter.data_ptr(), parameter._version) != before
            assert changes == wanted


@pytest.mark.parametrize("room", [*ROOM, "two"])
@pytest.mark.parametrize("count", [2, 3])
def test_kits_take_turns(
    base: Base, trio: tuple[Ingredient, ...], room: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, alone = unet_bits(base), []
    for use in trio[:count]:
        with mixed(base, Mix(ingredients=(use,))):
            alone.append(unet_bits(base))
    given = iter([1 << 40, *[0] * 20])
    monkeypatch.setattr(merging, "free_memory", lambda device: next(given) if room == "two" else ROOM[room])
    with mixed(base, Mix(ingredients=trio[:count], switch=True)) as mixture:
        for index in range(8):
            mixture.before_step(index, 8)
            assert unet_is(base, alone[index % count])
    assert unet_is(base, own)


def test_weights_are_kept_while_half_of_what_is_free_is_enough(
    base: Base, trio: tuple[Ingredient, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = dict(target_layers(base.unet, name=base.lora_name))[ATTENTION].weight
    for free, places in ((2 * unet_bytes(base), 2), (2 * unet_bytes(base) - 1, 1)):
        give_memory(monkeypatch, free)
        with mixed(base, Mix(ingredients=trio[:2], switch=True)) as mixture:
            seen, version = set(), weight._version
            for index in range(6):
                mixture.before_step(index, 6)
                seen.add(weight.data_ptr())
            assert len(seen) == places
            # a set that is kept is never written again
            assert (weight._version == version) == (places == 2)


def test_the_base_keeps_its_own_weights_in_their_place(base: Base, trio: tuple[Ingredient, ...]) -> None:
    before = [(p.data_ptr(), p._version) for _, module in base.modules() for p in module.parameters()]
    with mixed(base, Mix(ingredients=trio, switch=True)) as mixture:
        mixture.before_step(1, 4)
    assert before == [(p.data_ptr(), p._version) for _, module in base.modules() for p in module.parameters()]


def test_a_render_has_the_same_bytes_whatever_is_kept(
    base: Base, trio: tuple[Ingredient, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shots = tuple(Shot(prompt="ink portrait", seed=seed) for seed in range(3))
    order = RenderOrder(shots=shots, steps=5, batch=2)
    mix = Mix(ingredients=trio, switch=True)
    files = []
    for room, free in ROOM.items():
        give_memory(monkeypatch, free)
        paths = render(base, order, mix=mix, out=tmp_path / room, reporter=SilentReporter())
        files.append([path.read_bytes() for path in paths])
    assert files[0] == files[1]
    still = render(base, order, mix=Mix(ingredients=trio), out=tmp_path / "sum", reporter=SilentReporter())
    assert still[0].read_bytes() != files[0][0]
