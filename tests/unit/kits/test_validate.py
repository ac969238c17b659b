"""The validator against hostile and broken kits: each is refused with its code, and the good kit passes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hostile_kits import (
    HOSTILE,
    Spoil,
    every,
    field,
    file,
    meta,
    number,
    renamed,
    reworded,
    weights,
)
from kit_maker import KIT_ID, edit_manifest, make_kit
from talent_factory.kits.findings import CODES
from talent_factory.kits.images import image_problem
from talent_factory.kits.validate import validate_kit


def codes(kit: Path, base: Path | None, severity: str = "error") -> set[str]:
    found = validate_kit(kit, base_folder=base).findings
    assert all(finding.message and finding.remedy for finding in found)
    return {finding.code for finding in found if finding.severity == severity}


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
