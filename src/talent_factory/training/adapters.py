"""The trained part of a run: one low-rank network for the UNet and, when asked, one for the text encoder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

from torch import Tensor, nn

from talent_factory.training.config import TrainConfig
from talent_factory.training.families.port import Base
from talent_factory.training.lora import UNET_PREFIX, LoraNetwork, attach

# The share of the UNet's learning rate that a text encoder takes when nothing else is said.
_TEXT_SHARE = 0.1


class Adapters:
    """The networks of a run in a fixed order, with one peak learning rate each."""

    def __init__(self, networks: list[LoraNetwork], rates: list[float]) -> None:
        self.networks = networks
        self.rates = rates

    def parameters(self) -> list[nn.Parameter]:
        """All trained parameters in a fixed order."""
        return [parameter for network in self.networks for parameter in network.parameters()]

    def groups(self) -> list[dict[str, object]]:
        """One parameter group a network, for the optimiser."""
        pairs = zip(self.networks, self.rates, strict=True)
        return [{"params": list(network.parameters()), "lr": rate} for network, rate in pairs]

    def state(self) -> dict[str, Tensor]:
        """All tensors in kohya form, float32."""
        return {name: tensor for network in self.networks for name, tensor in network.state().items()}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the weights from `state()`; other names are ignored."""
        for network in self.networks:
            network.load_state(tensors)

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """The base as it is."""
        with ExitStack() as stack:
            for network in self.networks:
                stack.enter_context(network.disabled())
            yield

    def detach(self) -> None:
        """Take all hooks off the base."""
        for network in self.networks:
            network.detach()


def attach_adapters(base: Base, config: TrainConfig) -> Adapters:
    """Hook fresh networks into `base` as the config says."""
    plan = [(base.unet, UNET_PREFIX, config.learning_rate)]
    if config.train_text_encoder:
        rate = config.text_encoder_lr or config.learning_rate * _TEXT_SHARE
        plan += [(module, prefix, rate) for prefix, module in base.text_encoders]
    networks = [
        attach(
            module,
            prefix=prefix,
            rank=config.lora_rank,
            alpha=config.alpha,
            targets=config.targets,
            seed=config.seed,
        )
        for module, prefix, _ in plan
    ]
    return Adapters(networks, [rate for _, _, rate in plan])
