"""Judge the tensors of a LoRA file: do they fit the base, and would they change it in a sane way?

The numbers are read once, straight from the mapped bytes, by one pass of numpy over each run of equal type. A
LoRA module changes its layer by (alpha / rank) · up @ down (Hu et al. 2021, arXiv 2106.09685).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from talent_factory.kits.findings import Notes
from talent_factory.kits.header import ITEM_BYTES, Header, TensorEntry
from talent_factory.kits.keys import Modules, ModuleShape, cross_attention_width
from talent_factory.kits.manifest import WEIGHTS_FILE

# Root mean square of the change, per weight. Weights of a base are about 0.03, and so are useful changes.
NO_DELTA = 1e-9
LARGE_DELTA = 0.5
INSANE_DELTA = 2.0
_CHUNK_BYTES = 2 << 20
LARGE_BYTES = 64 << 20

_PARTS = ("lora_down.weight", "lora_up.weight", "alpha", "dora_scale")
_RETRAIN = "train again; talent train keeps the last good checkpoint"
_REPACK = "pack the kit anew from the training run"


class LoraModule(NamedTuple):
    """The tensors of one module, each None when absent; `lengths` are DoRA's (arXiv 2402.09353)."""

    name: str
    down: TensorEntry | None
    up: TensorEntry | None
    alpha: TensorEntry | None
    lengths: TensorEntry | None


class Size(NamedTuple):
    """Rank and alpha that a manifest states; None: no alpha is stated."""

    rank: int
    alpha: float | None


class WeightFacts(NamedTuple):
    """What the tensors say about themselves: whether text modules occur, and the alphas that do."""

    text_encoder: bool
    alphas: tuple[float, ...]


def read_tensor(data: memoryview, entry: TensorEntry) -> NDArray[Any]:
    """Return a tensor in its shape, as float32 (half precisions widened exactly) or int64.

    `data` are the bytes after the header.
    """
    kind = {"I64": "<i8", "F32": "<u4"}.get(entry.dtype, "<u2")
    bits = np.frombuffer(data, kind, count=entry.numbers, offset=entry.start)
    return (bits if entry.dtype == "I64" else _floats(bits, entry.dtype)).reshape(entry.shape)


def check_weights(
    data: memoryview,
    header: Header,
    *,
    modules: Modules,
    base: str,
    size: Size,
    conv: Size | None,
    notes: Notes,
) -> WeightFacts:
    """Note each way in which the tensors do not fit `modules` and `size`, or are no sane numbers.

    `conv` is the size of convolutions that are larger than 1 x 1 where it is another one.
    """

    form = _form(header, modules=modules, base=base, size=size, conv=conv, notes=notes)
    if form.wrong_base or (not form.complete and len(data) > LARGE_BYTES):
        # it is refused already: nobody needs to wait for its numbers
        return WeightFacts(form.text and not form.wrong_base, ())
    peaks = dict(_peaks(data, form.runs))
    for name, peak in peaks.items():
        if not math.isfinite(peak):
            notes.error("not-finite", WEIGHTS_FILE, f"{name}: holds NaN or infinity", _RETRAIN)
    alphas = {
        module.name: _scalar(data, module.alpha) for module, _ in form.fitting if module.alpha is not None
    }
    usable = [
        module
        for module, right in form.fitting
        if _alpha_holds(module, alphas.get(module.name), right.alpha, notes)
    ]
    _check_effect(data, usable, peaks, alphas, notes)
    return WeightFacts(form.text, tuple(sorted(set(alphas.values()))))


class _Run(NamedTuple):
    """Neighbouring tensors of one type: where they begin, and each one's first number counted from there."""

    tensors: tuple[TensorEntry, ...]
    starts: NDArray[np.intp]


class _Form(NamedTuple):
    """What names and shapes alone tell: modules that fit, each with the size it should have.

    `complete` when all do, `text` whether text modules occur.
    """

    tensors: tuple[TensorEntry, ...]
    modules: Modules
    fitting: tuple[tuple[LoraModule, Size], ...]
    runs: tuple[_Run, ...]
    text: bool
    complete: bool
    wrong_base: bool


# Files of one base and rank share the very table of tensors (see header.py): its form is judged once.
_FORMS: dict[tuple[int, int, Size, Size | None], _Form] = {}
_MAX_FORMS = 16


def _form(
    header: Header, *, modules: Modules, base: str, size: Size, conv: Size | None, notes: Notes
) -> _Form:
    key = (id(header.tensors), id(modules), size, conv)
    kept = _FORMS.get(key)
    if kept is not None and kept.tensors is header.tensors and kept.modules is modules:
        return kept
    before = notes.total
    form = _judge_form(header, modules=modules, base=base, size=size, conv=conv, notes=notes)
    if notes.total == before:  # a fault is told anew for each file that has it
        if len(_FORMS) >= _MAX_FORMS:
            _FORMS.clear()
        _FORMS[key] = form
    return form


def _judge_form(
    header: Header, *, modules: Modules, base: str, size: Size, conv: Size | None, notes: Notes
) -> _Form:
    found = list(_grouped(header, notes))
    runs = tuple(_runs(header.tensors))
    if _wrong_base(found, modules, base, notes):
        return _Form(header.tensors, modules, (), runs, False, False, True)
    text_names = _text_names(modules)
    known = [module for module in found if _known(module, modules, text_names, notes)]
    fitting = []
    for module in known:
        shape = modules[module.name]
        right = conv if conv is not None and shape.kernel > 1 else size
        if _fits(module, shape, right.rank, notes):
            fitting.append((module, right))
    text = any(module.name.startswith("lora_te") for module in known)
    complete = len(fitting) == len(found)
    return _Form(header.tensors, modules, tuple(fitting), runs, text, complete, False)


def _grouped(header: Header, notes: Notes) -> Iterator[LoraModule]:
    parts: dict[str, dict[str, TensorEntry]] = {}
    for entry in header.tensors:
        # kohya's module names have no dots, so the first one ends the module
        name, _, part = entry.name.partition(".")
        if part not in _PARTS:
            message = f"{entry.name[:120]!r} is no lora_down, lora_up, alpha or dora_scale"
            remedy = "kits hold plain kohya LoRA tensors only; convert the file"
            notes.error("key-unknown", WEIGHTS_FILE, message, remedy)
        elif name in parts:
            parts[name][part] = entry
        else:
            parts[name] = {part: entry}
    for name, tensors in parts.items():
        yield LoraModule(name, *(tensors.get(part) for part in _PARTS))


def _wrong_base(found: Iterable[LoraModule], modules: Modules, base: str, notes: Notes) -> bool:
    """One finding instead of hundreds: the width of cross-attention keys tells one base from another."""
    width = cross_attention_width(modules)
    for module in found:
        if module.down is None or not module.name.endswith("_attn2_to_k") or len(module.down.shape) < 2:
            continue
        if module.down.shape[1] != width:
            message = f"cross-attention reads {module.down.shape[1]} numbers a token, {base} has {width}"
            notes.error(
                "base-mismatch", WEIGHTS_FILE, message, "correct base_model and sdx_version in talent.json"
            )
            return True
    return False


def _text_names(modules: Modules) -> str:
    """How the base's text modules begin: one encoder is lora_te, two are lora_te1 and lora_te2."""
    prefixes = {name.partition("_text_model")[0] for name in modules if name.startswith("lora_te")}
    return " or ".join(f"{prefix}_text_model_" for prefix in sorted(prefixes))


def _known(module: LoraModule, modules: Modules, text_names: str, notes: Notes) -> bool:
    if module.name in modules:
        return True
    message = f"{module.name[:120]!r} is no module of the base"
    remedy = "correct base_model in talent.json or convert the file to kohya names"
    if module.name.startswith("lora_te"):
        # readers that know one way of numbering text encoders pass over the other without a word
        remedy = f"text modules of this base begin with {text_names}"
    notes.error("key-unknown", WEIGHTS_FILE, message, remedy)
    return False


def _fits(module: LoraModule, shape: ModuleShape, rank: int, notes: Notes) -> bool:
    down, up = module.down, module.up
    if down is None or up is None:
        missing = "lora_down" if down is None else "lora_up"
        notes.error("pair-missing", WEIGHTS_FILE, f"{module.name}: no {missing}", _REPACK)
        return False
    if down.dtype == "I64" or up.dtype == "I64":
        notes.error("weights-dtype", WEIGHTS_FILE, f"{module.name}: whole numbers as weights", _REPACK)
        return False
    real = down.shape[0] if down.shape else 0
    if real != rank and down.shape == shape.down(real) and up.shape == shape.up(real):
        message = f"{module.name}: rank {real}, talent.json says {rank}"
        notes.error("rank", WEIGHTS_FILE, message, "correct lora_rank in talent.json")
        return False
    for entry, right in ((down, shape.down(rank)), (up, shape.up(rank))):
        if entry.shape != right:
            message = f"{entry.name}: shape {list(entry.shape)}, the base needs {list(right)}"
            notes.error(
                "shape", WEIGHTS_FILE, message, "correct base_model in talent.json or pack the kit anew"
            )
            return False
    if module.lengths is not None and not _lengths_fit(module, shape, notes):
        return False
    if module.alpha is None:
        remedy = "add it: readers would guess alpha = rank"
        notes.error("alpha-missing", WEIGHTS_FILE, f"{module.name}: no alpha", remedy)
        return False
    if module.alpha.numbers != 1:
        notes.error(
            "shape",
            WEIGHTS_FILE,
            f"{module.alpha.name}: {module.alpha.numbers} numbers, one is right",
            _REPACK,
        )
        return False
    return True


def _lengths_fit(module: LoraModule, shape: ModuleShape, notes: Notes) -> bool:
    """DoRA's lengths belong to the columns of W, as kohya's readers take them: (1, in) or (1, in, 1, 1)."""
    entry = module.lengths
    assert entry is not None
    right = (1, shape.in_features) + ((1, 1) if shape.kernel else ())
    if entry.shape == right and entry.dtype != "I64":
        return True
    message = f"{entry.name}: shape {list(entry.shape)}, one length for each input is {list(right)}"
    notes.error("shape", WEIGHTS_FILE, message, "train again; lengths of outputs are for PEFT alone")
    return False


def _alpha_holds(module: LoraModule, value: float | None, stated: float | None, notes: Notes) -> bool:
    if value is None or not math.isfinite(value) or value <= 0:
        notes.error("alpha-value", WEIGHTS_FILE, f"{module.name}: alpha is {value}", _REPACK)
        return False
    # half precision keeps three digits of an alpha such as 0.1
    if stated is not None and abs(value - stated) > 1e-3 * stated:
        message = f"{module.name}: alpha is {value:g}, metadata.alpha says {stated:g}"
        notes.error("alpha-value", WEIGHTS_FILE, message, "correct metadata.alpha in talent.json")
    return True


def _check_effect(
    data: memoryview,
    modules: list[LoraModule],
    peaks: dict[str, float],
    alphas: dict[str, float],
    notes: Notes,
) -> None:
    idle = []
    for module in modules:
        down, up = module.down, module.up
        if down is None or up is None:
            continue
        product = peaks[down.name] * peaks[up.name]
        if not math.isfinite(product):
            continue
        scale = alphas[module.name] / down.shape[0]
        if scale * down.shape[0] * product < NO_DELTA:
            idle.append(module.name)
            continue
        # each weight changes by at most rank products of the peaks, so most modules need no matrix product
        if scale * down.shape[0] * product > LARGE_DELTA:
            weights = math.sqrt(up.numbers * down.numbers) / down.shape[0]
            _note_size(module.name, scale * _product_norm(data, up, down) / weights, notes)
    if modules and len(idle) == len(modules):
        notes.error("all-zero", WEIGHTS_FILE, "no module changes anything: the LoRA is untrained", _RETRAIN)
    elif idle:
        message = f"{len(idle)} of {len(modules)} modules change nothing, the first is {idle[0]}"
        notes.warning("zero-module", WEIGHTS_FILE, message, "leave them out of the training targets")


def _note_size(name: str, change: float, notes: Notes) -> None:
    message = f"{name}: changes weights by {change:.3g}, those of a base are about 0.03"
    if not change <= INSANE_DELTA:
        notes.error("delta-size", WEIGHTS_FILE, message, "train with a lower learning rate")
    elif change > LARGE_DELTA:
        notes.warning("delta-size", WEIGHTS_FILE, message, "lower default_weight or the learning rate")


def _product_norm(data: memoryview, up: TensorEntry, down: TensorEntry) -> float:
    """Return ‖up @ down‖ by the rank-sized Gram matrices: ‖UD‖² = tr((UᵀU)(DDᵀ))."""
    up_OR = read_tensor(data, up).astype(np.float64).reshape(up.shape[0], -1)
    down_RI = read_tensor(data, down).astype(np.float64).reshape(down.shape[0], -1)
    with np.errstate(over="ignore", invalid="ignore"):
        square = float(np.sum((up_OR.T @ up_OR) * (down_RI @ down_RI.T)))
    return math.sqrt(max(square, 0.0)) if math.isfinite(square) else math.inf


def _peaks(data: memoryview, runs: Iterable[_Run]) -> Iterator[tuple[str, float]]:
    """Yield the largest magnitude of each tensor, infinite when the tensor holds NaN or infinity.

    The bits of IEEE numbers without the sign are in the order of their magnitudes, with infinity and NaN on
    top, so the search is one over whole numbers.
    """
    for run, starts in runs:
        dtype, start = run[0].dtype, run[0].start
        if dtype == "I64":
            yield from ((entry.name, abs(_scalar(data, entry))) for entry in run)
            continue
        kind, sign_free = ("<u4", 0x7FFFFFFF) if dtype == "F32" else ("<u2", 0x7FFF)
        count = (run[-1].end - start) // ITEM_BYTES[dtype]
        bits = np.frombuffer(data, kind, count=count, offset=start) & sign_free
        tops = np.maximum.reduceat(bits, starts)
        for entry, peak in zip(run, _floats(tops, dtype).tolist(), strict=True):
            yield entry.name, peak if peak < math.inf else math.inf


def _runs(tensors: Iterable[TensorEntry]) -> Iterator[_Run]:
    """Group neighbours of one type, up to about two million bytes, so that a run stays in the cache."""
    run: list[TensorEntry] = []
    dtype, full = "", 0
    for entry in tensors:
        if entry.dtype != dtype or entry.end > full:
            if run:
                yield _run(run)
            run, dtype, full = [], entry.dtype, entry.start + _CHUNK_BYTES
        run.append(entry)
    if run:
        yield _run(run)


def _run(tensors: list[TensorEntry]) -> _Run:
    item = ITEM_BYTES[tensors[0].dtype]
    starts = [(entry.start - tensors[0].start) // item for entry in tensors]
    return _Run(tuple(tensors), np.array(starts, np.intp))


def _scalar(data: memoryview, entry: TensorEntry) -> float:
    """Return the first number of a tensor."""
    if entry.dtype == "BF16":
        return float(struct.unpack("<f", b"\0\0" + bytes(data[entry.start : entry.start + 2]))[0])
    kind = {"F16": "<e", "F32": "<f", "I64": "<q"}[entry.dtype]
    return float(struct.unpack_from(kind, data, entry.start)[0])


def _floats(bits: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Return the numbers that the bits mean, as float32."""
    if dtype == "BF16":
        # bfloat16 is the upper half of a float32
        return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return bits.view("<f2").astype(np.float32) if dtype == "F16" else bits.view("<f4")
