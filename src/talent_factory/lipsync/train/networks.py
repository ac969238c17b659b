"""The networks of a run, made or read, with their optimizers, ready for one process or several."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from talent_factory.core.errors import FileError
from talent_factory.lipsync.actor import TEMPORAL, UNET, WEIGHTS
from talent_factory.lipsync.config import LipsyncConfig
from talent_factory.lipsync.models.discriminator import PatchDiscriminator
from talent_factory.lipsync.models.narrow import quicken
from talent_factory.lipsync.models.temporal import TemporalUNet
from talent_factory.lipsync.models.unet import begin_at_reference, build_unet, read_unet_config
from talent_factory.lipsync.ports import Codec
from talent_factory.lipsync.train.players import JUDGE, PAINTER, Player, load_weights, make_optimizer

if TYPE_CHECKING:
    from accelerate import Accelerator


def make_players(
    config: LipsyncConfig, codec: Codec, accelerator: Accelerator, *, peak: float
) -> tuple[Player, ...]:
    """The painter, and the judge when there is a GAN; weights come from torch's generator."""
    unet: Any = build_unet(
        read_unet_config(config.model.unet_config_file), codec, feed_mask=config.model.feed_mask
    )
    if config.model.residual:
        begin_at_reference(unet)
    if config.train.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    narrow = accelerator.device.type == "cpu" and accelerator.mixed_precision == "bf16"
    copies = quicken(unet) if narrow else None
    painter: nn.Module = TemporalUNet(unet) if config.model.temporal else unet
    players = [_player(PAINTER, painter, config, accelerator, peak=peak)]
    if copies is not None:
        copies.follow(players[0].optimizer)
    if config.train.gan_loss:
        judge = PatchDiscriminator()
        players.append(_player(JUDGE, judge, config, accelerator, peak=config.train.gan_learning_rate))
    return tuple(players)


def weights_file(source: Path) -> Path:
    """The UNet's weights in a checkpoint folder, in its `unet` folder, or `source` itself.

    Raises FileError when it holds none.
    """
    path = next(
        (found for found in (source / UNET / WEIGHTS, source / WEIGHTS, source) if found.is_file()), None
    )
    if path is None:
        raise FileError(
            f"resume_from_checkpoint {source} holds neither a state nor UNet weights",
            remedy="name a checkpoint folder, a folder with diffusion_pytorch_model.safetensors, or latest",
        )
    return path


def starting_weights(painter: Player, path: Path) -> None:
    """Begin from the weights in the file of a checkpoint or of a bare diffusers UNet; all else begins anew.

    Raises FileError when it cannot be read, ResumeRefused when the weights are of another network.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise FileError(
            f"{path} is no safetensors file that can be read: {error}", remedy="take another one"
        ) from None
    network = painter.bare
    if isinstance(network, TemporalUNet):
        load_weights(network.unet, weights, what=str(path))
        if (path.parent.parent / TEMPORAL).is_file():
            network.load_temporal(load_file(path.parent.parent / TEMPORAL))
        return
    load_weights(network, weights, what=str(path))


def _player(
    name: str, network: nn.Module, config: LipsyncConfig, accelerator: Accelerator, *, peak: float
) -> Player:
    device = accelerator.device
    network.to(device)
    if device.type == "cuda":
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.train()
    network.requires_grad_(True)
    if name == PAINTER and config.train.trainable == "temporal" and isinstance(network, TemporalUNet):
        network.requires_grad_(False)
        for parameter in network.second_stage():
            parameter.requires_grad_(True)
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    called: nn.Module = accelerator.prepare_model(network)
    optimizer = make_optimizer(parameters, config.optimizer, peak=peak, device=device)
    temporal = isinstance(network, TemporalUNet)
    return Player(name, network, called, optimizer, parameters, peak, temporal)
