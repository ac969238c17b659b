"""What makes a frozen model fast on a CPU: convolutions packed once, and memory that is kept.

oneDNN lays the weights of a convolution out anew in every call; for a batch of one that is most of the time
of SD 1.5's deep layers. The packed product gives the same bits, and its gradient is another packed product:
of the flipped weights, since only the input needs a gradient.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psutil
import torch
from torch import Tensor, nn

# A pack for the backward pass is a second copy; of a large model only the layers that gain most get one.
SECOND_COPIES = 0.15
# A small model may have all its packs: they are little beside what a process holds anyway.
_ALWAYS_BYTES = 1 << 25
# Below this, laying weights out anew costs little beside the arithmetic.
_LARGE_BYTES = 1 << 25


def give_memory_back() -> None:
    """Return freed memory to the system, where glibc would keep it for later."""
    gc.collect()
    if not sys.platform.startswith("linux"):
        return
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):
        return  # another C library, such as musl


@dataclass(eq=False)
class PackedConv:
    """A frozen convolution of stride 1 in oneDNN's own layout."""

    forward_pack: Tensor
    backward_pack: Tensor
    bias: Tensor | None
    kernel: tuple[int, int]
    padding: tuple[int, int]

    def __call__(self, x: Tensor) -> Tensor:
        """What the convolution answers: (B, out, H, W), channels last."""
        answer: Tensor = _Packed.apply(x, self)  # type: ignore[no-untyped-call]
        return answer


class _Packed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, conv: PackedConv) -> Tensor:
        ctx.conv = conv
        x = x.contiguous(memory_format=torch.channels_last)
        return _convolve(x, conv.forward_pack, conv.bias, conv.padding)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        conv: PackedConv = ctx.conv
        grad = grad.contiguous(memory_format=torch.channels_last)
        return _convolve(grad, conv.backward_pack, None, _opposite(conv.kernel, conv.padding)), None


def _convolve(x: Tensor, pack: Tensor, bias: Tensor | None, padding: tuple[int, int]) -> Tensor:
    answer: Tensor = torch.ops.mkldnn._convolution_pointwise(
        x, pack, bias, list(padding), [1, 1], [1, 1], 1, "none", [], ""
    )
    return answer


def _opposite(kernel: tuple[int, int], padding: tuple[int, int]) -> tuple[int, int]:
    """The padding of the convolution that leads gradients back."""
    return kernel[0] - 1 - padding[0], kernel[1] - 1 - padding[1]


def pack_convolutions(
    model: nn.Module, run_once: Callable[[], object], *, leave: Collection[nn.Module]
) -> int:
    """Give frozen convolutions of `model` packed weights, except those in `leave`; returns their number.

    `run_once` runs the model on tensors of the size that it will be trained on: packs are made for that size,
    hence the same ones after every resume. The layers that gain most come first, until second copies take
    their share of the model's memory. Plain weights of packed layers are emptied, so the model cannot be
    merged into or saved afterwards.
    """
    if not torch.backends.mkldnn.is_available():
        return 0
    chosen = [conv for conv in model.modules() if _packable(conv) and conv not in leave]
    sizes: dict[nn.Module, tuple[int, ...]] = {}
    with _recording(chosen, sizes):
        run_once()
    room = max(_ALWAYS_BYTES, SECOND_COPIES * sum(own.nbytes for own in model.parameters()))
    packed = 0
    for conv in sorted(
        (conv for conv in chosen if conv in sizes), key=lambda conv: _order(conv, sizes[conv])
    ):
        assert isinstance(conv, nn.Conv2d)
        if conv.weight.nbytes > room:
            continue
        room -= conv.weight.nbytes
        conv.forward = _pack(conv, sizes[conv])  # type: ignore[method-assign,assignment]
        packed += 1
    return packed


@contextmanager
def packs_kept(model: nn.Module) -> Iterator[None]:
    """Within this context frozen convolutions of `model` keep their packs from call to call.

    The plain weights stay and may be changed, or others be put in their place, even in turns: a pack belongs
    to its weights, and is made anew when these, or the size of the input, are other ones. Packs are second
    copies; no more are kept than a quarter of the memory that is free.
    """
    if not torch.backends.mkldnn.is_available():
        yield
        return
    room = _Room(psutil.virtual_memory().available // 4)
    chosen: list[nn.Module] = []
    # the deepest layers have the most weights for the fewest places
    for conv in sorted(filter(_packable, model.modules()), key=lambda conv: -conv.weight.nbytes):  # type: ignore[operator]
        assert isinstance(conv, nn.Conv2d)
        if conv.kernel_size == (1, 1):
            conv.forward = _Pointwise(conv)  # type: ignore[method-assign,assignment]
        elif room.takes(conv.weight.nbytes):
            conv.forward = _FollowingPack(conv, room)  # type: ignore[method-assign,assignment]
        else:
            continue
        chosen.append(conv)
    try:
        yield
    finally:
        for conv in chosen:
            del conv.__dict__["forward"]


class _Room:
    """Memory that packs may take: every layer's first one, then more of those whose weights take turns."""

    def __init__(self, bytes_left: int) -> None:
        self._left = bytes_left

    def takes(self, size: int) -> bool:
        """Whether there is room for so many bytes; they are taken then."""
        fits = size <= self._left
        self._left -= size if fits else 0
        return fits


@dataclass(frozen=True, eq=False)
class _Laid:
    """A pack, and what it was made for; while the weights are held, no others lie in their place."""

    pack: Tensor
    weight: Tensor
    version: int
    size: tuple[int, ...]


class _FollowingPack:
    """A convolution by packs that follow the layer's weights and the size of its input."""

    def __init__(self, conv: nn.Conv2d, room: _Room) -> None:
        assert isinstance(conv.padding, tuple)
        self._conv = conv
        self._room = room
        self._padding = (conv.padding[0], conv.padding[1])
        self._laid: dict[int, _Laid] = {}

    def __call__(self, x: Tensor) -> Tensor:
        weight, size = self._conv.weight.detach(), tuple(x.shape)
        laid = self._laid.get(weight.data_ptr())
        if laid is None or laid.version != weight._version or laid.size != size:
            laid = self._lay_out(weight, size)
        x = x.contiguous(memory_format=torch.channels_last)
        return _convolve(x, laid.pack, self._conv.bias, self._padding)

    def _lay_out(self, weight: Tensor, size: tuple[int, ...]) -> _Laid:
        place = weight.data_ptr()
        known = self._laid.pop(place, None)
        if known is None and self._laid and not self._room.takes(weight.nbytes):
            # of weights that go round, the first ones' packs are worth more than the last one's
            self._laid.popitem()
        laid = _Laid(_laid_out(weight, self._padding, size), weight, weight._version, size)
        self._laid[place] = laid
        return laid


class _Pointwise:
    """A convolution of one pixel as the product that it is: oneDNN is not asked for the small ones."""

    def __init__(self, conv: nn.Conv2d) -> None:
        self._conv = conv

    def __call__(self, x: Tensor) -> Tensor:
        rows = x.contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1)
        return nn.functional.linear(rows, self._conv.weight.flatten(1), self._conv.bias).permute(0, 3, 1, 2)


def _order(conv: nn.Module, size: tuple[int, ...]) -> tuple[bool, int]:
    """Many weights for few places come first."""
    assert isinstance(conv, nn.Conv2d)
    return conv.weight.nbytes < _LARGE_BYTES, size[2] * size[3]


def _packable(module: nn.Module) -> bool:
    return (
        type(module) is nn.Conv2d
        and "forward" not in module.__dict__
        and (module.stride, module.dilation, module.groups) == ((1, 1), (1, 1), 1)
        and isinstance(module.padding, tuple)
        and module.weight.device.type == "cpu"
        and module.weight.dtype in (torch.float32, torch.bfloat16)
        and not module.weight.requires_grad
    )


@contextmanager
def _recording(convs: list[nn.Module], sizes: dict[nn.Module, tuple[int, ...]]) -> Iterator[None]:
    """Within this context the shape of each layer's input is written into `sizes`."""

    def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        sizes[module] = tuple(inputs[0].shape)

    handles = [conv.register_forward_pre_hook(note) for conv in convs]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def _pack(conv: nn.Conv2d, size: tuple[int, ...]) -> PackedConv:
    weight, kernel = conv.weight.detach(), (conv.kernel_size[0], conv.kernel_size[1])
    assert isinstance(conv.padding, tuple)
    padding = (conv.padding[0], conv.padding[1])
    turned = weight.flip(2, 3).transpose(0, 1).contiguous(memory_format=torch.channels_last)
    places = (size[0], conv.out_channels, *size[2:])
    packed = PackedConv(
        forward_pack=_laid_out(weight, padding, size),
        backward_pack=_laid_out(turned, _opposite(kernel, padding), places),
        bias=None if conv.bias is None else conv.bias.detach(),
        kernel=kernel,
        padding=padding,
    )
    conv.weight.data = weight.new_empty(0)
    return packed


def _laid_out(weight: Tensor, padding: tuple[int, int], size: tuple[int, ...]) -> Tensor:
    reorder: Any = torch._C._nn.mkldnn_reorder_conv2d_weight
    answer: Tensor = reorder(weight.to_mkldnn(), list(padding), [1, 1], [1, 1], 1, list(size))
    return answer
