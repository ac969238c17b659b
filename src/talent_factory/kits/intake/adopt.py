"""Make a kit of one LoRA file of another program: its tensors as they are, and all that is known about it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import mmap
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from talent_factory.kits.folder import MAX_WEIGHTS_BYTES, PICKLE_SUFFIXES
from talent_factory.kits.header import Header, HeaderError, parse_header
from talent_factory.kits.images import ImageRefused, clean_png, parameters_text
from talent_factory.kits.intake.alphas import header_alphas
from talent_factory.kits.intake.archive import unreadable
from talent_factory.kits.intake.bases import Choice, choose_base
from talent_factory.kits.intake.facts import Facts, Reason, Wishes, gather
from talent_factory.kits.intake.forms import Named, form_of, grouped, other_kind
from talent_factory.kits.intake.refusal import IntakeRefused
from talent_factory.kits.intake.reshape import Reshaped, reshape
from talent_factory.kits.intake.sidecars import adapter_config, beside, picture_beside
from talent_factory.kits.keys import expected_modules
from talent_factory.kits.strict import StrictJsonError, open_regular, parse_text

# Names that say nothing about the file; its folder's name does.
_NAMELESS = {
    "pytorch_lora_weights",
    "adapter_model",
    "weights",
    "model",
    "lora",
    "last",
    "diffusion_pytorch_model",
}
_PICTURE_CHARACTERS = 12 << 20


class Lora(NamedTuple):
    """One LoRA file, read and understood; `data` are the bytes after the header and die with the file."""

    path: Path
    stem: str
    raw: Callable[[], Iterator[memoryview]]
    data: memoryview
    size: int
    digest: str
    form: str
    header: Header
    choice: Choice
    reshaped: Reshaped
    facts: Facts
    picture: tuple[str, bytes] | None
    """Name of the source and a clean PNG."""
    remarks: tuple[str, ...]


@contextmanager
def opened_lora(path: Path, *, base: str | None, wishes: Wishes) -> Iterator[Lora]:
    """Open, check and understand a LoRA file. Raises IntakeRefused with the code of what is wrong."""
    _refuse_suffix(path)
    with _mapped(path) as buffer:
        try:
            header = parse_header(buffer)
        except HeaderError as error:
            raise IntakeRefused(error.message, code=error.code, remedy=error.remedy) from error
        with memoryview(buffer) as whole, whole[header.data_start :] as data:
            named, form = _named(header)
            choice = choose_base(named, header.metadata, wished=base)
            modules = expected_modules(choice.base)
            alphas = header_alphas(header.metadata, adapter_config(path) if form == "PEFT" else None)
            reshaped = reshape(data, header, base=choice.base, modules=modules, alphas=alphas)
            stem = path.stem if path.stem.lower() not in _NAMELESS else path.absolute().parent.name
            told, remarks = beside(path)
            facts = gather(header.metadata, told, stem=stem, wishes=wishes)
            picture, remark = _picture(path, header.metadata)
            yield Lora(
                path=path,
                stem=stem,
                raw=lambda: _pieces(whole),
                data=data,
                size=len(whole),
                digest=hashlib.sha256(whole).hexdigest(),
                form=form,
                header=header,
                choice=choice,
                reshaped=reshaped,
                facts=_with_prompts(facts, path),
                picture=picture,
                remarks=(*remarks, *remark),
            )


def same_tensors(weights: Path, lora: Lora) -> bool:
    """Whether the file `weights` holds the very tensors of `lora`, whatever the headers say beside them."""
    try:
        descriptor, size = open_regular(weights, limit=MAX_WEIGHTS_BYTES)
    except OSError:
        return False
    with os.fdopen(descriptor, "rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        # most files differ in this alone, and are not read
        if size == 0 or size - 8 - length != len(lora.data):
            return False
        with mmap.mmap(stream.fileno(), size, access=mmap.ACCESS_READ) as buffer:
            try:
                header = parse_header(buffer)
            except HeaderError:
                return False
            with memoryview(buffer) as whole, whole[header.data_start :] as data:
                return header.tensors == lora.header.tensors and data == lora.data


def _refuse_suffix(path: Path) -> None:
    suffix = path.suffix.lower()
    if suffix in PICKLE_SUFFIXES:
        raise IntakeRefused(
            f"a {suffix} file can run code when it is loaded; it is not opened",
            code="pickle",
            remedy="take its .safetensors form from the same source",
        )
    if suffix != ".safetensors":
        raise IntakeRefused(
            f"a {suffix or 'nameless kind of'} file is neither a LoRA nor an archive of kits",
            code="kind",
            remedy="give .safetensors files, .zip, .tar or .tar.gz archives, or folders of them",
        )


@contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap | bytes]:
    try:
        descriptor, size = open_regular(path, limit=MAX_WEIGHTS_BYTES)
        try:
            buffer = mmap.mmap(descriptor, size, access=mmap.ACCESS_READ) if size else b""
        finally:
            os.close(descriptor)
    except OSError as error:
        raise unreadable(path, error) from error
    try:
        yield buffer
    finally:
        # an error on its way keeps arrays alive that look into the file; it is unmapped with them
        if isinstance(buffer, mmap.mmap):
            with suppress(BufferError):
                buffer.close()


def _pieces(whole: memoryview) -> Iterator[memoryview]:
    for start in range(0, len(whole), 1 << 22):
        yield whole[start : start + (1 << 22)]


def _named(header: Header) -> tuple[list[Named], str]:
    names = [entry.name for entry in header.tensors]
    kind = other_kind(names)
    if kind:
        raise IntakeRefused(
            f"this is {kind}, not a plain LoRA of Stable Diffusion",
            code="lora-form",
            remedy="kits hold plain LoRA, LoCon and kohya's DoRA for SD 1.5, SDXL and mini",
        )
    named, strange = grouped(header.tensors)
    if strange or not named:
        first = strange[0] if strange else names[0]
        raise IntakeRefused(f"{first[:120]!r} is no part of a LoRA that is known", code="key-unknown")
    return named, form_of(names)


def _picture(path: Path, words: Mapping[str, str]) -> tuple[tuple[str, bytes] | None, tuple[str, ...]]:
    """The preview as a clean PNG: beside the file, else inside its header."""
    remarks: list[str] = []
    for source, data in (picture_beside(path) or ("", b""), _thumbnail(words), _cover(words)):
        if not data:
            continue
        try:
            return (source, clean_png(data, side=1024)), tuple(remarks)
        except ImageRefused as error:
            remarks.append(f"{source} is passed over: {error}")
    return None, tuple(remarks)


def _thumbnail(words: Mapping[str, str]) -> tuple[str, bytes]:
    text = words.get("modelspec.thumbnail", "")
    head, comma, body = text.partition(",")
    good = head.startswith("data:image/") and head.endswith(";base64") and bool(comma)
    return "modelspec.thumbnail", _decoded(body) if good else b""


def _cover(words: Mapping[str, str]) -> tuple[str, bytes]:
    source = "ssmd_cover_images"
    try:
        covers = parse_text(words.get(source, "[]"))
    except StrictJsonError:
        return source, b""
    first = covers[0] if isinstance(covers, list) and covers else ""
    return source, _decoded(first) if isinstance(first, str) else b""


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True) if len(text) <= _PICTURE_CHARACTERS else b""
    except (binascii.Error, ValueError):
        return b""


def _with_prompts(facts: Facts, path: Path) -> Facts:
    """Add the prompt that the preview picture was drawn with, where it carries one."""
    found = picture_beside(path)
    text = parameters_text(found[1]) if found and not facts.prompts else ""
    said = text.partition("\nNegative prompt:")[0].partition("\nSteps:")[0]
    prompt = " ".join(re.sub(r"<lora:[^<>]*>", "", said).split())[:1500]
    if not prompt or found is None:
        return facts
    reason = Reason(field="prompts", value=prompt[:160], why=f"the picture {found[0]}")
    return facts.model_copy(update={"prompts": (prompt,), "reasons": (*facts.reasons, reason)})
