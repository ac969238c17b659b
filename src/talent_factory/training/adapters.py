"""The trained part of a run: a low-rank network for the UNet and, when asked, one for each text encoder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Protocol

from torch import Tensor

from talent_factory.training.config import TrainConfig
from talent_factory.training.families.port import Base
from talent_factory.training.flat import FlatParameters
from talent_factory.training.lora import UNET_PREFIX, LoraNetwork, attach


class Adapters:
    """The networks of a run in a fixed order, with all their numbers in flat vectors."""

    def __init__(self, networks: list[LoraNetwork], flat: FlatParameters) -> None:
        self.networks = networks
        self.flat = flat

    def state(self) -> dict[str, Tensor]:
        """All tensors in kohya form, float32."""
        return {name: tensor for network in self.networks for name, tensor in network.state().items()}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the weights from `state()`; other names are ignored."""
        for network in self.networks:
            network.load_state(tensors)
        self.flat.refresh()

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """The base as it is."""
        with ExitStack() as stack:
            for network in self.networks:
                stack.enter_context(network.disabled())
            yield

    def detach(self) -> None:
        """Give all layers of the base their own forward back."""
        for network in self.networks:
            network.detach()


def attach_adapters(base: Base, config: TrainConfig) -> Adapters:
    """Put fresh networks into `base` as the config says."""
    plan = [(base.unet, UNET_PREFIX, config.learning_rate)]
    if config.train_text_encoder:
        plan += [(module, prefix, config.text_rate) for prefix, module in base.text_encoders]
    networks = [
        attach(
            module,
            prefix=prefix,
            rank=config.lora_rank,
            alpha=config.alpha,
            targets=config.targets,
            seed=config.seed,
            name=base.lora_name,
            shape=config.network,
        )
        for module, prefix, _ in plan
    ]
    rates = [rate for _, _, rate in plan]
    flat = FlatParameters(
        list(zip(networks, rates, strict=True)), lora_plus=config.optimizer.lora_plus, compute=base.dtype
    )
    return Adapters(networks, flat)


class Scalable(Protocol):
    """A network whose whole addition is multiplied by `scale`: 1 as trained, 0 the base."""

    scale: float


def strength_of(networks: Sequence[Scalable]) -> Callable[[float], AbstractContextManager[None]]:
    """The strength of attached networks as a context that puts back what was set before."""

    @contextmanager
    def at(strength: float) -> Iterator[None]:
        before = [network.scale for network in networks]
        for network in networks:
            network.scale = strength
        try:
            yield
        finally:
            for network, scale in zip(networks, before, strict=True):
                network.scale = scale

    return at
