"""The networks that are trained, each with its optimizer; one today, two with a discriminator."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from talent_factory.core.errors import ResumeRefused
from talent_factory.lipsync.batch import Batch
from talent_factory.lipsync.models.unet import Canvas, predict
from talent_factory.training.checkpoints import flatten_optimizer, restore_optimizer
from talent_factory.training.schedule import learning_rate_factor

if TYPE_CHECKING:
    from talent_factory.lipsync.config import OptimizerConfig

PAINTER, JUDGE = "painter", "judge"
_FUSED = ("cpu", "cuda")


@dataclass(eq=False)
class Player:
    """A network that is trained: `bare` holds its weights, `called` is what a forward pass goes through.

    `peak` is the highest learning rate. `parameters` are those that the optimizer moves.
    """

    name: str
    bare: nn.Module
    called: nn.Module
    optimizer: torch.optim.Optimizer
    parameters: list[nn.Parameter]
    peak: float
    temporal: bool = False
    """Whether a forward pass is told how many frames follow each other."""

    def paint(self, batch: Batch, canvas: Canvas) -> Tensor:
        """The latents that the network makes of a batch on its canvas."""
        return self._through(self.called, batch, canvas)

    def bare_paint(self, batch: Batch, canvas: Canvas) -> Tensor:
        """As `paint`, past what brings several processes together: one of them may do it alone."""
        return self._through(self.bare, batch, canvas)

    def _through(self, network: nn.Module, batch: Batch, canvas: Canvas) -> Tensor:
        call: Any = partial(network, length=batch.length) if self.temporal else network
        return predict(call, batch, canvas=canvas)

    def gradients(self) -> list[Tensor]:
        """The gradients of all trained parameters; zeros where there is none yet."""
        for parameter in self.parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        return [parameter.grad for parameter in self.parameters if parameter.grad is not None]

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Weights and moments by names that share a file with others, and the optimizer's options."""
        tensors, options = flatten_optimizer(self.optimizer)
        named = {f"weights.{key}": value for key, value in self.bare.state_dict().items()} | tensors
        return {f"{self.name}/{key}": value for key, value in named.items()}, dict(options)

    def load_state(self, tensors: Mapping[str, Tensor], options: Mapping[str, Any]) -> None:
        """Put back what `state` gave. Raises ResumeRefused when the network has another shape."""
        own = _below(f"{self.name}/", tensors)
        load_weights(self.bare, _below("weights.", own), what=self.name)
        restore_optimizer(self.optimizer, own, options)

    def set_rate(self, factor: float) -> float:
        """Set the learning rate to a share of its peak; returns it."""
        rate = self.peak * factor
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        return rate


def make_optimizer(
    parameters: Iterable[nn.Parameter], config: OptimizerConfig, *, peak: float, device: torch.device
) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101) in one kernel where the device has it."""
    return torch.optim.AdamW(
        list(parameters),
        lr=peak,
        betas=(config.adam_beta1, config.adam_beta2),
        eps=config.adam_epsilon,
        weight_decay=config.adam_weight_decay,
        fused=device.type in _FUSED,
    )


def rate_factor(step: int, *, total: int, config: OptimizerConfig) -> float:
    """The share of the peak rate in the 0-based optimizer step; a pure function."""
    warmup = 0 if config.lr_scheduler == "constant" else config.lr_warmup_steps
    if config.lr_scheduler == "linear":
        return learning_rate_factor(step, total=total, warmup=warmup, curve="linear")
    if config.lr_scheduler == "cosine":
        return learning_rate_factor(step, total=total, warmup=warmup, curve="cosine")
    return learning_rate_factor(step, total=total, warmup=warmup, curve="constant")


def load_weights(network: nn.Module, weights: Mapping[str, Tensor], *, what: str) -> None:
    """Copy weights into a network. Raises ResumeRefused when names or shapes differ."""
    try:
        network.load_state_dict(dict(weights), strict=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise ResumeRefused(
            f"the weights of {what} do not fit the network that the config describes: {reason}",
            remedy="use the unet_config_file and the codec that they were trained with",
        ) from None


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
