"""All that is known to be hostile is refused by name, and nothing is left behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import hostile_archives
import hostile_loras
from fuzzing import fuzzed
from hostile_images import IMAGES, place
from hostile_kits import HOSTILE
from kit_maker import make_images
from lora_files import write_arrays
from talent_factory.kits.findings import CODES
from talent_factory.kits.images import clean_png, image_problem, tells_place
from talent_factory.kits.intake.bring import bring
from talent_factory.kits.intake.outcome import Order, Taken
from talent_factory.kits.validate import validate_kit


def refused(path: Path, tmp_path: Path) -> Taken:
    """Import `path` into an empty workspace; whatever comes of it, nothing may be left there."""
    root = tmp_path / "workspace" / "talents"
    taken = bring([path], Order(root=root))
    assert [item.status for item in taken] == ["refused"]
    assert not root.exists() or not any(root.iterdir())
    assert taken[0].message
    assert taken[0].remedy
    assert taken[0].code in CODES
    return taken[0]


def test_the_corpus_is_large() -> None:
    assert len(HOSTILE) + len(hostile_archives.FILES) + len(hostile_loras.LORAS) + len(IMAGES) >= 400


@pytest.mark.parametrize("case", hostile_archives.FILES)
def test_hostile_archives_are_refused(case: str, tmp_path: Path) -> None:
    path = hostile_archives.write(tmp_path, case)
    assert refused(path, tmp_path).code == hostile_archives.FILES[case][2]
    assert sorted(item.name for item in tmp_path.iterdir() if item.name != "workspace") == [path.name]


def test_an_archive_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    assert refused(hostile_archives.linked_archive(tmp_path), tmp_path).code == "link"


@pytest.mark.parametrize("case", hostile_loras.LORAS)
def test_hostile_loras_are_refused(case: str, tmp_path: Path) -> None:
    path = hostile_loras.write(tmp_path, case)
    assert refused(path, tmp_path).code == hostile_loras.LORAS[case][2]


def test_a_pickle_is_refused_without_being_opened(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    path.write_bytes(b"x")
    path.chmod(0)
    assert refused(path, tmp_path).code == "pickle"


@pytest.mark.parametrize("case", hostile_loras.STRANGE_WORDS)
def test_strange_words_in_a_header_do_no_harm(case: str, tmp_path: Path) -> None:
    root = tmp_path / "talents"
    path = write_arrays(tmp_path / "x.safetensors", hostile_loras.small(), hostile_loras.STRANGE_WORDS[case])
    (taken,) = bring([path], Order(root=root))
    assert taken.status == "imported"
    assert validate_kit(root / taken.id).valid
    shown = (root / taken.id / "talent.json").read_text("utf-8")
    assert "<script" not in shown
    assert "\\u001b" not in shown
    assert "Users" not in shown
    assert len(shown) < 50_000


@pytest.mark.parametrize("case", IMAGES)
def test_hostile_images_are_refused(case: str) -> None:
    data, words = IMAGES[case]
    problem = image_problem(data)
    assert problem
    assert words in problem
    assert "\n" not in problem


def test_places_are_seen_and_taken_out(tmp_path: Path) -> None:
    raw = place()
    assert image_problem(raw) == ""
    assert tells_place(raw)
    clean = clean_png(raw, side=16)
    assert image_problem(clean) == ""
    assert not tells_place(clean)
    assert not tells_place(make_images(tmp_path, 1)[0].read_bytes())


def test_a_picture_with_a_place_is_a_warning(kit: Path, base: Path) -> None:
    (kit / "examples" / "04.jpg").write_bytes(place())
    report = validate_kit(kit, base_folder=base)
    assert report.valid
    assert "image-place" in {finding.code for finding in report.warnings}


def test_equal_numbers_make_equal_damage() -> None:
    assert [fuzzed(number) for number in range(16)] == [fuzzed(number) for number in range(16)]
    assert len({fuzzed(number).data for number in range(64)}) > 50


@pytest.mark.slow
def test_the_corpus_and_random_damage_never_break_or_pass_the_bounds() -> None:
    script = Path(__file__).resolve().parents[2] / "fuzzing.py"
    command = [sys.executable, str(script), "--corpus", "--seed", "1", "--count", "1500"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=1800)
    figures = json.loads(done.stdout)
    assert figures["broken"] == []
    assert figures["items"] > 1900
    assert figures["peak_mb"] <= 256
    assert {"archive", "weights-header", "name", "refused", "accepted"} <= figures["said"].keys()
