"""The FLOP table holds against torch's own counter, autograd's own bookkeeping and the models' own sizes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from talent_factory.core.errors import BaseError
from talent_factory.training.arithmetic import BASE_ALONE, Adaption
from talent_factory.training.lora.names import target_paths
from talent_factory.training.options import Targets
from talent_factory.training.shapes import BaseShape, base_shape

SD15 = base_shape("somewhere", "1.5")
SDXL = base_shape("somewhere", "xl")
MINI = base_shape("mini", "1.5")


def _unet(shape: BaseShape) -> nn.Module:
    from diffusers import UNet2DConditionModel

    config = {key: value for key, value in shape.unet.items() if not key.startswith("_")}
    if shape is SDXL:
        config["addition_time_embed_dim"] = 256
    model: nn.Module = UNet2DConditionModel(**config)
    return model.requires_grad_(False)


class _Adapted(nn.Module):
    """A plain low-rank addition, written here so that the table is held against something independent."""

    def __init__(self, target: Any, rank: int) -> None:
        super().__init__()
        self.target = target
        if isinstance(target, nn.Conv2d):
            self.down: nn.Module = nn.Conv2d(
                target.in_channels, rank, target.kernel_size, target.stride, target.padding, bias=False
            )
            self.up: nn.Module = nn.Conv2d(rank, target.out_channels, 1, bias=False)
        else:
            self.down = nn.Linear(target.in_features, rank, bias=False)
            self.up = nn.Linear(rank, target.out_features, bias=False)

    def forward(self, x: Tensor, *_: object) -> Tensor:
        result: Tensor = self.target(x) + self.up(self.down(x)) * 0.5
        return result


def _adapt(unet: nn.Module, targets: Targets, rank: int) -> int:
    added = 0
    for path, layer in target_paths(unet, targets):
        parent, _, name = path.rpartition(".")
        adapted = _Adapted(layer, rank)
        setattr(unet.get_submodule(parent), name, adapted)
        added += sum(weight.numel() for weight in adapted.parameters() if weight.requires_grad)
    return added


def _predict(unet: Any, shape: BaseShape, side: int) -> Tensor:
    extra = {}
    if shape is SDXL:
        extra = {"added_cond_kwargs": {"text_embeds": torch.empty(1, 1280), "time_ids": torch.empty(1, 6)}}
    context = torch.empty(1, shape.words, shape.unet["cross_attention_dim"])
    answer: Tensor = unet(torch.empty(1, 4, side, side), torch.empty(1), context, **extra).sample
    return answer


def _counted(shape: BaseShape, side: int, targets: Targets, *, again: bool = False) -> tuple[int, int, int]:
    """Weights added, FLOP forward, FLOP of forward and backward, as torch counts them on the meta device."""
    with torch.device("meta"):
        unet = _unet(shape)
        added = _adapt(unet, targets, 16)
        if again:
            unet.enable_gradient_checkpointing()  # type: ignore[operator]
            unet.train()
        with FlopCounterMode(display=False) as counter:
            answer = _predict(unet, shape, side)
            forward = counter.get_total_flops()
            answer.sum().backward()
    return added, forward, counter.get_total_flops()


def _kept(shape: BaseShape, side: int, targets: Targets, *, again: bool = False) -> int:
    """Numbers that autograd keeps for the backward pass, each storage once, weights left out."""
    sizes: dict[int, int] = {}
    with FakeTensorMode():
        unet = _unet(shape)
        _adapt(unet, targets, 16)
        if again:
            unet.enable_gradient_checkpointing()  # type: ignore[operator]
            unet.train()
        weights = {weight.untyped_storage()._cdata for weight in unet.parameters()}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in weights:
                sizes[storage._cdata] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            alive = _predict(unet, shape, side)
        del alive
    return sum(sizes.values()) // 4


@pytest.mark.parametrize(
    ("pixels", "adaption", "forward", "total"),
    [
        (512, BASE_ALONE, 0.803, None),
        (640, BASE_ALONE, 1.361, None),
        (768, BASE_ALONE, 2.148, None),
        (512, Adaption("transformer", 16), 0.815, 1.747),
        (640, Adaption("transformer", 16), None, 3.051),
        (768, Adaption("transformer", 16), None, 4.960),
        (512, Adaption("attention", 16), None, 1.725),
        (512, Adaption("transformer", 128), None, 1.982),
    ],
)
def test_the_known_table_of_sd15(
    pixels: int, adaption: Adaption, forward: float | None, total: float | None
) -> None:
    work = SD15.unet_work(height=pixels, width=pixels, adaption=adaption)
    if forward is not None:
        assert work.forward / 1e12 == pytest.approx(forward, abs=6e-4)
    if total is not None:
        assert (work.forward + work.backward) / 1e12 == pytest.approx(total, abs=6e-4)


def test_sizes_are_those_of_the_true_models() -> None:
    from diffusers import AutoencoderKL
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    def count(model: nn.Module) -> int:
        return sum(weight.numel() for weight in model.parameters())

    with torch.device("meta"):
        assert SD15.unet_work(height=512, width=512).parameters == count(_unet(SD15)) == 859_520_964
        assert SDXL.unet_work(height=1024, width=1024).parameters == count(_unet(SDXL))
        small, large = SDXL.texts
        names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
        texts = (
            CLIPTextModel(CLIPTextConfig(**{name: small[name] for name in names})),
            CLIPTextModelWithProjection(
                CLIPTextConfig(**{name: large[name] for name in names}, projection_dim=1280)
            ),
        )
        assert tuple(work.parameters for work in SDXL.text_work()) == tuple(count(text) for text in texts)
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
        )
        assert SD15.picture_work(height=512, width=512).parameters == count(vae)
    # 64 % of a training step: what caching the latents saves
    assert SD15.picture_work(height=512, width=512).encode / 1e12 == pytest.approx(1.117, abs=6e-4)


@pytest.mark.parametrize("targets", ["attention", "transformer", "transformer+conv"])
def test_the_embedded_base_as_torch_counts_it(targets: Targets) -> None:
    work = MINI.unet_work(height=128, width=128, adaption=Adaption(targets, 16))
    added, forward, total = _counted(MINI, 16, targets)
    assert work.network_parameters == added
    assert work.forward == pytest.approx(forward, rel=1e-9)
    assert work.forward + work.backward == pytest.approx(total, rel=1e-3)
    assert work.kept == pytest.approx(_kept(MINI, 16, targets), rel=0.02)


def test_a_step_of_sd15_as_torch_counts_it() -> None:
    work = SD15.unet_work(height=256, width=256, adaption=Adaption("transformer+conv", 16))
    added, forward, total = _counted(SD15, 32, "transformer+conv")
    assert work.network_parameters == added
    assert work.forward == pytest.approx(forward, rel=1e-9)
    assert work.forward + work.backward == pytest.approx(total, rel=1e-3)
    assert work.kept == pytest.approx(_kept(SD15, 32, "transformer+conv"), rel=0.01)


def test_checkpointing_keeps_less_and_computes_more() -> None:
    work = SD15.unet_work(height=256, width=256, adaption=Adaption())
    kept = _kept(SD15, 32, "transformer", again=True)
    inside = max(segment.inside for segment in work.segments)
    assert work.kept_checkpointed - inside == pytest.approx(kept, rel=0.05)
    total = _counted(SD15, 32, "transformer", again=True)[2]
    # torch leaves out what follows the last number that a segment keeps, so it computes a little less again
    assert 0.95 * (work.forward + work.backward + work.recomputed) <= total
    assert total <= work.forward + work.backward + work.recomputed


@pytest.mark.slow
def test_a_step_of_sdxl_as_torch_counts_it() -> None:
    work = SDXL.unet_work(height=512, width=512, adaption=Adaption())
    added, forward, total = _counted(SDXL, 64, "transformer")
    assert work.network_parameters == added
    assert work.forward == pytest.approx(forward, rel=1e-9)
    assert work.forward + work.backward == pytest.approx(total, rel=1e-3)
    assert work.kept == pytest.approx(_kept(SDXL, 64, "transformer"), rel=0.01)


def test_plain_attention_keeps_its_scores() -> None:
    plain = SD15.unet_work(height=512, width=512, adaption=Adaption(), plain=True)
    fused = SD15.unet_work(height=512, width=512, adaption=Adaption())
    # the first level alone: 8 heads x 4096 x 4096 in five blocks
    assert plain.kept - fused.kept > 5 * 8 * 4096 * 4095
    assert plain.forward == fused.forward


def test_a_folder_states_its_own_shape(tmp_path: Any) -> None:
    from talent_factory.training.families.random_base import make_random_base

    folder = make_random_base(tmp_path / "base")
    shape = base_shape(str(folder), "1.5")
    assert shape.unet["block_out_channels"] == [32, 64]
    assert shape.words == 16
    (folder / "unet" / "config.json").write_text('{"block_out_channels": [32]}')
    with pytest.raises(BaseError, match="unknown shape"):
        base_shape(str(folder), "1.5")
