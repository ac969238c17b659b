"""The validator against hostile and broken kits: each is refused with its code, and the good kit passes."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from kit_maker import (
    ALPHA,
    KIT_ID,
    RANK,
    Tensors,
    edit_manifest,
    make_kit,
    make_tensors,
    raw_file,
    raw_tensors,
    restate_digests,
)
from talent_factory.kits.findings import CODES
from talent_factory.kits.images import image_problem
from talent_factory.kits.validate import validate_kit

Spoil = Callable[[Path, Path], Any]
FIRST = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"


def codes(kit: Path, base: Path | None, severity: str = "error") -> set[str]:
    found = validate_kit(kit, base_folder=base).findings
    assert all(finding.message and finding.remedy for finding in found)
    return {finding.code for finding in found if finding.severity == severity}


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
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_kits_are_refused_with_their_code(case: str, kit: Path, base: Path) -> None:
    spoil, code = HOSTILE[case]
    spoil(kit, base)
    if case == "folder renamed":
        kit = kit.rename(kit.with_name("avatar.identity.other"))
    report = validate_kit(kit, base_folder=base)
    assert not report.valid
    assert code in codes(kit, base)
    assert code in CODES


def test_the_good_kit_passes_without_a_finding(kit: Path, base: Path) -> None:
    report = validate_kit(kit, base_folder=base)
    assert report.valid
    assert report.findings == ()
    assert report.id == KIT_ID


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_every_precision_passes(dtype: str, kit: Path, base: Path) -> None:
    weights(lambda tensors: None, dtype)(kit, base)
    assert codes(kit, base) == set()


def test_a_style_needs_no_token(tmp_path: Path, base: Path) -> None:
    kit = make_kit(tmp_path, base, work=tmp_path / "work", id="avatar.style.ink", token=None)
    assert validate_kit(kit, base_folder=base).valid


WEAK: dict[str, tuple[Spoil, str]] = {
    "one idle module": (weights(number(0)), "zero-module"),
    "strong": (weights(every("lora_up.weight", 20)), "delta-size"),
    "size_mb off": (field("size_mb", 7.5), "size"),
    "no consent": (meta(subject={"real_person": True}), "subject"),
    "no digests": (
        lambda kit, base: edit_manifest(kit, lambda m: m["metadata"].pop("digests")),
        "digest-missing",
    ),
    "a file more": (lambda kit, base: (kit / "notes.txt").write_text("hello"), "digest-missing"),
    "two examples": (file("examples/03.png", None), "examples-few"),
    "header of another rank": (reworded(ss_network_dim="9"), "header-metadata"),
}


@pytest.mark.parametrize("case", WEAK)
def test_weak_kits_pass_with_a_warning(case: str, kit: Path, base: Path) -> None:
    spoil, code = WEAK[case]
    spoil(kit, base)
    assert codes(kit, base) == set()
    assert code in codes(kit, base, "warning")


def test_every_code_is_reached_by_a_test() -> None:
    elsewhere = {"base-unknown", "id-collision", "weights-dtype", "weights-layout"}
    # test_hostile.py and test_intake.py reach these
    elsewhere |= {"archive", "archive-bomb", "kind", "lora-form", "name", "image-place"}
    reached = {code for _, code in (*HOSTILE.values(), *WEAK.values())}
    assert reached | elsewhere == set(CODES)


def test_a_base_that_cannot_be_looked_up_is_a_finding(kit: Path, tmp_path: Path) -> None:
    assert codes(kit, tmp_path / "no_base") == {"base-unknown"}


def test_many_like_findings_are_counted(kit: Path, base: Path) -> None:
    weights(renamed("lora_unet_", "unet_"))(kit, base)
    found = [f for f in validate_kit(kit, base_folder=base).findings if f.code == "key-unknown"]
    assert len(found) == 6
    assert "74 more" in found[-1].message


def test_huge_images_are_refused_by_their_header() -> None:
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    bomb = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(bytes(99)))
        + chunk(b"IEND", b"")
    )
    assert "too many" in image_problem(bomb)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_images_are_decoded_to_the_end(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"image.{suffix}"
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    raw = path.read_bytes()
    assert image_problem(raw) == ""
    assert image_problem(raw[: len(raw) // 2]) != ""


@given(
    st.binary(max_size=400),
    st.sampled_from(["talent.json", "weights.safetensors", "prompts.json", "base.txt"]),
)
def test_random_bytes_in_a_file_become_findings(spare_kit: Path, base: Path, data: bytes, name: str) -> None:
    kept = (spare_kit / name).read_bytes()
    try:
        (spare_kit / name).write_bytes(data)
        assert not validate_kit(spare_kit, base_folder=base).valid
    finally:
        (spare_kit / name).write_bytes(kept)


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_flipped_byte_of_the_weights_never_passes(
    spare_kit: Path, base: Path, place: int, flip: int
) -> None:
    path = spare_kit / "weights.safetensors"
    kept = path.read_bytes()
    try:
        raw = bytearray(kept)
        raw[place % len(raw)] ^= flip
        path.write_bytes(raw)
        assert not validate_kit(spare_kit, base_folder=base).valid
    finally:
        path.write_bytes(kept)


@given(
    st.binary(max_size=300),
    st.sampled_from([b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"RIFF\x00\x00\x00\x00WEBPVP8 "]),
)
def test_random_images_are_refused_in_words(data: bytes, magic: bytes) -> None:
    assert image_problem(magic + data)


@pytest.fixture(scope="module")
def spare_kit(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Path:
    root = tmp_path_factory.mktemp("spare")
    return make_kit(root, base, work=root / ".work")
