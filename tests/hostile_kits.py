"""Spoil a good kit in every way that is known, each with the finding that must name it."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hostile_images import IMAGES, png, png_chunk
from kit_maker import (
    ALPHA,
    KIT_ID,
    RANK,
    Tensors,
    edit_manifest,
    make_tensors,
    raw_file,
    raw_tensors,
    restate_digests,
)

Spoil = Callable[[Path, Path], Any]
FIRST = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"


def field(name: str, value: Any) -> Spoil:
    """Set a field of the manifest; None removes it."""

    def spoil(kit: Path, base: Path) -> None:
        def change(manifest: dict[str, Any]) -> None:
            manifest[name] = value
            if value is None:
                del manifest[name]

        edit_manifest(kit, change)

    return spoil


def meta(**values: Any) -> Spoil:
    return lambda kit, base: edit_manifest(kit, lambda manifest: manifest["metadata"].update(values))


def file(name: str, data: bytes | None) -> Spoil:
    """Replace a file (None removes it) and state its new digest, so that only the content can be wrong."""

    def spoil(kit: Path, base: Path) -> None:
        if data is None:
            (kit / name).unlink()
            edit_manifest(kit, lambda manifest: manifest["metadata"]["digests"].pop(name))
        else:
            (kit / name).write_bytes(data)
            restate_digests(kit)

    return spoil


def weights(change: Callable[[Tensors], Any], dtype: str = "F32") -> Spoil:
    """Change the tensors and write them back, digests included."""

    def spoil(kit: Path, base: Path) -> None:
        tensors = make_tensors(base)
        change(tensors)
        file("weights.safetensors", raw_tensors(tensors, dtype=dtype))(kit, base)

    return spoil


def number(value: float, part: str = "lora_up.weight") -> Callable[[Tensors], None]:
    def change(tensors: Tensors) -> None:
        tensors[f"{FIRST}.{part}"] = np.full_like(tensors[f"{FIRST}.{part}"], value)

    return change


def every(part: str, value: float) -> Callable[[Tensors], None]:
    def change(tensors: Tensors) -> None:
        for name in tensors:
            if name.endswith(part):
                tensors[name] = np.full_like(tensors[name], value)

    return change


def renamed(old: str, new: str) -> Callable[[Tensors], None]:
    def change(tensors: Tensors) -> None:
        for name in [name for name in tensors if name.startswith(old)]:
            tensors[name.replace(old, new)] = tensors.pop(name)

    return change


def without(name: str) -> Callable[[Tensors], Any]:
    return lambda tensors: tensors.pop(f"{FIRST}.{name}")


def reshaped(part: str, shape: tuple[int, ...]) -> Callable[[Tensors], Any]:
    return lambda tensors: tensors.update({f"{FIRST}.{part}": np.ones(shape, np.float32)})


def other_width(tensors: Tensors) -> None:
    for name in [
        name for name in tensors if "attn2_to_k.lora_down" in name or "attn2_to_v.lora_down" in name
    ]:
        tensors[name] = np.ones((RANK, 768), np.float32)


def half_written(kit: Path, base: Path) -> None:
    raw = (kit / "weights.safetensors").read_bytes()
    file("weights.safetensors", raw[: len(raw) // 2])(kit, base)


def name_twice(kit: Path, base: Path) -> None:
    entry = b'{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
    file("weights.safetensors", raw_file(b'{"a":%s,"a":%s}' % (entry, entry), bytes(4)))(kit, base)


def bit_flip(kit: Path, base: Path) -> None:
    raw = bytearray((kit / "weights.safetensors").read_bytes())
    raw[-1] ^= 1
    (kit / "weights.safetensors").write_bytes(raw)


def linked(name: str, target: str) -> Spoil:
    def spoil(kit: Path, base: Path) -> None:
        (kit / name).unlink(missing_ok=True)
        (kit / name).symlink_to(target)

    return spoil


def as_link(kit: Path, base: Path) -> None:
    kit.rename(kit.with_name("elsewhere"))
    kit.symlink_to(kit.with_name("elsewhere"))


def pipe(kit: Path, base: Path) -> None:
    (kit / "talent.json").unlink()
    os.mkfifo(kit / "talent.json")


def raw_manifest(change: Callable[[bytes], bytes]) -> Spoil:
    return lambda kit, base: (kit / "talent.json").write_bytes(change((kit / "talent.json").read_bytes()))


def many_files(kit: Path, base: Path) -> None:
    deep = kit.joinpath("controls", *"abcdefgh")
    deep.mkdir(parents=True)
    (deep / "x.txt").write_text("x")


def reworded(**words: str) -> Spoil:
    """Rewrite the header's words and drop the file's digest, so that only the words can be objected to."""

    def spoil(kit: Path, base: Path) -> None:
        raw = (kit / "weights.safetensors").read_bytes()
        length = int.from_bytes(raw[:8], "little")
        header = json.loads(raw[8 : 8 + length])
        header["__metadata__"].update({name.replace("__", "."): value for name, value in words.items()})
        (kit / "weights.safetensors").write_bytes(raw_file(json.dumps(header).encode(), raw[8 + length :]))
        edit_manifest(kit, lambda manifest: manifest["metadata"].pop("digests"))

    return spoil


def beside(*names: str, data: bytes = b"x") -> Spoil:
    """Put files into the kit that no digest states."""

    def spoil(kit: Path, base: Path) -> None:
        for name in names:
            (kit / name).parent.mkdir(parents=True, exist_ok=True)
            (kit / name).write_bytes(data)

    return spoil


def gallery(kit: Path, base: Path) -> None:
    """Three pictures that are good one by one, and too much to look at together."""
    rows = zlib.compress(bytes((3 * 5000 + 1) * 5000), 1)
    for number in range(3):
        words = png_chunk(b"tEXt", b"number\0%d" % number)
        (kit / "examples" / f"x{number}.png").write_bytes(png(5000, 5000, rows, extra=words))


def crowd(kit: Path, base: Path) -> None:
    for number in range(2010):
        (kit / "controls" / f"{number}.txt").touch()


def sparse(name: str, size: int) -> Spoil:
    """Make a file look large without writing it."""

    def spoil(kit: Path, base: Path) -> None:
        with (kit / name).open("wb") as file:
            file.truncate(size)
        restate = {"weights.safetensors", "prompts.json"} & {name}
        edit_manifest(
            kit, lambda manifest: manifest["metadata"]["digests"].update(dict.fromkeys(restate, "0" * 64))
        )

    return spoil


def appended(name: str, data: bytes) -> Spoil:
    return lambda kit, base: file(name, (kit / name).read_bytes() + data)(kit, base)


def table(
    places: list[list[Any]], shape: list[Any] | None = None, *, dtype: str = "F32", size: int = 20
) -> bytes:
    """A file whose header states tensors at these places."""
    entries = {
        f"t{number}": {"dtype": dtype, "shape": [2] if shape is None else shape, "data_offsets": place}
        for number, place in enumerate(places)
    }
    return raw_file(json.dumps(entries).encode(), bytes(size))


def empty_tensors(count: int) -> bytes:
    entry = b'"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    return raw_file(b"{" + b",".join(entry % number for number in range(count)) + b"}")


def many_words(count: int) -> bytes:
    return raw_file(b'{"__metadata__":{' + b",".join(b'"%d":""' % number for number in range(count)) + b"}}")


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.getcwd, ())


HOSTILE: dict[str, tuple[Spoil, str]] = {
    "no signature": (lambda kit, base: (kit / "SIGNATURE.json").write_text("{}"), "signature"),
    # the folder
    "no folder": (lambda kit, base: shutil.rmtree(kit), "kit-missing"),
    "a file instead": (lambda kit, base: (shutil.rmtree(kit), kit.write_text("x")), "kit-missing"),
    "the kit is a link": (as_link, "link"),
    "manifest is a link": (linked("talent.json", "/etc/hostname"), "link"),
    "weights are a link": (linked("weights.safetensors", "/dev/zero"), "link"),
    "a dangling link": (linked("controls/pose.png", "nowhere"), "link"),
    "a link to a folder": (linked("controls/all", "/"), "link"),
    "manifest is a pipe": (pipe, "link"),
    "too deep": (many_files, "too-many-files"),
    "pickle beside": (lambda kit, base: (kit / "model.ckpt").write_bytes(pickle.dumps(Bomb())), "pickle"),
    "pickle in capitals": (lambda kit, base: (kit / "controls" / "A.PKL").write_bytes(b"."), "pickle"),
    "object array": (lambda kit, base: (kit / "examples" / "x.npy").write_bytes(b"."), "pickle"),
    # the manifest
    "no manifest": (lambda kit, base: (kit / "talent.json").unlink(), "file-missing"),
    "manifest too large": (raw_manifest(lambda raw: raw + b" " * (1 << 20)), "file-unreadable"),
    "manifest is no JSON": (raw_manifest(lambda raw: raw[:-5]), "manifest-json"),
    "manifest is empty": (raw_manifest(lambda raw: b""), "manifest-json"),
    "manifest is a list": (raw_manifest(lambda raw: b"[]"), "manifest-json"),
    "manifest not UTF-8": (raw_manifest(lambda raw: raw.replace(b"nobody", b"nob\xffdy")), "manifest-json"),
    "manifest in UTF-16": (raw_manifest(lambda raw: raw.decode().encode("utf-16")), "manifest-json"),
    "manifest too deep": (raw_manifest(lambda raw: b'{"metadata":' + b"[" * 90_000), "manifest-json"),
    "manifest deep but whole": (
        raw_manifest(lambda raw: b'{"metadata":{"a":' + b"[" * 200 + b"]" * 200 + b"}}"),
        "manifest-json",
    ),
    "a name twice": (
        raw_manifest(lambda raw: raw.replace(b"{", b'{"id":"avatar.style.x",', 1)),
        "manifest-json",
    ),
    "NaN": (raw_manifest(lambda raw: raw.replace(b'"alpha": 2.0', b'"alpha": NaN')), "manifest-json"),
    "1e999": (raw_manifest(lambda raw: raw.replace(b'"alpha": 2.0', b'"alpha": 1e999')), "manifest-json"),
    "endless digits": (
        raw_manifest(lambda raw: raw.replace(b'"alpha": 2.0', b'"alpha": ' + b"9" * 6000)),
        "manifest-json",
    ),
    "id with dots": (field("id", "avatar.identity..dot"), "id"),
    "id that climbs": (field("id", "avatar.identity.x/../../y"), "id"),
    "id in capitals": (field("id", "avatar.identity.Dot_Test"), "id"),
    "id with a newline": (field("id", KIT_ID + "\n"), "id"),
    "id of a device": (field("id", "avatar.identity.con"), "id"),
    "id of 200 letters": (field("id", "avatar.identity." + "a" * 200), "id"),
    "id as number": (field("id", 7), "id"),
    "id of another kit": (field("id", "avatar.identity.other"), "id-mismatch"),
    "folder renamed": (lambda kit, base: None, "id-mismatch"),
    "no token": (field("token", None), "token-missing"),
    "token with a space": (field("token", "dot test"), "manifest-field"),
    "token with a newline": (field("token", "dot\n"), "manifest-field"),
    "field missing": (field("kind", None), "manifest-field"),
    "field unknown": (field("surprise", 1), "manifest-field"),
    "other category": (field("category", "Presence/Voice"), "manifest-field"),
    "other kind": (field("kind", "checkpoint"), "manifest-field"),
    "version as number": (field("sdx_version", 1.5), "manifest-field"),
    "rank as text": (field("lora_rank", "4"), "manifest-field"),
    "rank of true": (field("lora_rank", True), "manifest-field"),
    "rank of zero": (field("lora_rank", 0), "manifest-field"),
    "rank beyond all": (field("lora_rank", 10**40), "manifest-field"),
    "weight of three": (field("default_weight", 3), "manifest-field"),
    "no size": (field("size_mb", 0), "manifest-field"),
    "time without zone": (field("created_at", "2026-01-31T12:00:00"), "manifest-field"),
    "time as number": (field("created_at", 1700000000), "manifest-field"),
    "time as digits": (field("created_at", "1700000000"), "manifest-field"),
    "no such day": (field("created_at", "2026-02-31T12:00:00Z"), "manifest-field"),
    "base of two lines": (field("base_model", "mini\nLoRA rank: 9"), "manifest-field"),
    "steps below version 1's": (field("training_config", {"max_train_steps": 5}), "manifest-field"),
    "consent unknown": (meta(subject={"consent": "maybe"}), "manifest-field"),
    "a real minor": (meta(subject={"real_person": True, "minor": True, "consent": "written"}), "subject"),
    # digests
    "one bit flipped": (bit_flip, "digest"),
    "digest wrong": (meta(digests={"weights.safetensors": "0" * 64}), "digest"),
    "digest no hex": (meta(digests={"weights.safetensors": "G" * 64}), "manifest-field"),
    "digest of an absent file": (meta(digests={"../../etc/passwd": "0" * 64}), "digest"),
    "weights without digest": (meta(digests={"base.txt": "0" * 64}), "digest-missing"),
    # the weights as a file
    "no weights": (file("weights.safetensors", None), "file-missing"),
    "weights empty": (file("weights.safetensors", b""), "weights-truncated"),
    "weights are text": (file("weights.safetensors", b"# Mock weights file\n"), "weights-header"),
    "weights are a pickle": (file("weights.safetensors", pickle.dumps(Bomb())), "weights-header"),
    "weights are a zip": (file("weights.safetensors", b"PK\x03\x04" + bytes(99)), "weights-header"),
    "weights cut": (half_written, "weights-truncated"),
    "header too long": (
        file("weights.safetensors", (9 << 20).to_bytes(8, "little") + b"{}"),
        "weights-header",
    ),
    "tensor name twice": (name_twice, "weights-duplicate"),
    "header without tensors": (file("weights.safetensors", raw_file(b"{}")), "weights-empty"),
    # the weights as tensors
    "NaN in single": (weights(number(np.nan)), "not-finite"),
    "NaN in half": (weights(number(np.nan), "F16"), "not-finite"),
    "NaN in bfloat16": (weights(number(np.nan), "BF16"), "not-finite"),
    "infinity": (weights(number(np.inf)), "not-finite"),
    "minus infinity in half": (weights(number(-np.inf), "F16"), "not-finite"),
    "NaN in down": (weights(number(np.nan, "lora_down.weight")), "not-finite"),
    "untrained": (weights(every("lora_up.weight", 0)), "all-zero"),
    "down is zero": (weights(every("lora_down.weight", 0)), "all-zero"),
    "minus zero": (weights(every("lora_up.weight", -0.0), "F16"), "all-zero"),
    "exploded": (weights(every("lora_up.weight", 1000)), "delta-size"),
    "exploded beyond double": (weights(every("weight", 3e38)), "delta-size"),
    "rank other than stated": (field("lora_rank", RANK + 1), "rank"),
    "rank of one module": (
        weights(lambda t: (reshaped("lora_down.weight", (2, 32))(t), reshaped("lora_up.weight", (32, 2))(t))),
        "rank",
    ),
    "unknown module": (weights(renamed(FIRST, "lora_unet_somewhere_else")), "key-unknown"),
    "diffusers names": (weights(renamed("lora_unet_", "unet.")), "key-unknown"),
    "unknown part": (
        weights(lambda t: t.update({f"{FIRST}.lora_mid.weight": np.ones(4, np.float32)})),
        "key-unknown",
    ),
    "lengths of outputs": (
        weights(lambda t: t.update({f"{FIRST}.dora_scale": np.ones((32, 1, 1, 1), np.float32)})),
        "shape",
    ),
    "numbered text encoder": (weights(renamed("lora_te_", "lora_te1_")), "key-unknown"),
    "no up": (weights(without("lora_up.weight")), "pair-missing"),
    "no down": (weights(without("lora_down.weight")), "pair-missing"),
    "alpha alone": (
        weights(lambda t: (without("lora_up.weight")(t), without("lora_down.weight")(t))),
        "pair-missing",
    ),
    "no alpha": (weights(without("alpha")), "alpha-missing"),
    "alpha zero": (weights(number(0, "alpha")), "alpha-value"),
    "alpha negative": (weights(number(-ALPHA, "alpha")), "alpha-value"),
    "alpha NaN": (weights(number(np.nan, "alpha")), "alpha-value"),
    "alpha other than stated": (weights(every("alpha", 1.0)), "alpha-value"),
    "two alphas": (weights(reshaped("alpha", (2,))), "shape"),
    "down too wide": (weights(reshaped("lora_down.weight", (RANK, 33))), "shape"),
    "convolution for linear": (weights(reshaped("lora_down.weight", (RANK, 32, 1, 1))), "shape"),
    "scalar for a matrix": (weights(reshaped("lora_up.weight", ())), "shape"),
    "weights of SD 1.5": (weights(other_width), "base-mismatch"),
    "text modules unsaid": (meta(text_encoder=False), "text-encoder"),
    "hash of the tensors": (reworded(modelspec__hash_sha256="0x" + "0" * 64), "header-metadata"),
    # the other files
    "no prompts": (file("prompts.json", None), "file-missing"),
    "prompts are text": (file("prompts.json", b"portrait"), "prompts"),
    "prompts without positive": (file("prompts.json", b'{"negative_prompts": []}'), "prompts"),
    "prompts of none": (file("prompts.json", b'{"positive_prompts": []}'), "prompts"),
    "prompts with numbers": (file("prompts.json", b'{"positive_prompts": [1]}'), "prompts"),
    "no base.txt": (file("base.txt", None), "file-missing"),
    "base.txt of another rank": (
        file("base.txt", b"Base model: mini\nSDX version: 1.5\nLoRA rank: 8\n"),
        "base-txt",
    ),
    "base.txt of bytes": (file("base.txt", b"\xff\x00"), "base-txt"),
    "no licence": (file("LICENSE.txt", None), "file-missing"),
    "empty licence": (file("LICENSE.txt", b" \n"), "license-empty"),
    "licence of bytes": (file("LICENSE.txt", bytes(range(256))), "license-empty"),
    "example is text": (file("examples/01.png", b"placeholder"), "example"),
    "example is empty": (file("examples/01.png", b""), "example"),
    "example is a script": (file("examples/02.png", b"<svg onload='x'/>"), "example"),
    "preview is cut": (file("preview.png", b"\x89PNG\r\n\x1a\n" + bytes(30)), "example"),
    # names and kinds
    "name of a device": (beside("examples/CON.png"), "name"),
    "name of a device with a dot": (beside("controls/nul.tar.json"), "name"),
    "name that ends with a dot": (beside("controls/pose."), "name"),
    "name that ends with a space": (beside("controls/pose.txt "), "name"),
    "name with a backslash": (beside("controls/..\\..\\evil.txt"), "name"),
    "name with a colon": (beside("controls/pose.png:hidden.txt"), "name"),
    "name with a newline": (beside("controls/pose\n.txt"), "name"),
    "name that turns the order of letters": (beside("controls/pose\u202egnp.txt"), "name"),
    "name with an invisible joint": (beside("controls/po\u200dse.txt"), "name"),
    "name that is no text": (
        lambda kit, base: Path(os.fsdecode(bytes(kit / "x") + b"\xff.txt")).touch(),
        "name",
    ),
    "name of 220 letters": (beside("controls/" + "a" * 216 + ".txt"), "name"),
    "two names but for the case": (beside("examples/01.PNG"), "name"),
    "two names but for the accents": (beside("controls/\u00e9.txt", "controls/e\u0301.txt"), "name"),
    "a folder and a file but for the case": (beside("Examples/x.txt"), "name"),
    "a script": (beside("install.sh"), "kind"),
    "a Python module": (beside("controls/sitecustomize.py"), "kind"),
    "a program": (beside("controls/viewer.exe"), "kind"),
    "a library": (beside("controls/libx.so"), "kind"),
    "a page": (beside("README.html"), "kind"),
    "a drawing with scripts": (beside("examples/04.svg"), "kind"),
    "an archive inside": (beside("controls/more.zip"), "kind"),
    "a shortcut": (beside("controls/pose.lnk"), "kind"),
    "a file of no kind": (beside("controls/payload"), "kind"),
    "another model format": (beside("controls/model.gguf"), "kind"),
    "a compiled module": (beside("controls/x.pyc"), "kind"),
    "weights of Keras": (beside("controls/x.h5"), "pickle"),
    "weights of joblib": (beside("x.joblib"), "pickle"),
    "weights of TorchServe": (beside("x.mar"), "pickle"),
    "a folder of two thousand files": (crowd, "too-many-files"),
    "a large file that says little": (sparse("controls/pose.txt", 1 << 33), "file-unreadable"),
    "prompts of gigabytes": (sparse("prompts.json", 1 << 33), "file-unreadable"),
    "weights of gigabytes": (sparse("weights.safetensors", 1 << 32), "weights-header"),
    "weights beyond all limits": (sparse("weights.safetensors", 1 << 33), "file-unreadable"),
    # the header of the weights
    "a million empty tensors": (file("weights.safetensors", empty_tensors(130_000)), "weights-header"),
    "a header of brackets": (
        file("weights.safetensors", raw_file(b"{" + b"[" * 4_000_000)),
        "weights-header",
    ),
    "a header of commas": (
        file("weights.safetensors", raw_file(b'{"a":[' + b"1," * 4_000_000)),
        "weights-header",
    ),
    "words without end": (file("weights.safetensors", many_words(400_000)), "weights-header"),
    "half a letter among the words": (
        file("weights.safetensors", raw_file(b'{"__metadata__":{"a":"\\ud800"}}')),
        "weights-header",
    ),
    "words twice": (
        file("weights.safetensors", raw_file(b'{"__metadata__":{"a":"","a":""}}')),
        "weights-duplicate",
    ),
    "words that are numbers": (
        file("weights.safetensors", raw_file(b'{"__metadata__":{"a":1}}')),
        "weights-header",
    ),
    "tensors that share bytes": (file("weights.safetensors", table([[0, 8], [4, 12]])), "weights-layout"),
    "tensors with a hole": (file("weights.safetensors", table([[0, 8], [12, 20]])), "weights-layout"),
    "tensors that end before they begin": (
        file("weights.safetensors", table([[8, 0], [8, 16]])),
        "weights-header",
    ),
    "offsets beyond all numbers": (
        file("weights.safetensors", table([[0, 8], [8, 2**70]])),
        "weights-header",
    ),
    "offsets that are true": (file("weights.safetensors", table([[False, 8], [8, 16]])), "weights-header"),
    "a shape beyond all numbers": (
        file("weights.safetensors", table([[0, 8]], [2**63, 2**63])),
        "weights-header",
    ),
    "a shape of nothing": (file("weights.safetensors", table([[0, 8]], [0])), "weights-header"),
    "a shape below nothing": (file("weights.safetensors", table([[0, 8]], [-2])), "weights-header"),
    "a shape of text": (file("weights.safetensors", table([[0, 8]], ["2"])), "weights-header"),
    "eight-bit numbers": (
        file("weights.safetensors", table([[0, 2]], [2], dtype="F8_E4M3")),
        "weights-dtype",
    ),
    "doubles": (file("weights.safetensors", table([[0, 16]], [2], dtype="F64")), "weights-dtype"),
    "truth values": (file("weights.safetensors", table([[0, 2]], [2], dtype="BOOL")), "weights-dtype"),
    "many whole numbers": (file("weights.safetensors", table([[0, 16]], [2], dtype="I64")), "weights-dtype"),
    "a second file behind the tensors": (appended("weights.safetensors", b"PK\x03\x04"), "weights-layout"),
    "a page in front of the header": (
        file("weights.safetensors", b"<html><script>" + bytes(99)),
        "weights-header",
    ),
    "too faint to change anything": (weights(every("weight", 1e-20)), "all-zero"),
    # the manifest
    "id with look-alike letters": (field("id", "avatar.identity.d\u043et"), "id"),
    "id of another category": (field("id", "avatar.outfit.dot"), "id"),
    "half a letter in the manifest": (
        raw_manifest(lambda raw: raw.replace(b'"nobody"', b'"\\ud800"')),
        "manifest-field",
    ),
    "a byte order mark": (raw_manifest(lambda raw: b"\xef\xbb\xbf" + raw), "manifest-json"),
    "alpha below zero": (meta(alpha=-1), "manifest-field"),
    "alpha of text": (meta(alpha="2"), "manifest-field"),
    "rank of convolutions beyond all": (meta(conv_rank=100_000), "manifest-field"),
    "a description without end": (meta(description="x" * 30_000), "manifest-field"),
    "a base without end": (field("base_model", "x" * 600), "manifest-field"),
    "weights of NaN as text": (field("default_weight", "NaN"), "manifest-field"),
    "no base": (field("base_model", None), "manifest-field"),
    "a base that is nothing": (field("base_model", ""), "manifest-field"),
    "tags of numbers": (meta(tags=[1, 2]), "manifest-field"),
    "digest of a parent folder": (meta(digests={"../other/weights.safetensors": "0" * 64}), "digest"),
    "digest of the root": (meta(digests={"/etc/passwd": "0" * 64}), "digest"),
    "prompts with a name twice": (
        file("prompts.json", b'{"positive_prompts":["a"],"positive_prompts":["b"]}'),
        "prompts",
    ),
    "prompts too deep": (file("prompts.json", b'{"positive_prompts":' + b"[" * 100_000), "prompts"),
    "prompts of an endless line": (
        file("prompts.json", json.dumps({"positive_prompts": ["x" * 5000]}).encode()),
        "prompts",
    ),
    "licence in UTF-16": (file("LICENSE.txt", "all rights reserved".encode("utf-16")), "license-empty"),
    "base.txt without end": (file("base.txt", b"Base model: mini\n" * 70_000), "file-unreadable"),
    # pictures
    **{f"picture: {name}": (file("examples/02.png", data), "example") for name, (data, _) in IMAGES.items()},
    "pictures without end": (gallery, "example"),
    "a spoiled control picture": (beside("controls/pose.png"), "example"),
}
