"""The folder of a trained actor: written, found, read back bit for bit, and refused when it is damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from talent_factory.core.errors import FileError
from talent_factory.lipsync.actor import CARD, WEIGHTS, ActorCard, find_actor, load_actor, save_actor

CARD_WORDS: dict[str, Any] = {
    "image_size": 32, "codec": "dct8", "codec_id": "dct8", "extractor": "mel", "extractor_id": "mel-1",
    "audio_left": 1, "audio_right": 1, "mask": {"kind": "half"}, "preset": "test", "step": 7,
}  # fmt: skip


def small_unet(seed: int = 0) -> Any:
    from diffusers import UNet2DConditionModel

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return UNet2DConditionModel(
            sample_size=4, in_channels=8, out_channels=4, block_out_channels=(8, 16), layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=384, attention_head_dim=2, norm_num_groups=4,
        )  # fmt: skip


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    unet = small_unet()
    card = save_actor(tmp_path, unet, ActorCard(**CARD_WORDS))
    actor = load_actor(tmp_path)
    assert actor.card == card
    assert len(card.unet_sha256) == 64
    for (name, mine), (same, theirs) in zip(
        unet.state_dict().items(), actor.unet.state_dict().items(), strict=True
    ):
        assert name == same
        assert torch.equal(mine, theirs)
    assert not any(weight.requires_grad for weight in actor.unet.parameters())
    sample, tokens = torch.ones(1, 8, 4, 4), torch.ones(1, 6, 384)
    unet.eval()
    with torch.no_grad():
        assert torch.equal(
            unet(sample, torch.tensor([0]), tokens).sample,
            actor.unet(sample, torch.tensor([0]), tokens).sample,
        )


def test_diffusers_reads_the_network_too(tmp_path: Path) -> None:
    from diffusers import UNet2DConditionModel

    save_actor(tmp_path, small_unet(), ActorCard(**CARD_WORDS))
    unet = UNet2DConditionModel.from_pretrained(tmp_path / "unet", use_safetensors=True)
    assert unet.config.cross_attention_dim == 384


def test_an_average_is_saved_in_place_of_the_weights(tmp_path: Path) -> None:
    unet, average = small_unet(0), small_unet(1).state_dict()
    save_actor(tmp_path, unet, ActorCard(**CARD_WORDS), state=average)
    read = load_actor(tmp_path).unet.state_dict()
    assert all(torch.equal(read[name], average[name]) for name in average)


def test_the_actor_of_a_run_is_the_one_that_latest_names_else_the_newest(tmp_path: Path) -> None:
    for step in (2, 10):
        words = {**CARD_WORDS, "step": step}
        save_actor(tmp_path / f"checkpoint-{step}", small_unet(), ActorCard(**words))
    assert find_actor(tmp_path).name == "checkpoint-10"
    (tmp_path / "latest").write_text("checkpoint-2\n")
    assert load_actor(tmp_path).card.step == 2
    (tmp_path / "latest").write_text("../elsewhere")
    assert find_actor(tmp_path).name == "checkpoint-10"


def test_a_folder_without_an_actor_says_what_to_name(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"no lipsync\.json") as caught:
        load_actor(tmp_path)
    assert "output_dir" in caught.value.remedy


@pytest.mark.parametrize("harm", ["cut", "other", "gone", "config"])
def test_damage_is_refused_by_name(tmp_path: Path, harm: str) -> None:
    save_actor(tmp_path, small_unet(), ActorCard(**CARD_WORDS))
    weights = tmp_path / "unet" / WEIGHTS
    if harm == "cut":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif harm == "other":
        save_actor(tmp_path / "x", small_unet(1), ActorCard(**CARD_WORDS))
        weights.write_bytes((tmp_path / "x" / "unet" / WEIGHTS).read_bytes())
    elif harm == "gone":
        weights.unlink()
    else:
        config = json.loads((tmp_path / "unet" / "config.json").read_text())
        (tmp_path / "unet" / "config.json").write_text(json.dumps({**config, "block_out_channels": [16, 16]}))
    with pytest.raises(FileError, match="unet"):
        load_actor(tmp_path)


def test_a_card_with_an_unknown_field_is_refused(tmp_path: Path) -> None:
    save_actor(tmp_path, small_unet(), ActorCard(**CARD_WORDS))
    document = json.loads((tmp_path / CARD).read_text())
    (tmp_path / CARD).write_text(json.dumps({**document, "audio_middle": 1}))
    with pytest.raises(FileError, match="audio_middle"):
        load_actor(tmp_path)
