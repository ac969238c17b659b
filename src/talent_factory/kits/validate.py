"""Say whether a kit is what it claims to be, trusting nothing in it.

Every file is opened: the manifest, the weights with each of their numbers, the prompts and each example. A
kit never makes the validator fail; whatever is wrong with it becomes a finding.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from talent_factory.core.errors import KitError
from talent_factory.kits.findings import KitReport, Notes
from talent_factory.kits.folder import KitFolder
from talent_factory.kits.header import Header, HeaderError, parse_header
from talent_factory.kits.images import IMAGE_SUFFIXES, MAX_IMAGE_BYTES, examined, tells_place
from talent_factory.kits.keys import base_of, expected_modules
from talent_factory.kits.manifest import (
    BASE_FILE,
    CONTROLS_FOLDER,
    EXAMPLES_FOLDER,
    LICENSE_FILE,
    MANIFEST_FILE,
    PREVIEW_FILE,
    PROMPTS_FILE,
    WEIGHTS_FILE,
    Metadata,
    TalentManifest,
    field_problems,
    parse_manifest,
    parse_prompts,
)
from talent_factory.kits.signing import SIGNATURE_FILES, check_signature
from talent_factory.kits.strict import MAX_TEXT_BYTES, StrictJsonError, parse_object
from talent_factory.kits.weights import LARGE_BYTES, Size, check_weights

FEW_EXAMPLES = 3
# All pictures of a kit together: what a computer decodes in a few seconds.
MAX_PIXELS = 48_000_000
_PICTURE_FOLDERS = (f"{EXAMPLES_FOLDER}/", f"{CONTROLS_FOLDER}/")


class Inspection(NamedTuple):
    """A kit's report with its manifest: a record when it is right, plain JSON when it is an object.

    `header` is that of the weights, when it is one that we accept.
    """

    report: KitReport
    manifest: TalentManifest | None
    raw: dict[str, Any] | None
    header: Header | None = None


def validate_kit(path: Path, *, base_folder: Path | None = None) -> KitReport:
    """Return every finding about the kit in the folder `path`.

    `base_folder` is a model in diffusers form to match the tensors against, for a base that is neither
    embedded nor SD 1.5 nor SDXL. No kit raises; the report's `valid` says whether the kit may be used.
    """
    return inspect_kit(path, base_folder=base_folder).report


def inspect_kit(path: Path, *, base_folder: Path | None = None, name: str = "") -> Inspection:
    """Like `validate_kit`, with the manifest; `name` replaces the folder's name while a kit is made."""
    notes = Notes()
    name = name or path.name or path.resolve().name
    folder = KitFolder(path, notes)
    if not folder.exists:
        return Inspection(notes.report(kit=path, name=name), None, None)
    manifest, raw = _check_manifest(folder, name)
    header = _check_weights(folder, manifest, base_folder)
    _check_texts(folder, manifest)
    _check_images(folder)
    check_signature(folder)
    if manifest is not None:
        _check_digests(folder, (manifest.metadata or Metadata()).digests)
    return Inspection(notes.report(kit=path, name=name), manifest, raw, header)


def _check_manifest(folder: KitFolder, name: str) -> tuple[TalentManifest | None, dict[str, Any] | None]:
    notes = folder.notes
    data = folder.read(MANIFEST_FILE, limit=MAX_TEXT_BYTES)
    if data is None:
        return None, None
    try:
        raw = parse_object(data)
    except StrictJsonError as error:
        notes.error("manifest-json", MANIFEST_FILE, str(error), "write talent.json anew")
        return None, None
    try:
        manifest = parse_manifest(data)
    except ValidationError as error:
        for line in field_problems(error):
            code = "id" if line.startswith("id: ") else "manifest-field"
            notes.error(code, MANIFEST_FILE, line, "schemas/avatar_talent.json describes every field")
        return None, raw
    if manifest.id != name:
        message = f"the id is {manifest.id}, the folder is called {name[:120]!r}"
        notes.error("id-mismatch", MANIFEST_FILE, message, "rename the folder or correct the id")
    if manifest.is_identity and not manifest.token:
        remedy = "add the word that wakes the identity"
        notes.error("token-missing", MANIFEST_FILE, "an identity kit without token", remedy)
    subject = manifest.metadata.subject if manifest.metadata else None
    if subject is not None and subject.real_person and subject.minor:
        notes.error("subject", MANIFEST_FILE, "shows a real minor", "such a kit may not be used; delete it")
    elif subject is not None and subject.real_person and subject.consent == "none":
        remedy = "ask the person, then state metadata.subject.consent"
        notes.warning("subject", MANIFEST_FILE, "shows a real person without consent", remedy)
    return manifest, raw


def _check_weights(
    folder: KitFolder, manifest: TalentManifest | None, base_folder: Path | None
) -> Header | None:
    """Note what is wrong with the weights; returns their header when it can be trusted."""
    with folder.mapped(WEIGHTS_FILE) as buffer:
        if buffer is None:
            return None
        try:
            header = parse_header(buffer)
        except HeaderError as error:
            folder.notes.error(error.code, WEIGHTS_FILE, error.message, error.remedy)
            return None
        if manifest is not None:
            with memoryview(buffer) as whole, whole[header.data_start :] as data:
                _check_content(folder, manifest, header, data, base_folder)
        if len(buffer) <= LARGE_BYTES or not folder.notes.failed:
            folder.keep_digest(WEIGHTS_FILE, buffer)
        return header


def _check_content(
    folder: KitFolder, manifest: TalentManifest, header: Header, data: memoryview, base_folder: Path | None
) -> None:
    notes = folder.notes
    base = base_of(manifest.base_model, manifest.sdx_version)
    try:
        modules = expected_modules(base_folder or base)
    except KitError as error:
        notes.error("base-unknown", WEIGHTS_FILE, error.message, error.remedy)
        return
    metadata = manifest.metadata or Metadata()
    facts = check_weights(
        data,
        header,
        modules=modules,
        base=base_folder.name if base_folder else base,
        size=Size(manifest.lora_rank, metadata.alpha),
        conv=Size(metadata.conv_rank, metadata.conv_alpha) if metadata.conv_rank else None,
        notes=notes,
    )
    if facts.alphas and metadata.text_encoder not in (None, facts.text_encoder):
        holds = "holds" if facts.text_encoder else "holds no"
        message = (
            f"metadata.text_encoder is {str(metadata.text_encoder).lower()}, the file {holds} text modules"
        )
        notes.error("text-encoder", WEIGHTS_FILE, message, "correct metadata.text_encoder in talent.json")
    _check_header_words(folder, manifest, header, data)
    real = max(0.1, folder.sizes[WEIGHTS_FILE] / 2**20)
    if abs(real - manifest.size_mb) > 0.1:
        message = f"size_mb is {manifest.size_mb:g}, the file has {real:.2f} MB"
        notes.warning("size", MANIFEST_FILE, message, "correct size_mb in talent.json")


def _check_header_words(
    folder: KitFolder, manifest: TalentManifest, header: Header, data: memoryview
) -> None:
    words, notes = header.metadata, folder.notes
    remedy = "pack the kit anew"
    if words.get("ss_network_dim", str(manifest.lora_rank)) != str(manifest.lora_rank):
        message = f"ss_network_dim is {words['ss_network_dim'][:20]!r}, lora_rank is {manifest.lora_rank}"
        notes.warning("header-metadata", WEIGHTS_FILE, message, remedy)
    digests = manifest.metadata.digests if manifest.metadata else None
    stated = words.get("modelspec.hash_sha256")
    # the digest of the whole file covers these bytes too, so hashing them again waits for kits without one
    if stated is None or (digests and WEIGHTS_FILE in digests):
        return
    if stated.lower().removeprefix("0x") != hashlib.sha256(data).hexdigest():
        notes.error(
            "header-metadata", WEIGHTS_FILE, "modelspec.hash_sha256 is not the hash of the tensors", remedy
        )


def _check_texts(folder: KitFolder, manifest: TalentManifest | None) -> None:
    notes = folder.notes
    prompts = folder.read(PROMPTS_FILE, limit=MAX_TEXT_BYTES)
    if prompts is not None:
        try:
            parse_prompts(prompts)
        except StrictJsonError as error:
            notes.error("prompts", PROMPTS_FILE, str(error), "write prompts.json anew")
        except ValidationError as error:
            for line in field_problems(error):
                notes.error(
                    "prompts",
                    PROMPTS_FILE,
                    line,
                    "positive_prompts, negative_prompts, style_prompts: lists of text",
                )
    license_text = folder.read(LICENSE_FILE, limit=MAX_TEXT_BYTES)
    if license_text is not None and not _text(license_text).strip():
        notes.error("license-empty", LICENSE_FILE, "no text inside", "say what others may do with the kit")
    base = folder.read(BASE_FILE, limit=MAX_TEXT_BYTES)
    if base is not None and manifest is not None:
        _check_base_text(_text(base), manifest, notes)


def _text(data: bytes) -> str:
    """Return the text, "" when it is no UTF-8 or holds a zero byte: then nobody can read it."""
    try:
        return "" if b"\0" in data else data.decode("utf-8")
    except UnicodeDecodeError:
        return ""


def base_text(manifest: TalentManifest) -> str:
    """Return the three lines of base.txt."""
    facts = (("Base model", manifest.base_model), ("SDX version", manifest.sdx_version))
    lines = [f"{name}: {value}" for name, value in (*facts, ("LoRA rank", manifest.lora_rank))]
    return "\n".join(lines) + "\n"


def _check_base_text(text: str, manifest: TalentManifest, notes: Notes) -> None:
    found = {line.strip() for line in text.splitlines()}
    for line in base_text(manifest).splitlines():
        if line not in found:
            notes.error("base-txt", BASE_FILE, f"the line {line[:120]!r} is missing", "write base.txt anew")


def _check_images(folder: KitFolder) -> None:
    notes = folder.notes
    good = decoded = 0
    seen: dict[str, str] = {}
    for name in sorted(folder.sizes):
        if name == PREVIEW_FILE or (
            name.startswith(_PICTURE_FOLDERS) and name.lower().endswith(IMAGE_SUFFIXES)
        ):
            data = folder.read(name, limit=MAX_IMAGE_BYTES)
            if data is None:
                continue
            digest = folder.digests[name]
            # the preview is often one of the examples: equal bytes are decoded once
            if digest not in seen:
                if decoded > MAX_PIXELS:
                    message = f"the pictures before it have more than {MAX_PIXELS // 10**6} million pixels"
                    notes.error("example", name, message, "make the examples smaller, or fewer of them")
                    break
                seen[digest], pixels = examined(data)
                decoded += pixels
            problem = seen[digest]
            if problem:
                notes.error(
                    "example", name, f"no readable image: {problem}", "replace it by a PNG, JPEG or WebP"
                )
            elif tells_place(data):
                notes.warning("image-place", name, "says where it was taken", "remove its EXIF and XMP")
            good += not problem and name.startswith(EXAMPLES_FOLDER)
    if good < FEW_EXAMPLES:
        message = f"{good} examples; {FEW_EXAMPLES} show what the kit does"
        notes.warning("examples-few", EXAMPLES_FOLDER, message, "talent kit examples ID draws some")


def _check_digests(folder: KitFolder, stated: dict[str, str] | None) -> None:
    notes = folder.notes
    if not stated:
        message = "metadata.digests is missing: nobody can tell whether a file was changed"
        notes.warning("digest-missing", MANIFEST_FILE, message, "pack the kit anew")
        return
    for name, digest in stated.items():
        if name not in folder.sizes:
            notes.error("digest", name[:200], "stated in metadata.digests, but not there", "restore the file")
        elif name == WEIGHTS_FILE and name not in folder.digests:
            # refused before it was read to its end
            continue
        elif folder.digest(name) != digest:
            notes.error(
                "digest", name, "changed since the kit was packed", "restore the file or pack the kit anew"
            )
    for name in folder.sizes:
        if name not in stated and name != MANIFEST_FILE and name not in SIGNATURE_FILES:
            severity = notes.error if name == WEIGHTS_FILE else notes.warning
            severity(
                "digest-missing", name, "not among metadata.digests", "pack the kit anew or remove the file"
            )
