"""Nobody is published without consent, and no minor at all; cards say where licence and likeness part."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from kit_maker import KIT_ID, edit_manifest, read_manifest_json
from talent_factory.core.errors import PolicyRefused, UsageError
from talent_factory.kits.consent import cautions, check_publishable, set_subject, subject_of
from talent_factory.kits.export import export_kit
from talent_factory.kits.manifest import read_manifest
from talent_factory.kits.signing import SIGNATURE_FILE
from talent_factory.kits.validate import validate_kit

PROOF = "0" * 64
REAL: dict[str, Any] = {"real_person": True}


def state(kit: Path, subject: dict[str, Any] | None, **metadata: Any) -> None:
    def change(manifest: dict[str, Any]) -> None:
        manifest["metadata"].update(metadata)
        manifest["metadata"]["subject"] = subject
        if subject is None:
            del manifest["metadata"]["subject"]

    edit_manifest(kit, change)


REFUSED = {
    "nothing stated": None,
    "no consent": REAL,
    "consent without the document": {**REAL, "consent": "written"},
    "a minor": {"minor": True},
    "a minor who consents": {**REAL, "consent": "self", "minor": True},
}
ALLOWED = {
    "drawn": {},
    "oneself": {**REAL, "consent": "self"},
    "in writing": {**REAL, "consent": "written", "evidence_sha256": PROOF},
}


@pytest.mark.parametrize("case", REFUSED)
def test_nobody_is_published_against_the_rules(case: str, kit: Path, base: Path, tmp_path: Path) -> None:
    state(kit, REFUSED[case])
    with pytest.raises(PolicyRefused) as caught:
        check_publishable(read_manifest(kit))
    assert caught.value.exit_code == 3
    assert "talent kit subject" in caught.value.remedy
    if "minor who" in case:  # the validator refuses that kit before
        return
    for target, publish in (("hf", False), ("civitai", False), ("zip", True), ("a1111", True)):
        with pytest.raises(PolicyRefused):
            export_kit(kit, target=target, out=tmp_path / "o", publish=publish, base_folder=base)  # type: ignore[arg-type]
    assert not (tmp_path / "o").exists()
    # one's own programs are no publication
    assert export_kit(kit, target="a1111", out=tmp_path / "own", base_folder=base).written


@pytest.mark.parametrize("case", ALLOWED)
def test_what_may_be_published_is(case: str, kit: Path, base: Path, tmp_path: Path) -> None:
    state(kit, ALLOWED[case])
    for target in ("hf", "civitai", "zip"):
        assert export_kit(kit, target=target, out=tmp_path, publish=True, base_folder=base).written  # type: ignore[arg-type]


def test_a_style_shows_nobody(kit: Path) -> None:
    state(kit, None)
    edit_manifest(kit, lambda manifest: manifest.update(id="avatar.style.ink"))
    check_publishable(read_manifest(kit))


def test_the_card_names_what_pulls_apart(kit: Path, base: Path, tmp_path: Path) -> None:
    state(kit, {**REAL, "consent": "self"}, license="CC0-1.0")
    warnings = cautions(read_manifest(kit))
    assert "real person" in warnings[0]
    assert "CC0-1.0 covers the weights alone" in warnings[1]
    export_kit(kit, target="hf", out=tmp_path, base_folder=base)
    page = (tmp_path / "dot_test_lora" / "README.md").read_text()
    assert all(f"**{warning}**" in page for warning in warnings)
    assert "no real person" not in page
    state(kit, {}, license="all rights reserved")
    (only,) = cautions(read_manifest(kit))
    assert "ask the author" in only
    state(kit, {}, license="CC-BY-NC-4.0")
    assert cautions(read_manifest(kit)) == ()


def test_subject_is_written_and_the_kit_stays_valid(kit: Path, base: Path, tmp_path: Path) -> None:
    paper = tmp_path / "consent.pdf"
    paper.write_bytes(b"I agree")
    before = read_manifest_json(kit)
    (kit / SIGNATURE_FILE).write_text("{}")
    stated = set_subject(kit, real_person=True, consent="written", evidence=paper)
    assert stated.evidence_sha256 == hashlib.sha256(b"I agree").hexdigest()
    assert subject_of(read_manifest(kit)) == stated
    after = read_manifest_json(kit)
    after["metadata"]["subject"] = before["metadata"]["subject"]
    assert after == before
    assert validate_kit(kit, base_folder=base).findings == ()
    # what was signed is not what is there now
    assert not (kit / SIGNATURE_FILE).exists()
    assert not list(kit.rglob("*.pdf"))
    assert set_subject(kit, minor=False) == stated
    assert set_subject(kit, real_person=False).evidence_sha256 is None


def test_the_same_statement_leaves_a_signature_alone(kit: Path) -> None:
    set_subject(kit, real_person=True, consent="self")
    (kit / SIGNATURE_FILE).write_text("{}")
    set_subject(kit, real_person=True, consent="self")
    assert (kit / SIGNATURE_FILE).exists()


def test_statements_that_say_nothing_are_refused(kit: Path, tmp_path: Path) -> None:
    paper = tmp_path / "consent.pdf"
    paper.write_bytes(b"x")
    before = (kit / "talent.json").read_bytes()
    wrong: tuple[dict[str, Any], ...] = (
        {"consent": "self"},
        {"real_person": False, "consent": "written"},
        {"real_person": True, "consent": "written"},
        {"real_person": True, "evidence": paper},
        {"real_person": True, "consent": "written", "evidence": tmp_path / "none"},
    )
    for options in wrong:
        with pytest.raises(UsageError):
            set_subject(kit, **options)
    assert (kit / "talent.json").read_bytes() == before
    assert KIT_ID in before.decode()
