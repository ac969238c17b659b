"""Whether a kit may be given to the public: consent of a real person, never a minor, and what to warn of."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Literal

from talent_factory.core.errors import PolicyRefused, UsageError
from talent_factory.core.files import json_text, sha256_file, write_bytes
from talent_factory.kits.manifest import MANIFEST_FILE, Subject, TalentManifest, parse_manifest, read_manifest
from talent_factory.kits.shelf import editing
from talent_factory.kits.signing import drop_signatures
from talent_factory.kits.strict import MAX_TEXT_BYTES, parse_object, read_regular

# Licences that give others everything; a likeness is not the maker's to give away with the weights.
_GIVES_ALL = {"cc0-1.0", "unlicense", "0bsd", "wtfpl", "mit", "apache-2.0", "cc-by-4.0", "cc-by-sa-4.0"}
_GIVES_NOTHING = {"", "all rights reserved", "unknown", "none", "proprietary"}


def subject_of(manifest: TalentManifest) -> Subject | None:
    """Return what the kit says about whom it shows; None when it says nothing."""
    return manifest.metadata.subject if manifest.metadata else None


def check_publishable(manifest: TalentManifest) -> None:
    """Raise PolicyRefused unless the kit may be published.

    Refused: a minor; a real person without consent, or with a written consent that nothing proves; an
    identity that does not say whether its person is real.
    """
    subject, command = subject_of(manifest), f"talent kit subject {manifest.id}"
    if subject is None:
        if manifest.is_identity:
            raise PolicyRefused(
                f"{manifest.id} does not say whether it shows a real person: it is not published",
                remedy=f"{command} --fictional, or {command} --real-person --consent self",
            )
        return
    if subject.minor:
        raise PolicyRefused(
            f"{manifest.id} shows a minor: it is not published, whatever else is stated",
            remedy="keep the kit to yourself; if that is a mistake, talent kit subject --adult",
        )
    if subject.real_person and subject.consent == "none":
        raise PolicyRefused(
            f"{manifest.id} shows a real person without consent: it is not published",
            remedy=f"{command} --real-person --consent self, or --consent written --evidence FILE",
        )
    if subject.real_person and subject.consent == "written" and subject.evidence_sha256 is None:
        raise PolicyRefused(
            f"{manifest.id} states a written consent without the hash of the document",
            remedy=f"{command} --real-person --consent written --evidence FILE",
        )


def cautions(manifest: TalentManifest) -> tuple[str, ...]:
    """Return what readers of a card must know of licence and likeness, where they pull apart."""
    subject = subject_of(manifest) or Subject()
    terms = ((manifest.metadata.license or "") if manifest.metadata else "").strip().casefold()
    found = []
    if subject.real_person:
        found.append(
            "This kit shows a real person, who consented "
            + ("as its maker." if subject.consent == "self" else "in writing to its maker.")
            + " The consent covers no use that harms or misrepresents them, and ends where they say so."
        )
        if terms in _GIVES_ALL:
            found.append(
                f"The licence {terms.upper()} covers the weights alone: it is wider than the consent of the"
                " person shown, and rights in their likeness are not given with it."
            )
    if terms in _GIVES_NOTHING:
        found.append("The licence gives others no rights: ask the author before you use or change the kit.")
    return tuple(found)


def set_subject(
    kit: Path,
    *,
    real_person: bool | None = None,
    consent: Literal["none", "self", "written"] | None = None,
    evidence: Path | None = None,
    minor: bool | None = None,
    dry_run: bool = False,
) -> Subject:
    """Write `metadata.subject` of the kit in the folder `kit`; what is None stays as it is.

    With `dry_run` nothing is written. Of `evidence` only the sha256 is kept. Signatures of the kit end with
    the change. Raises UsageError for a combination that says nothing, KitError for a folder that is no kit.
    """
    read_manifest(kit)
    with nullcontext() if dry_run else editing(kit):
        after = _stated(kit, real_person=real_person, consent=consent, evidence=evidence, minor=minor)
        if not dry_run:
            _write_subject(kit, after)
    return after


def _stated(
    kit: Path,
    *,
    real_person: bool | None,
    consent: Literal["none", "self", "written"] | None,
    evidence: Path | None,
    minor: bool | None,
) -> Subject:
    """What the kit is to say, out of what it says and what is given."""
    before = subject_of(read_manifest(kit)) or Subject()
    real = before.real_person if real_person is None else real_person
    stated = consent or (before.consent if real else "none")
    proof = before.evidence_sha256 if real and stated != "none" else None
    if evidence is not None:
        if not real or stated == "none":
            raise UsageError(
                "evidence belongs to the consent of a real person",
                remedy="add --real-person --consent written",
            )
        try:
            proof = sha256_file(evidence)
        except OSError as error:
            raise UsageError(f"{evidence}: {error.strerror}", remedy="name the document") from error
    if not real and stated != "none":
        raise UsageError("only a real person can consent", remedy="add --real-person")
    if stated == "written" and proof is None:
        raise UsageError("a written consent needs its document", remedy="add --evidence FILE")
    return Subject(
        real_person=real,
        consent=stated,
        evidence_sha256=proof,
        minor=before.minor if minor is None else minor,
    )


def _write_subject(kit: Path, subject: Subject) -> None:
    raw = parse_object(read_regular(kit / MANIFEST_FILE, limit=MAX_TEXT_BYTES))
    metadata = raw.setdefault("metadata", {})
    stated = subject.model_dump(mode="json", exclude_none=True)
    if metadata.get("subject") == stated:
        return
    metadata["subject"] = stated
    data = json_text(raw).encode()
    parse_manifest(data)
    drop_signatures(kit)
    write_bytes(kit / MANIFEST_FILE, data)
