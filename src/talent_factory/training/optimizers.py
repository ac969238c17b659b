"""Who moves the weights: the optimisers of the config, each made so that its state can be kept and restored.

All of them get flat float32 tensors, one a group, so a step is a handful of kernels whatever the number of
layers. Three come from kept libraries (the `optimizers` extra) and are imported only when they are asked for.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor

from talent_factory.core.errors import ConfigError, UsageError
from talent_factory.training.options import OptimizerKeys, OptimizerName

Group = Mapping[str, Any]

_FUSED = ("cpu", "cuda")


def make_optimizer(
    groups: Iterable[Group], keys: OptimizerKeys, *, device: torch.device
) -> torch.optim.Optimizer:
    """The optimiser that `keys` names over `groups`, each with "params" (flat float32 tensors) and "lr".

    On CUDA, adamw may be captured in a graph: its rates are then 0-dim tensors on the device, to be filled in
    place (`set_rate`). Raises UsageError when its library is not installed and ConfigError when it cannot do
    what is asked.
    """
    own = [dict(group) for group in groups]
    if keys.name == "adamw":
        return _adamw(own, keys, device)
    if keys.name == "adamw8bit":
        return _adamw8bit(own, keys, device)
    if keys.name == "prodigy":
        return _prodigy(own, keys)
    return _schedule_free(own, keys)


def try_optimizer(keys: OptimizerKeys, *, device: torch.device) -> None:
    """Raise as `make_optimizer` would, before a base is loaded for it."""
    make_optimizer(
        [{"params": [torch.zeros(1, device=device, requires_grad=True)], "lr": 1e-4}], keys, device=device
    )


def capturable(name: OptimizerName, device: torch.device) -> bool:
    """Whether a step of this optimiser may be part of a CUDA graph: the others count on the host."""
    return name == "adamw" and device.type == "cuda"


def keeps_own_schedule(name: OptimizerName) -> bool:
    """Whether the learning rate must stay at its peak after the warm-up, since the optimiser averages."""
    return name == "adamw-schedulefree"


def set_rate(optimizer: torch.optim.Optimizer, rates: Iterable[float]) -> None:
    """Give each group its learning rate for the next step, in place where a captured graph reads it."""
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


@contextmanager
def evaluation_mode(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Inside, the parameters are those to ship, draw with and measure; afterwards as before, bit by bit.

    Only schedule-free distinguishes the two. Its own way back computes the weights and would leave other
    rounding errors, so that looking at a run would change it; hence they are put back from a copy.
    """
    if "train_mode" not in optimizer.param_groups[0]:
        yield
        return
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    kept = [parameter.detach().clone() for parameter in parameters]
    cast(Any, optimizer).eval()
    try:
        yield
    finally:
        cast(Any, optimizer).train()
        with torch.no_grad():
            for parameter, value in zip(parameters, kept, strict=True):
                parameter.copy_(value)


def _adamw(groups: list[dict[str, Any]], keys: OptimizerKeys, device: torch.device) -> torch.optim.AdamW:
    captured = capturable(keys.name, device)
    if captured:
        for group in groups:
            group["lr"] = torch.tensor(group["lr"], dtype=torch.float32, device=device)
    return torch.optim.AdamW(
        groups,
        betas=(keys.beta1, keys.beta2),
        eps=keys.epsilon,
        weight_decay=keys.weight_decay,
        fused=device.type in _FUSED,
        capturable=captured,
    )


def _adamw8bit(
    groups: list[dict[str, Any]], keys: OptimizerKeys, device: torch.device
) -> torch.optim.Optimizer:
    if device.type not in _FUSED:
        raise ConfigError(
            f"optimizer.name adamw8bit has no kernels for {device.type}", remedy="write optimizer.name: adamw"
        )
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError:
        raise _missing(keys.name, "bitsandbytes") from None
    made = AdamW8bit(groups, betas=(keys.beta1, keys.beta2), eps=keys.epsilon, weight_decay=keys.weight_decay)
    return cast(torch.optim.Optimizer, made)


def _prodigy(groups: list[dict[str, Any]], keys: OptimizerKeys) -> torch.optim.Optimizer:
    try:
        from prodigyopt import Prodigy
    except ImportError:
        raise _missing(keys.name, "prodigyopt") from None
    if len({float(group["lr"]) for group in groups}) > 1:
        raise ConfigError(
            "prodigy estimates one rate for all layers, but they were given different ones",
            remedy="write text_encoder_lr equal to learning_rate and optimizer.lora_plus: 1",
        )
    for group in groups:
        group["weight_decay"] = keys.weight_decay  # here, since given to the constructor it prints a line
    made = Prodigy(
        groups,
        lr=1.0,
        betas=(keys.beta1, keys.beta2),
        eps=keys.epsilon,
        # the recommendations of its authors for diffusion models: without them the rate starts far too high
        use_bias_correction=True,
        safeguard_warmup=True,
        # no limit, written as a number that JSON can hold
        growth_rate=sys.float_info.max,
    )
    return cast(torch.optim.Optimizer, made)


def _schedule_free(groups: list[dict[str, Any]], keys: OptimizerKeys) -> torch.optim.Optimizer:
    try:
        from schedulefree import AdamWScheduleFree
    except ImportError:
        raise _missing(keys.name, "schedulefree") from None
    made = AdamWScheduleFree(
        groups, betas=(keys.beta1, keys.beta2), eps=keys.epsilon, weight_decay=keys.weight_decay
    )
    made.train()
    return cast(torch.optim.Optimizer, made)


def _missing(name: str, library: str) -> UsageError:
    return UsageError(
        f"optimizer.name {name} needs {library}, which is not installed",
        remedy="pip install 'talent-factory[optimizers]', or write optimizer.name: adamw",
    )
