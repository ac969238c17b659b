"""Read the tensors of a training run and write the LoRA file that a kit ships.

The shipped form is kohya's: lora_down and lora_up in half precision, the true alpha in single precision, and
the words of `header_words.py`, which A1111, Forge, ComfyUI, InvokeAI and diffusers read. Equal inputs give
equal bytes. Nothing of the maker's machine is in the file: no path, no date but the kit's own.
"""

from __future__ import annotations

import hashlib
import json
import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from talent_factory.core.errors import KitError
from talent_factory.kits.header import ITEM_BYTES, HeaderError, parse_header
from talent_factory.kits.weights import read_tensor

Tensors = Mapping[str, NDArray[Any]]
# No more of the tensors' bytes counts for kohya's old hash.
LEGACY_BYTES = (1 << 20) + (1 << 16)
_TYPES: Mapping[str, tuple[str, str]] = {"fp16": ("F16", "<f2"), "fp32": ("F32", "<f4")}


def read_lora(path: Path) -> dict[str, NDArray[Any]]:
    """Return the tensors of a safetensors file, half precisions widened to float32.

    Raises KitError when the file is missing or its header is refused.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise KitError(f"{path}: {error.strerror}", remedy="train first: talent train CONFIG") from error
    try:
        header = parse_header(data)
    except HeaderError as error:
        raise KitError(f"{path}: {error.message}", remedy=error.remedy) from error
    tensors = memoryview(data)[header.data_start :]
    return {entry.name: read_tensor(tensors, entry) for entry in header.tensors}


def has_lengths(path: Path) -> bool:
    """Whether a LoRA was trained with DoRA; reads the header alone. Raises KitError as `read_lora`."""
    try:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as buffer:
            return any(entry.name.endswith(".dora_scale") for entry in parse_header(buffer).tensors)
    except (OSError, ValueError) as error:
        raise KitError(f"{path}: {error}", remedy="talent kit validate --verbose") from error
    except HeaderError as error:
        raise KitError(f"{path}: {error.message}", remedy=error.remedy) from error


def lora_bytes(tensors: Tensors, *, precision: Literal["fp16", "fp32"], words: Mapping[str, str]) -> bytes:
    """Return a safetensors file of `tensors` and header `words`; the hash of the tensors joins the words.

    lora_down and lora_up take the precision, alpha stays single. Raises KitError when a number does not fit
    the precision or is not finite.
    """
    return safetensors_bytes(
        [(name, *_encode(name, array, precision)) for name, array in tensors.items()], words
    )


def safetensors_bytes(encoded: list[tuple[str, str, NDArray[Any]]], words: Mapping[str, str]) -> bytes:
    """Return the file of tensors given as name, number type of the format, and an array of those very bits.

    The hash of the tensors joins the header `words`.
    """
    # larger items first, as the reference writer does, so that each tensor is aligned to its own type
    ordered = sorted(encoded, key=lambda item: (-ITEM_BYTES[item[1]], item[0]))
    position, entries, body = 0, {}, bytearray()
    for name, dtype, array in ordered:
        entries[name] = {
            "dtype": dtype,
            "shape": list(array.shape),
            "data_offsets": [position, position + array.nbytes],
        }
        position += array.nbytes
        body += array.tobytes()
    digest = hashlib.sha256(body).hexdigest()
    return header_bytes(words, entries, digest=digest, body_start=body[:LEGACY_BYTES]) + bytes(body)


def header_bytes(
    words: Mapping[str, str],
    entries: Mapping[str, Any],
    *,
    digest: str,
    body_start: bytes | bytearray | memoryview,
) -> bytes:
    """Return length and header of a safetensors file, with the hashes that the words leave out.

    `entries` are the tensors as the format lists them, `digest` is the sha256 of their bytes, `body_start`
    the first LEGACY_BYTES of these. Hashes among `words` are replaced.
    """
    plain = _header({key: text for key, text in words.items() if key.startswith("ss_")}, entries)
    hashes = {
        "modelspec.hash_sha256": f"0x{digest}",
        "sshs_model_hash": digest,
        "sshs_legacy_hash": _legacy_hash(plain, body_start),
    }
    return _header({**words, **hashes}, entries)


def _header(words: Mapping[str, str], entries: Mapping[str, Any]) -> bytes:
    document = {"__metadata__": dict(sorted(words.items())), **entries}
    header = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header


def _legacy_hash(header: bytes, body: bytes | bytearray | memoryview) -> str:
    """kohya's old short hash: 64 KiB from the second mebibyte of the file with `ss_` words alone."""
    start = (1 << 20) - len(header)
    if start < 0:
        part = header[start:] + bytes(body[: (1 << 16) + start])
        return hashlib.sha256(part[: 1 << 16]).hexdigest()[:8]
    return hashlib.sha256(body[start : start + (1 << 16)]).hexdigest()[:8]


def _encode(name: str, array: NDArray[Any], precision: str) -> tuple[str, NDArray[Any]]:
    dtype, kind = _TYPES["fp32" if name.endswith(".alpha") else precision]
    with np.errstate(over="ignore"):
        encoded = np.ascontiguousarray(array, dtype=kind).reshape(array.shape)
    if not np.isfinite(encoded).all():
        raise KitError(
            f"{name} holds numbers that {dtype} cannot", remedy="train again with a lower learning rate"
        )
    return dtype, encoded


class LoraSize(NamedTuple):
    """Rank and alpha of most modules, and those of convolutions beyond 1 x 1 where they are others."""

    rank: int
    alpha: float
    conv_rank: int | None = None
    conv_alpha: float | None = None


def lora_size(tensors: Tensors) -> LoraSize:
    """Return the sizes that the tensors have; rsLoRA's larger alpha is among them as a plain one.

    Raises KitError when there is no module or modules of one kind differ.
    """
    plain: set[tuple[int, float]] = set()
    wide: set[tuple[int, float]] = set()
    for name, down in tensors.items():
        if name.endswith(".lora_down.weight"):
            alpha = tensors.get(name.removesuffix("lora_down.weight") + "alpha")
            rank = int(down.shape[0])
            # six digits: single precision keeps no more of a factor such as sqrt(rank)
            size = (rank, float(rank) if alpha is None else float(f"{float(alpha):.6g}"))
            (wide if down.ndim == 4 and down.shape[-1] > 1 else plain).add(size)
    first = plain or wide
    if len(first) != 1 or len(wide) > 1:
        raise KitError(
            f"the modules have {len(first | wide)} different ranks or alphas",
            remedy="train again: one rank for all, and network.conv_rank for convolutions",
        )
    usual, other = min(first), min(wide, default=None)
    return LoraSize(*usual) if other in (None, usual) else LoraSize(*usual, *other)
