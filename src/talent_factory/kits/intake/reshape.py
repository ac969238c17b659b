"""Bring the tensors of a LoRA into the shape of a kit without changing what they do, not by a bit.

Numbers are moved as the bits they are. A smaller rank is filled up with zeros, and its alpha grows in the
same measure, so that alpha / rank, and with it (alpha / rank) · up @ down, stays what it was.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from talent_factory.kits.header import Header, TensorEntry
from talent_factory.kits.intake.alphas import Alphas
from talent_factory.kits.intake.forms import BaseName, Named, grouped, kohya_name
from talent_factory.kits.intake.refusal import IntakeRefused
from talent_factory.kits.keys import Modules, ModuleShape
from talent_factory.kits.lora_file import LoraSize
from talent_factory.kits.weights import read_tensor

MAX_RANK = 128
_BITS: Mapping[str, str] = {"F16": "<u2", "BF16": "<u2", "F32": "<u4", "I64": "<i8"}
Encoded = list[tuple[str, str, NDArray[Any]]]


class Reshaped(NamedTuple):
    """A LoRA in kit form; `tensors` is empty when the file is in that form already, bit for bit."""

    tensors: Encoded
    size: LoraSize
    one_alpha: bool
    """Whether all modules share `size`'s alpha (and wide convolutions its conv_alpha)."""
    text_encoder: bool
    changes: tuple[str, ...]
    """What was done, in words."""


class _Module(NamedTuple):
    name: str
    shape: ModuleShape
    named: Named
    rank: int
    alpha: float

    @property
    def wide(self) -> bool:
        return self.shape.kernel > 1


def reshape(
    data: memoryview, header: Header, *, base: BaseName, modules: Modules, alphas: Alphas
) -> Reshaped:
    """Return the tensors of a checked file in kit form for `base`.

    `data` are the bytes after the header; `alphas` tells the alpha of modules that carry none. Raises
    IntakeRefused for a module the base has not, half a pair, a shape that does not fit, an alpha that is no
    positive number and a rank above 128.
    """
    named, _ = grouped(header.tensors)
    found = [_module(data, item, base, modules, alphas) for item in named]
    names = [module.name for module in found]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise IntakeRefused(f"the module {twice} stands in the file twice", code="weights-duplicate")
    plain = max((module.rank for module in found if not module.wide), default=0)
    wide = max((module.rank for module in found if module.wide), default=0)
    if max(plain, wide) > MAX_RANK:
        raise IntakeRefused(
            f"rank {max(plain, wide)}; kits hold up to {MAX_RANK}",
            code="rank",
            remedy="shrink it with the program that made it (sd-scripts: resize_lora)",
        )
    ranks = {module.name: wide if module.wide else plain for module in found}
    size, one = _size(found, plain, wide)
    changes = tuple(_changes(header, found, ranks, alphas))
    # a file that is right already is not copied through the memory
    tensors = [part for module in found if changes for part in _padded(data, module, ranks[module.name])]
    return Reshaped(tensors, size, one, any(name.startswith("lora_te") for name in names), changes)


def fits(named: Named, shape: ModuleShape) -> bool:
    """Whether the pair of a module, in whatever form, is one for a layer of this shape."""
    down, up = named.parts.get("down"), named.parts.get("up")
    if down is None or up is None or not down.shape or len(up.shape) < 2:
        return False
    rank = down.shape[0]
    return _holds(down, shape.down(rank)) and _holds(up, shape.up(rank))


def _holds(entry: TensorEntry, right: tuple[int, ...]) -> bool:
    """Equal up to sides of one at the end: a 1 x 1 convolution is a matrix, and some write it so."""
    return _trimmed(entry.shape) == _trimmed(right)


def _trimmed(shape: tuple[int, ...]) -> tuple[int, ...]:
    while len(shape) > 2 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def _module(data: memoryview, named: Named, base: BaseName, modules: Modules, alphas: Alphas) -> _Module:
    name = kohya_name(named.raw, base)
    shape = modules.get(name or "")
    if name is None or shape is None:
        raise IntakeRefused(f"{named.raw[:120]!r} is no module of {base} that kits adapt", code="key-unknown")
    down, up = named.parts.get("down"), named.parts.get("up")
    if down is None or up is None:
        raise IntakeRefused(
            f"{named.raw[:120]!r} has {'no down' if down is None else 'no up'}", code="pair-missing"
        )
    if not fits(named, shape):
        raise IntakeRefused(
            f"{named.raw[:120]!r}: {list(down.shape)} and {list(up.shape)} do not fit a layer of "
            f"{shape.in_features} to {shape.out_features}",
            code="shape",
        )
    if "I64" in (down.dtype, up.dtype):
        raise IntakeRefused(f"{named.raw[:120]!r}: whole numbers as weights", code="weights-dtype")
    rank = down.shape[0]
    return _Module(name, shape, named, rank, _alpha(data, named, rank, alphas))


def _alpha(data: memoryview, named: Named, rank: int, alphas: Alphas) -> float:
    entry = named.parts.get("alpha")
    if entry is None:
        return alphas.of(named.raw, rank)
    if entry.numbers != 1:
        raise IntakeRefused(f"{named.raw[:120]!r}: alpha has {entry.numbers} numbers", code="shape")
    value = float(read_tensor(data, entry).reshape(-1)[0])
    if not math.isfinite(value) or value <= 0:
        raise IntakeRefused(f"{named.raw[:120]!r}: alpha is {value:g}", code="alpha-value")
    return value


def _padded(data: memoryview, module: _Module, rank: int) -> Encoded:
    down, up = module.named.parts["down"], module.named.parts["up"]
    lower = np.zeros(module.shape.down(rank), _BITS[down.dtype])
    lower[: module.rank] = _bits(data, down).reshape(module.shape.down(module.rank))
    upper = np.zeros(module.shape.up(rank), _BITS[up.dtype])
    upper[:, : module.rank] = _bits(data, up).reshape(module.shape.up(module.rank))
    found: Encoded = [
        (f"{module.name}.lora_down.weight", down.dtype, lower),
        (f"{module.name}.lora_up.weight", up.dtype, upper),
    ]
    entry = module.named.parts.get("alpha")
    if entry is not None and rank == module.rank:
        found.append((f"{module.name}.alpha", entry.dtype, _bits(data, entry)))
    else:
        value = np.array(module.alpha * rank / module.rank, "<f4").view("<u4")
        found.append((f"{module.name}.alpha", "F32", value))
    lengths = module.named.parts.get("dora_scale")
    if lengths is not None:
        found.append(
            (f"{module.name}.dora_scale", lengths.dtype, _bits(data, lengths).reshape(_lengths(module)))
        )
    return found


def _lengths(module: _Module) -> tuple[int, ...]:
    """The right shape of DoRA's lengths; raises IntakeRefused when those of the file are not for it."""
    entry = module.named.parts["dora_scale"]
    right = (1, module.shape.in_features) + ((1, 1) if module.shape.kernel else ())
    if _trimmed(entry.shape) != _trimmed(right) or entry.dtype == "I64":
        raise IntakeRefused(
            f"{module.named.raw[:120]!r}: DoRA's lengths {list(entry.shape)} belong to outputs; readers of "
            f"this form take those of inputs, {list(right)}",
            code="shape",
            remedy="train it again, or export it from its trainer in kohya's form",
        )
    return right


def _bits(data: memoryview, entry: TensorEntry) -> NDArray[Any]:
    return np.frombuffer(data, _BITS[entry.dtype], count=entry.numbers, offset=entry.start).reshape(
        entry.shape
    )


def _size(found: list[_Module], plain: int, wide: int) -> tuple[LoraSize, bool]:
    """Rank and alpha after the filling up: those that most modules have."""
    usual = [_grown(module, plain) for module in found if not module.wide]
    other = [_grown(module, wide) for module in found if module.wide]
    first = _most(usual or other)
    one = all(_alike(value, first) for value in usual or other)
    if not usual or not other:
        return LoraSize(plain or wide, first), one
    second = _most(other)
    one = one and all(_alike(value, second) for value in other)
    if wide == plain and _alike(first, second):
        return LoraSize(plain, first), one
    return LoraSize(plain, first, wide, second), one


def _grown(module: _Module, rank: int) -> float:
    # single precision keeps seven digits
    return float(f"{module.alpha * rank / module.rank:.6g}")


def _most(values: list[float]) -> float:
    return max(sorted(set(values)), key=values.count)


def _alike(one: float, other: float) -> bool:
    return abs(one - other) <= 1e-4 * other


def _changes(header: Header, found: list[_Module], ranks: Mapping[str, int], alphas: Alphas) -> Iterator[str]:
    before = {entry.name: entry.shape for entry in header.tensors}
    after = {name: shape for module in found for name, shape in _layout(module, ranks[module.name])}
    renamed = any(module.named.raw != module.name for module in found) or bool(before.keys() - after.keys())
    if renamed:
        yield "tensors have kohya's names now"
    missing = sum("alpha" not in module.named.parts for module in found)
    if missing:
        yield f"{missing} modules had no alpha: {alphas.source}"
    uneven = False
    for word, kind in (("ranks", False), ("ranks of convolutions", True)):
        own = {module.rank for module in found if module.wide is kind}
        if len(own) > 1:
            uneven = True
            yield f"{word} {min(own)} to {max(own)} filled up with zeros to {max(own)}"
    if not (renamed or missing or uneven) and before != after:
        yield "1 x 1 convolutions and matrices have the base's form now"


def _layout(module: _Module, rank: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of the module's tensors in kit form."""
    yield f"{module.name}.lora_down.weight", module.shape.down(rank)
    yield f"{module.name}.lora_up.weight", module.shape.up(rank)
    alpha = module.named.parts.get("alpha")
    yield f"{module.name}.alpha", () if alpha is None else alpha.shape
    if "dora_scale" in module.named.parts:
        yield f"{module.name}.dora_scale", _lengths(module)
