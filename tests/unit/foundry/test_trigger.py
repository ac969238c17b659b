"""A kit's word is tried with the kit itself, and the base comes back as it was."""

from __future__ import annotations

from pathlib import Path

import torch

from talent_factory.foundry.discover import Ingredient, Kit
from talent_factory.foundry.trigger import kit_trigger
from talent_factory.training.families.port import Base

PROMPTS = ("a robot", "portrait of dot_test robot", "dot_test, ink", "dot_test again")


def test_the_kits_word_is_taken_out(base: Base, identity: Kit) -> None:
    before = [p.detach().clone() for _, module in base.modules() for p in module.parameters()]
    found = kit_trigger(base, Ingredient(kit=identity, weight=1.0), prompts=PROMPTS, seed=1, steps=2)
    assert found is not None
    assert (found.token, found.pictures) == ("dot_test", 2)
    assert found.called > 0
    after = [p for _, module in base.modules() for p in module.parameters()]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_kits_and_prompts_without_a_word_have_nothing_to_try(
    base: Base, identity: Kit, style: Kit, tmp_path: Path
) -> None:
    assert kit_trigger(base, Ingredient(kit=style, weight=1.0), prompts=PROMPTS, seed=1, steps=2) is None
    use = Ingredient(kit=identity, weight=1.0)
    assert kit_trigger(base, use, prompts=["a robot"], seed=1, steps=2) is None
