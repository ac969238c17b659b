"""Notice a training that silently does nothing or the wrong thing, without a wait in the loop.

What a step has to tell is added up on the device; the host asks once, after the first steps or when the loss
left the finite numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from talent_factory.core.errors import KitError, TrainingBroken, TrainingDiverged
from talent_factory.training.lora import LoraNetwork

# Down matrices have no gradient before up has left zero, and a warm-up may begin at a rate of zero.
FLOW_STEPS = 4
# A norm is a float32 sum over millions of numbers: so much may it lie above the limit.
_CLIP_SLACK = 1e-3
_NAMED = 5


@dataclass(eq=False)
class GradientWatch:
    """Which modules have had a gradient, and where it first was no finite number.

    `gradients` are each module's parts in one order (down, up, lengths), tensors that keep their place from
    step to step. `note` belongs between the backward pass and clipping, in a captured graph too.
    """

    gradients: Mapping[str, Sequence[Tensor]]
    seen: Tensor = field(init=False)
    """(P,) bool, one a tensor: it was not all zero in some step."""
    broken: Tensor = field(init=False)
    """(P,) bool: it held infinity or NaN in the first step in which any did."""

    def __post_init__(self) -> None:
        self._flat = [part for parts in self.gradients.values() for part in parts]
        device = self._flat[0].device
        self.seen = torch.zeros(len(self._flat), dtype=torch.bool, device=device)
        self.broken = torch.zeros_like(self.seen)

    @torch.no_grad()
    def note(self) -> Tensor:
        """Take one step's gradients in; returns the norm of each tensor, (P,), without asking the host.

        The norm of these norms is that of all gradients: a loop that clips by it reads them once only.
        """
        norms = torch.stack(torch._foreach_norm(self._flat))
        bad = ~torch.isfinite(norms)
        # once something is broken, the next step is broken everywhere: only the first tells where
        self.broken.logical_or_(bad & ~self.broken.any())
        self.seen.logical_or_(norms > 0)
        return norms

    @torch.no_grad()
    def forgive(self, skipped: Tensor) -> None:
        """Forget what broke when `skipped` (0-dim bool, on the device): fp16 overflows now and then."""
        self.broken.logical_and_(~skipped)

    def silent(self) -> tuple[str, ...]:
        """The modules of which a part never had a gradient; asks the device."""
        return tuple(name for name, seen in self._by_module(self.seen) if not all(seen))

    def to_blame(self) -> tuple[str, ...]:
        """The modules whose gradient first left the finite numbers; asks the device."""
        return tuple(name for name, broken in self._by_module(self.broken) if any(broken))

    def _by_module(self, flags: Tensor) -> Iterator[tuple[str, list[bool]]]:
        values, start = flags.tolist(), 0
        for name, parts in self.gradients.items():
            yield name, values[start : start + len(parts)]
            start += len(parts)


def watch_networks(networks: Sequence[LoraNetwork]) -> GradientWatch:
    """A watch over all layers; the gradients must have been allocated, as flat vectors do."""
    found: dict[str, list[Tensor]] = {}
    for network in networks:
        for name, layer in network.named_layers():
            own = (layer.down, layer.up, layer.lengths)
            found[name] = [part.grad for part in own if part is not None and part.grad is not None]
    return GradientWatch({name: parts for name, parts in found.items() if parts})


def check_flow(watch: GradientWatch) -> str:
    """A remark that names the modules without gradient, "" when all have one.

    Some may rightly have none: SDXL never reads the last layer of its first text encoder. Raises
    TrainingBroken when a whole model, UNet or text encoder, has none.
    """
    silent = watch.silent()
    for prefix in sorted({_model(name) for name in watch.gradients}):
        own = [name for name in watch.gradients if _model(name) == prefix]
        if set(own) <= set(silent):
            raise TrainingBroken(
                f"none of the {len(own)} modules of {prefix} has had a gradient in the first steps",
                remedy="set fast: false, or report it with run.json: the loss does not reach them",
            )
    if not silent:
        return ""
    return f"{len(silent)} of {len(watch.gradients)} modules never had a gradient: {_some(silent)}"


def check_clip(before: float, after: float, limit: float) -> None:
    """Raise TrainingBroken unless gradients of norm `before` were scaled down to `limit`, or left alone."""
    wanted = min(before, limit)
    if abs(after - wanted) <= _CLIP_SLACK * wanted + 1e-12:
        return
    raise TrainingBroken(
        f"gradients of norm {before:.4g} have {after:.4g} after clipping to {limit:g}",
        remedy="set fast: false, or report it with run.json: clipping is not in effect",
    )


@torch.no_grad()
def total_norm(gradients: Sequence[Tensor]) -> Tensor:
    """The norm of all gradients together, 0-dim, on their device."""
    norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(list(gradients))))
    return norm


def blame(watch: GradientWatch | None, named: Mapping[str, Sequence[Tensor]]) -> str:
    """Words for where the numbers broke: the watch's first, else the weights that are no numbers now."""
    first = () if watch is None else watch.to_blame()
    if first and watch is not None and len(first) == len(watch.gradients):
        return f"in the gradients of all {len(first)} modules at once"
    if first:
        return f"first in the gradient of {_some(first)}"
    weights = tuple(name for name, parts in named.items() if not all(_finite(part) for part in parts))
    return f"in the weights of {_some(weights)}" if weights else "in the model's own numbers"


@contextmanager
def traced(module: nn.Module) -> Iterator[Callable[[], str]]:
    """Within this context the returned function names the first part that made NaN or infinity of numbers.

    It waits for the device at every layer, so it is for the autopsy of one forward pass, not for the loop.
    """
    found: list[str] = []
    handles = []

    def hook(name: str) -> Callable[[nn.Module, tuple[object, ...], object], None]:
        def look(_: nn.Module, inputs: tuple[object, ...], output: object) -> None:
            if not found and not _sound(output):
                found.append(f"{name} (its input was {'sound' if _sound(inputs) else 'broken already'})")

        return look

    for name, part in module.named_modules():
        if not any(True for _ in part.children()):
            handles.append(part.register_forward_hook(hook(name)))
    try:
        yield lambda: found[0] if found else ""
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def idle_modules(tensors: Mapping[str, Tensor]) -> tuple[str, ...]:
    """The modules of a kohya file whose change of the base is nothing: down or up is all zero."""
    idle = []
    for name, down in tensors.items():
        if name.endswith(".lora_down.weight"):
            module = name.removesuffix(".lora_down.weight")
            up = tensors[f"{module}.lora_up.weight"]
            if not bool(down.any()) or not bool(up.any()):
                idle.append(module)
    return tuple(idle)


def require_effect(tensors: Mapping[str, Tensor]) -> str:
    """A remark that names the modules that change nothing, "" when each changes something.

    Raises KitError when none does: an untrained LoRA must not be shipped.
    """
    modules = sum(name.endswith(".lora_down.weight") for name in tensors)
    idle = idle_modules(tensors)
    if len(idle) == modules:
        raise KitError(
            f"none of the {modules} modules changes the base: nothing was learnt",
            remedy="raise learning_rate or max_train_steps and begin anew: talent train CONFIG --fresh",
        )
    return f"{len(idle)} of {modules} modules change nothing: {_some(idle)}" if idle else ""


@torch.no_grad()
def require_finite(tensors: Mapping[str, Tensor], *, newest: str) -> None:
    """Raise TrainingDiverged when a tensor holds infinity or NaN; `newest` is the last good checkpoint.

    It asks the device once, so it belongs where the host waits anyway.
    """
    flags = torch.stack([torch.isfinite(tensor).all() for tensor in tensors.values()])
    if bool(flags.all()):
        return
    raise TrainingDiverged(
        f"the trained weights are no finite numbers any more; {kept_words(newest)}",
        remedy="lower learning_rate and begin anew: talent train CONFIG --fresh",
    )


def kept_words(newest: str) -> str:
    """What is left of a run that broke, for an error; `newest` is a checkpoint or empty."""
    return f"the last good checkpoint is {newest}" if newest else "no checkpoint was saved before"


def _model(name: str) -> str:
    """lora_unet, lora_te, lora_te1 or lora_te2."""
    return "_".join(name.split("_", 2)[:2])


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())


def _sound(value: object) -> bool:
    if isinstance(value, Tensor):
        return not value.is_floating_point() or _finite(value)
    if isinstance(value, Mapping):
        return all(_sound(item) for item in value.values())
    return all(_sound(item) for item in value) if isinstance(value, tuple | list) else True
