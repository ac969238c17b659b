"""Low-rank adapters in the form that kohya made the common one: names, shapes, alpha and initial values.

Source: Hu et al. 2021 (arXiv:2106.09685); kohya-ss/sd-scripts networks/lora.py for names and convolutions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from talent_factory.core.errors import KitError
from talent_factory.core.seeds import derive_seed
from talent_factory.training.config import Targets

UNET_PREFIX = "lora_unet"
TEXT_PREFIX = "lora_te"

# By path, because diffusers' paths are what the names are made of. Text encoder layers match all three.
_TEXT = r"(?:^|\.)encoder\.layers\.\d+\.(?:self_attn\.(?:q|k|v|out)_proj|mlp\.fc[12])$"
_ATTENTION = r"(?:^|\.)attentions\.\d+\..*\.attn[12]\.to_(?:q|k|v|out\.0)$"
_TRANSFORMER = rf"{_ATTENTION}|(?:^|\.)attentions\.\d+\.(?:proj_in|proj_out|.*\.ff\.net\.\d+(?:\.proj)?)$"
_CONV = r"(?:^|\.)(?:resnets|downsamplers|upsamplers)\.\d+\.(?:conv\d?|conv_shortcut|time_emb_proj)$"
_PATTERNS: Mapping[Targets, re.Pattern[str]] = {
    "attention": re.compile(f"{_TEXT}|{_ATTENTION}"),
    "transformer": re.compile(f"{_TEXT}|{_TRANSFORMER}"),
    "transformer+conv": re.compile(f"{_TEXT}|{_TRANSFORMER}|{_CONV}"),
}


class LoraLayer(nn.Module):
    """The low-rank addition of one Linear or Conv2d: down to `rank`, up to the output, in float32."""

    def __init__(self, target: nn.Linear | nn.Conv2d, *, rank: int, seed: int) -> None:
        super().__init__()
        self.rank = rank
        self._conv = (
            (target.stride, target.padding, target.dilation) if isinstance(target, nn.Conv2d) else None
        )
        if isinstance(target, nn.Conv2d):
            down_shape: tuple[int, ...] = (rank, target.in_channels, *target.kernel_size)
            up_shape: tuple[int, ...] = (target.out_channels, rank, 1, 1)
        else:
            down_shape, up_shape = (rank, target.in_features), (target.out_features, rank)
        down = torch.empty(down_shape)
        # a = sqrt(5) as in kohya: uniform within 1 / sqrt(fan in). Up starts at zero, so step 0 is the base.
        nn.init.kaiming_uniform_(down, a=math.sqrt(5), generator=torch.Generator().manual_seed(seed))
        device = target.weight.device
        self.down = nn.Parameter(down.to(device))
        self.up = nn.Parameter(torch.zeros(up_shape, device=device))

    def forward(self, x: Tensor) -> Tensor:
        """`up(down(x))` in the precision of `x`, without the scale."""
        down, up = self.down.to(x.dtype), self.up.to(x.dtype)
        if self._conv is None:
            return F.linear(F.linear(x, down), up)
        stride, padding, dilation = self._conv
        return F.conv2d(F.conv2d(x, down, None, stride, padding, dilation), up)


class LoraNetwork(nn.Module):
    """All low-rank layers of one model, hooked into its forward; the model itself is not copied."""

    def __init__(self, *, rank: int, alpha: float) -> None:
        super().__init__()
        self.rank = rank
        self.alpha = alpha
        self.scale = 1.0
        """Strength of the whole network on top of alpha / rank; 0 is the base."""
        self.layers = nn.ModuleDict()
        self._handles: list[RemovableHandle] = []

    def add(self, name: str, target: nn.Linear | nn.Conv2d, *, seed: int) -> None:
        """Hook one more layer; its initial value depends on `seed` and its name only, not on the order."""
        layer = LoraLayer(target, rank=self.rank, seed=derive_seed(seed, "lora", name))
        self.layers[name] = layer

        def add_low_rank(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            strength = self.scale * self.alpha / self.rank
            if strength == 0.0:
                return output
            return output + layer(inputs[0]) * strength  # type: ignore[no-any-return]

        self._handles.append(target.register_forward_hook(add_low_rank))

    def state(self) -> dict[str, Tensor]:
        """The tensors of a kohya file, float32 on the CPU: down, up and alpha of each layer."""
        tensors: dict[str, Tensor] = {}
        for name, layer in self._named():
            tensors[f"{name}.lora_down.weight"] = layer.down.detach().clone().cpu()
            tensors[f"{name}.lora_up.weight"] = layer.up.detach().clone().cpu()
            tensors[f"{name}.alpha"] = torch.tensor(float(self.alpha))
        return tensors

    @torch.no_grad()
    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the weights from a kohya file; raises KitError when a layer is missing or misshapen."""
        for name, layer in self._named():
            for part, parameter in (("lora_down", layer.down), ("lora_up", layer.up)):
                key = f"{name}.{part}.weight"
                found = tensors.get(key)
                if found is None or found.shape != parameter.shape:
                    shape = None if found is None else tuple(found.shape)
                    raise KitError(f"LoRA tensor {key}: expected {tuple(parameter.shape)}, found {shape}")
                parameter.copy_(found)

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """The base as it is without this network."""
        before, self.scale = self.scale, 0.0
        try:
            yield
        finally:
            self.scale = before

    def detach(self) -> None:
        """Take all hooks off; the weights stay readable."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _named(self) -> Iterator[tuple[str, LoraLayer]]:
        for name, layer in self.layers.items():
            assert isinstance(layer, LoraLayer)
            yield name, layer


def attach(
    module: nn.Module,
    *,
    prefix: str = UNET_PREFIX,
    rank: int,
    alpha: float | None = None,
    targets: Targets = "transformer",
    seed: int = 0,
) -> LoraNetwork:
    """Adapt a UNet or text encoder: freeze it and add a network whose output is zero until it is trained.

    "attention" adapts q, k, v and out; "transformer" also the feed-forward and the projections (what kohya
    adapts by default); "transformer+conv" also the convolutions and time embeddings of the residual blocks.
    `alpha` None means `rank`. Raises ValueError when nothing in `module` is a target.
    """
    module.requires_grad_(False)
    network = LoraNetwork(rank=rank, alpha=float(rank if alpha is None else alpha))
    for name, target in target_layers(module, prefix=prefix, targets=targets):
        network.add(name, target, seed=seed)
    if not network.layers:
        raise ValueError(f"{type(module).__name__} has no layer that a LoRA of {targets!r} adapts")
    return network


def target_layers(
    module: nn.Module, *, prefix: str = UNET_PREFIX, targets: Targets = "transformer+conv"
) -> list[tuple[str, nn.Linear | nn.Conv2d]]:
    """The layers that `targets` selects, with their kohya names, in the model's order."""
    pattern = _PATTERNS[targets]
    return [
        (kohya_name(path, prefix=prefix), layer)
        for path, layer in module.named_modules()
        if isinstance(layer, nn.Linear | nn.Conv2d) and pattern.search(path)
    ]


def kohya_name(path: str, *, prefix: str) -> str:
    """The flat name of a module path.

    Text encoders keep `text_model_` in it whether or not this version of transformers has that level:
    readers match on it.
    """
    if prefix != UNET_PREFIX:
        path = "text_model." + path.removeprefix("text_model.")
    return f"{prefix}_{path.replace('.', '_')}"


@dataclass
class Merged:
    """What a merge replaced, so that it can be taken back exactly; usable as a context manager."""

    originals: Sequence[tuple[Tensor, Tensor]]

    def __len__(self) -> int:
        return len(self.originals)

    @torch.no_grad()
    def undo(self) -> None:
        """Put the saved weights back bit for bit; several merges are undone in reverse order."""
        for parameter, original in self.originals:
            parameter.copy_(original)
        self.originals = ()

    def __enter__(self) -> Merged:
        return self

    def __exit__(self, *_: object) -> None:
        self.undo()


@torch.no_grad()
def merge_into(
    module: nn.Module, tensors: Mapping[str, Tensor], weight: float = 1.0, *, prefix: str = UNET_PREFIX
) -> Merged:
    """Add `weight * alpha / rank * up @ down` to each layer that `tensors` names under `prefix`.

    The sum is made in float32 and rounded once to the layer's dtype. Raises KitError when a name has no
    layer in `module` or a shape does not fit; then nothing has changed.
    """
    layers = dict(target_layers(module, prefix=prefix))
    names = sorted({key.split(".", 1)[0] for key in tensors if key.startswith(f"{prefix}_")})
    planned: list[tuple[Tensor, Tensor]] = []
    for name in names:
        if name not in layers:
            raise KitError(
                f"the LoRA names {name}, which this base does not have", remedy="choose a kit of this base"
            )
        parameter = layers[name].weight
        change = low_rank_delta(tensors, name).to(parameter.device)
        if change.numel() != parameter.numel() or change.shape[0] != parameter.shape[0]:
            raise KitError(
                f"the LoRA layer {name} gives {tuple(change.shape)}, the base has {tuple(parameter.shape)}",
                remedy="choose a kit of this base",
            )
        planned.append((parameter, parameter.float() + weight * change.view(parameter.shape)))
    originals = [(parameter, parameter.detach().clone()) for parameter, _ in planned]
    for parameter, merged in planned:
        parameter.copy_(merged)
    return Merged(originals)


def low_rank_delta(tensors: Mapping[str, Tensor], name: str) -> Tensor:
    """`alpha / rank * up @ down` of one layer in float32, in the shape (out, in) or (out, in, k, k).

    A missing alpha means alpha = rank, as all readers take it. Raises KitError when up or down is missing.
    """
    try:
        down = tensors[f"{name}.lora_down.weight"].float()
        up = tensors[f"{name}.lora_up.weight"].float()
    except KeyError as error:
        raise KitError(f"the LoRA layer {name} is incomplete: no {error}") from None
    rank = down.shape[0]
    alpha = float(tensors[f"{name}.alpha"]) if f"{name}.alpha" in tensors else float(rank)
    if up.flatten(1).shape[1] != rank:
        raise KitError(f"the LoRA layer {name} has rank {rank} below and {up.flatten(1).shape[1]} above")
    return (alpha / rank * (up.flatten(1) @ down.flatten(1))).view(up.shape[0], *down.shape[1:])
