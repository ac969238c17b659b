"""Make a Talent Kit from a training run: one folder, written whole or not at all, and valid or not at all."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Annotated, Any, Literal

from PIL import Image
from pydantic import AfterValidator, AwareDatetime, Field, ValidationError, model_validator

from talent_factory.core.errors import KitError, UsageError
from talent_factory.core.files import atomic_folder, json_text
from talent_factory.core.records import Record
from talent_factory.core.workspace import check_token
from talent_factory.kits.header_words import header_words
from talent_factory.kits.images import image_problem
from talent_factory.kits.keys import base_of
from talent_factory.kits.lora_file import Tensors, lora_bytes, read_lora
from talent_factory.kits.manifest import (
    BASE_FILE,
    CONTROLS_FOLDER,
    EXAMPLES_FOLDER,
    LICENSE_FILE,
    MANIFEST_FILE,
    PREVIEW_FILE,
    PROMPTS_FILE,
    WEIGHTS_FILE,
    Digest,
    Line,
    PromptSet,
    Subject,
    TalentId,
    TalentManifest,
    TrainingFacts,
    field_problems,
)
from talent_factory.kits.validate import base_text, inspect_kit

PREVIEW_SIDE = 512
CONTROLS_NOTE = "Control images (poses, depth, edges) for this talent go here. None are needed to use it.\n"
_PATH = re.compile(r"(/|~|\\\\|[A-Za-z]:[\\/]|\.{1,2}[\\/])")


def _new_token(text: str) -> str:
    try:
        return check_token(text)
    except UsageError as error:
        raise ValueError(f"{error.message}: {error.remedy}") from None


class KitSpec(Record):
    """All that a kit says about itself; what the tensors say is read from them.

    `training_config` and `provenance` may hold any JSON; absolute paths in them lose their folders before
    they are written. `created_at` is given, never read from the clock, so that equal specs give equal kits.
    """

    id: TalentId
    base_model: str = Field(min_length=1, max_length=500)
    sdx_version: Literal["1.5", "xl"] = "1.5"
    base_revision: Digest | None = None
    base_hash: str | None = None
    """Where the base is one file: the short hash of it that older tools know; its revision is its sha256."""
    rank: int = Field(ge=1, le=128)
    alpha: float = Field(gt=0)
    conv_rank: int | None = Field(default=None, ge=1, le=128)
    conv_alpha: float | None = Field(default=None, gt=0)
    prediction: Literal["epsilon", "v_prediction"] = "epsilon"
    default_weight: float = Field(default=1.0, ge=0, le=2)
    created_at: AwareDatetime
    token: Annotated[str, AfterValidator(_new_token)] | None = None
    triggers: tuple[Line, ...] = ()
    prompts: PromptSet
    negatives: str = ""
    intended_mix: tuple[str, ...] = ()
    description: str = ""
    tags: tuple[str, ...] = ()
    author: str = ""
    license: str = "all rights reserved"
    license_text: str = ""
    subject: Subject | None = Subject()
    """None where nobody said whether a real person is shown; such an identity is not published."""
    training_config: dict[str, Any] = Field(default_factory=dict)
    provenance: dict[str, Any] = Field(default_factory=dict)
    evaluation: dict[str, Any] = Field(default_factory=dict)
    precision: Literal["fp16", "fp32"] = "fp16"

    @model_validator(mode="after")
    def _identity_has_token(self) -> KitSpec:
        if self.id.startswith("avatar.identity.") and not self.token:
            raise ValueError("an identity needs a token")
        return self


def pack_kit(
    spec: KitSpec,
    *,
    lora: Path,
    examples: Sequence[Path],
    root: Path,
    preview: Path | None = None,
    base_folder: Path | None = None,
) -> Path:
    """Write the kit `root/<id>/` and return its path; `root` is the folder of kits, `talents/avatar`.

    `lora` is a safetensors file in kohya form as training left it, `examples` are images in the order to show
    them (the first becomes the preview unless `preview` is given), `base_folder` as in `validate_kit`. An
    existing kit of that id is replaced in one step. Raises KitError when an input cannot be read or the
    finished kit would be invalid; nothing is left behind then.
    """
    tensors = read_lora(lora)
    files: dict[str, bytes] = {
        WEIGHTS_FILE: lora_bytes(tensors, precision=spec.precision, words=_header(spec)),
        PROMPTS_FILE: json_text(spec.prompts.model_dump(mode="json")).encode(),
        LICENSE_FILE: _license(spec).encode(),
        f"{CONTROLS_FOLDER}/README.txt": CONTROLS_NOTE.encode(),
    }
    for number, path in enumerate(examples, start=1):
        image = example_bytes(path)
        files[f"{EXAMPLES_FOLDER}/{number:02d}{image_suffix(image)}"] = image
    if preview is not None or examples:
        files[PREVIEW_FILE] = preview_bytes(example_bytes(preview or examples[0]))
    manifest = _manifest(spec, files, tensors)
    files[BASE_FILE] = base_text(manifest).encode()
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}
    files[MANIFEST_FILE] = _manifest_bytes(manifest, digests)
    with atomic_folder(root / spec.id) as folder:
        (folder / EXAMPLES_FOLDER).mkdir()
        (folder / CONTROLS_FOLDER).mkdir()
        for name, data in files.items():
            (folder / name).write_bytes(data)
        refuse_invalid(folder, spec.id, base_folder)
    return root / spec.id


def refuse_invalid(folder: Path, name: str, base_folder: Path | None) -> None:
    """Raise KitError with the first fault of a kit that is about to take its place."""
    errors = inspect_kit(folder, base_folder=base_folder, name=name).report.errors
    if errors:
        first = errors[0]
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise KitError(f"{name} is not written: {first.file}: {first.message}{more}", remedy=first.remedy)


def _header(spec: KitSpec) -> dict[str, str]:
    return header_words(
        name=spec.id,
        base=base_of(spec.base_model, spec.sdx_version),
        base_model=_nameless(spec.base_model),
        rank=spec.rank,
        alpha=spec.alpha,
        triggers=_triggers(spec),
        facts={
            **_nameless(spec.training_config),
            "images": spec.provenance.get("images"),
            "buckets": spec.provenance.get("buckets"),
            "prediction": spec.prediction,
            "model_hash": spec.base_hash,
            "model_sha256": spec.base_revision if spec.base_hash else None,
            "conv_rank": spec.conv_rank,
            "conv_alpha": spec.conv_alpha,
        },
        texts={
            "title": spec.id,
            "description": spec.description,
            "author": spec.author,
            "license": spec.license,
            "tags": ", ".join(spec.tags),
            "usage_hint": f"weight {spec.default_weight:g}",
            "date": spec.created_at.isoformat(),
        },
    )


def _triggers(spec: KitSpec) -> tuple[str, ...]:
    return spec.triggers or ((spec.token,) if spec.token else ())


def _manifest(spec: KitSpec, files: Mapping[str, bytes], tensors: Tensors) -> TalentManifest:
    inside, outside = _training_facts(_nameless(spec.training_config))
    metadata = {
        "description": spec.description,
        "tags": list(spec.tags),
        "author": spec.author,
        "license": spec.license,
        "triggers": list(_triggers(spec)),
        "base_revision": spec.base_revision,
        "alpha": spec.alpha,
        "conv_rank": spec.conv_rank,
        "conv_alpha": spec.conv_alpha,
        "text_encoder": any(name.startswith("lora_te") for name in tensors),
        "subject": spec.subject and spec.subject.model_dump(mode="json", exclude_none=True),
        "eval": spec.evaluation,
        "provenance": _nameless(spec.provenance),
        "training": outside,
    }
    fields = {
        "id": spec.id,
        "category": "Presence/Avatar",
        "kind": "lora",
        "sdx_version": spec.sdx_version,
        "base_model": _nameless(spec.base_model),
        "lora_rank": spec.rank,
        "default_weight": spec.default_weight,
        "size_mb": max(0.1, round(len(files[WEIGHTS_FILE]) / 2**20, 2)),
        "token": spec.token,
        "intended_mix": list(spec.intended_mix),
        "negatives": spec.negatives,
        "created_at": spec.created_at.isoformat(),
        "training_config": inside,
        "metadata": _filled(metadata),
    }
    try:
        return TalentManifest.model_validate(_filled(fields))
    except ValidationError as error:
        raise KitError(
            f"{spec.id}: {field_problems(error)[0]}", remedy="correct the config and pack again"
        ) from error


def _filled(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value not in (None, "", [], {})}


def _training_facts(config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Divide training values into what version 1's bounds allow and what goes under metadata.training.

    A base of 128 pixels is the case in mind: version 1 knows 256 and more.
    """
    try:
        TrainingFacts.model_validate(config, strict=True)
    except ValidationError as error:
        misfits = {str(problem["loc"][0]) for problem in error.errors() if problem["loc"]}
        inside = {name: value for name, value in config.items() if name not in misfits}
        return inside, {name: config[name] for name in sorted(misfits & config.keys())}
    return dict(config), {}


def _manifest_bytes(manifest: TalentManifest, digests: Mapping[str, str]) -> bytes:
    document = manifest.model_dump(mode="json", exclude_none=True)
    document["metadata"]["digests"] = dict(digests)
    return json_text(document).encode()


def _nameless(value: Any) -> Any:
    """Return JSON with every path reduced to its last part: a kit tells nothing about its maker's folders."""
    if isinstance(value, str):
        if not _PATH.match(value):
            return value
        return PurePosixPath(PureWindowsPath(value).as_posix()).name or "path"
    if isinstance(value, Mapping):
        return {name: _nameless(item) for name, item in value.items()}
    return [_nameless(item) for item in value] if isinstance(value, (list, tuple)) else value


def _license(spec: KitSpec) -> str:
    if spec.license_text:
        return spec.license_text.rstrip() + "\n"
    author = f"Author: {spec.author}\n" if spec.author else ""
    return f"{spec.id}\n{author}License: {spec.license}\n"


def image_suffix(data: bytes) -> str:
    """Return the ending that fits the bytes of an image; the name it came with may say anything."""
    return ".png" if data.startswith(b"\x89PNG") else ".jpg" if data.startswith(b"\xff\xd8") else ".webp"


def example_bytes(path: Path) -> bytes:
    """Return an image file as it is; raises KitError when it cannot be read or is no plain image."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise KitError(f"{path}: {error.strerror}", remedy="give pictures that can be read") from error
    problem = image_problem(data)
    if problem:
        raise KitError(f"{path} is no readable image: {problem}", remedy="use PNG, JPEG or WebP images")
    return data


def preview_bytes(data: bytes) -> bytes:
    """Return the image as a PNG of at most 512 pixels; one that is already such a PNG stays as it is."""
    with Image.open(io.BytesIO(data)) as image:
        if image.format == "PNG" and max(image.size) <= PREVIEW_SIDE:
            return data
        small = image.convert("RGB")
        small.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE), Image.Resampling.LANCZOS)
        stream = io.BytesIO()
        small.save(stream, format="PNG", optimize=False)
    return stream.getvalue()
