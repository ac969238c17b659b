"""From a folder of somebody's photos to all that a training of them needs: the checklist, done."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

from talent_factory.core.doctor import Finding
from talent_factory.core.errors import BaseError, FileError, UsageError
from talent_factory.core.events import Reporter, SilentReporter
from talent_factory.core.files import atomic_folder, json_text, sha256_bytes, write_json, write_text
from talent_factory.core.plan import Plan
from talent_factory.core.records import Record, read_record
from talent_factory.core.workspace import Workspace, check_token

PHOTOS, CONFIG, FOUND, SHEET, LORA = "photos", "config.yaml", "photos.json", "sheet.jpg", "lora"
USUAL_BASE = "stable-diffusion-v1-5/stable-diffusion-v1-5"
SMALLEST = 64  # what a config may ask for; a base for trials is made for less
_SIDES = {"1.5": 512, "xl": 1024}
# In the place of what the preset says later, so that the rest can be checked before any photo is read.
_STAND_INS = {"lora_rank": 1, "max_train_steps": 1, "learning_rate": 1e-4, "batch_size": 1}


Consent = Literal["self", "written"]


class Newcomer(Record):
    """Who comes: a name, their photos, and how the training is to be.

    `token` is the trigger word, made of the name when empty; `consent` says that a real person agreed (self
    or written); `resolution` is the base's own when None.
    """

    name: str
    photos: Path
    token: str = ""
    class_noun: str = "person"
    base: str = USUAL_BASE
    preset: str = "standard"
    resolution: int | None = None
    steps: int | None = None
    medium: str = "photo"
    consent: Consent | None = None
    keep_all: bool = False
    seed: int = 0

    @property
    def trigger(self) -> str:
        """The token: as given, else the name in small letters. Raises UsageError when nothing is left."""
        if self.token:
            return check_token(self.token)
        made = re.sub(r"[^a-z0-9]+", "_", self.name.lower()).strip("_")[:40]
        return check_token(made)

    @property
    def talent_id(self) -> str:
        """The id of the kit to be."""
        return f"avatar.identity.{self.trigger}"


class Welcome(Record):
    """What the checklist left: the folder, the config in it, which photos are used, and what was found."""

    token: str
    talent_id: str
    folder: Path
    config: Path
    sheet: Path
    images: int
    left_out: tuple[str, ...]
    resolution: int
    base: str
    findings: tuple[Finding, ...]
    kept_before: bool = False
    """Whether it lay there already, made from these very photos; edited captions are kept then."""


class Made(Record):
    """photos.json: the order that a folder was made by, so that the same one is not done twice."""

    version: int = 1
    key: str
    config: str
    """The config as it was written, to tell one that was edited by hand."""
    images: int
    left_out: tuple[str, ...]
    findings: tuple[Finding, ...]
    name: str = ""
    """Who it is, as somebody wrote it; a trigger keeps small letters and digits alone."""


def welcome(
    who: Newcomer,
    *,
    place: Workspace,
    again: bool = False,
    need_base: bool = True,
    reporter: Reporter | None = None,
) -> Welcome:
    """Check the photos and write `people/TOKEN`: `photos/30_token`, the config, what was found, a sheet.

    The folder appears whole. One that was made from these very photos stays as it is; one made from others
    is replaced only with `again`. Raises UsageError then, ConfigError for an option no training takes,
    DatasetError when no photo will do, BaseError when the base is not here (unless not `need_base`, where its
    usual size is taken).
    """
    from talent_factory.dataset.layout import read_folder
    from talent_factory.dataset.shapes import check_resolution

    _check_preset(who)
    read_folder(who.photos, stray_texts=True)  # a folder without photos is told of before a missing base
    told, version, side = _base(who, need_base=need_base)
    side = check_resolution(who.resolution or max(side, SMALLEST))
    folder = place.people / who.trigger
    config = _config(who, place=place, version=version, side=side)
    before = None if again else _made_before(folder, who, side)
    if before is not None:
        before = _reconfigured(folder, before, who, config)
        return _welcome(who, folder, before, side, kept_before=True)
    with atomic_folder(folder) as fresh:
        made = _fill(fresh, who, config=config, side=side, told=told, reporter=reporter)
    return _welcome(who, folder, made, side)


def plan_newcomer(
    who: Newcomer, *, place: Workspace, reporter: Reporter | None = None
) -> tuple[Welcome, Plan]:
    """What `welcome` would find and what the training would take; nothing stays on the disk."""
    from talent_factory.pipeline import plan_kit

    with _scratch() as scratch:
        greeted = welcome(who, place=scratch, reporter=reporter)
        text = greeted.config.read_text("utf-8")
        # the plan asks the real workspace what is done already, but the photos lie in the scratch one
        relative, absolute = _data_folder(who, place), _data_folder(who, scratch, absolute=True)
        write_text(greeted.config, text.replace(relative, absolute))
        plan = plan_kit(greeted.config, workspace=place)
    real = place.people / who.trigger
    moved = {"folder": real, "config": real / CONFIG, "sheet": real / SHEET}
    steps = [
        step.model_copy(update={"detail": step.detail.replace(absolute, str(real / PHOTOS))})
        for step in plan.steps
    ]
    titled = {"title": f"{who.name} to a Talent Kit", "steps": tuple(steps)}
    return greeted.model_copy(update=moved), plan.model_copy(update=titled)


def given_names(place: Workspace) -> dict[str, str]:
    """The names that people were given to `talent new`, by the id of the kit; damaged folders have none."""
    names = {}
    for found in sorted(place.people.glob(f"*/{FOUND}")):
        try:
            names[f"avatar.identity.{found.parent.name}"] = read_record(found, Made).name
        except FileError:
            continue  # `talent new` says so when it is asked for that person again
    return {talent_id: name for talent_id, name in names.items() if name}


def consent_of(text: str) -> Consent | None:
    """The consent that a word names, None for an empty one. Raises UsageError for any other."""
    known: dict[str, Consent | None] = {"": None, **{word: word for word in get_args(Consent)}}
    if text not in known:
        raise UsageError(f"consent {text!r} is not known", remedy="use self or written")
    return known[text]


def _check_preset(who: Newcomer) -> None:
    from talent_factory.training.presets import PRESETS

    if who.preset not in PRESETS:
        raise UsageError(f"no preset called {who.preset[:40]!r}", remedy=f"use one of {', '.join(PRESETS)}")


def _agreed(who: Newcomer) -> list[Finding]:
    if who.consent or who.medium != "photo":
        return []
    message = "nobody said that the person agreed; the kit will not say whom it shows, and is not published"
    remedy = "for a real person add --consent self or --consent written"
    return [Finding(severity="warn", subject="consent", message=message, remedy=remedy)]


@contextmanager
def _scratch() -> Iterator[Workspace]:
    with tempfile.TemporaryDirectory(prefix="talent-new-") as folder:
        yield Workspace(Path(folder))


def _base(who: Newcomer, *, need_base: bool) -> tuple[list[Finding], str, int]:
    """Findings, version and side of the base, without loading it."""
    from talent_factory.training.resolve import resolve_base

    try:
        found = resolve_base(who.base)
        version = "xl" if found.family == "sdxl" else "1.5"
        note = [Finding(severity="ok", subject="base", message=found.note)] if found.note else []
        return note, version, found.resolution()
    except BaseError as error:
        if need_base:
            raise
        version = "xl" if "xl" in who.base.lower() else "1.5"
        message = f"{error.message}; its usual size of {_SIDES[version]} px is taken"
        warned = Finding(severity="warn", subject="base", message=message, remedy=error.remedy)
        return [warned], version, _SIDES[version]


def _made_before(folder: Path, who: Newcomer, side: int) -> Made | None:
    """What lies in `folder` when it is of the same order; None when nothing does."""
    if not folder.exists():
        return None
    again = f"take another name, or replace it with --again (captions edited in {folder} are lost then)"
    try:
        made = read_record(folder / FOUND, Made)
    except FileError as error:
        raise UsageError(f"{folder} exists and is not of this command", remedy=again) from error
    if made.key != _key(who, side) or not (folder / CONFIG).is_file():
        raise UsageError(f"{folder} was made from other photos, words or for another size", remedy=again)
    return made


def _reconfigured(folder: Path, made: Made, who: Newcomer, config: str) -> Made:
    """Other options for the same photos: the config is written anew, unless a person edited it."""
    changed = made.model_copy(update={"config": config, "name": who.name})
    if changed == made:
        return made
    if config != made.config and (folder / CONFIG).read_text("utf-8") != made.config:
        raise UsageError(
            f"{folder / CONFIG} was edited by hand, and other options are asked for now",
            remedy=f"put them into it and: talent train {folder / CONFIG}",
        )
    if config != made.config:
        write_text(folder / CONFIG, config)
    write_json(folder / FOUND, changed.model_dump(mode="json"))
    return changed


def _key(who: Newcomer, side: int) -> str:
    from talent_factory.dataset.photos import photos_key

    # all that the pictures and captions are made of; the config has its own way to change
    words = [who.trigger, who.class_noun, who.medium]
    photos = photos_key(who.photos, resolution=side, keep_all=who.keep_all)
    return sha256_bytes(json_text([photos, words]).encode())


def _fill(
    fresh: Path,
    who: Newcomer,
    *,
    config: str,
    side: int,
    told: list[Finding],
    reporter: Reporter | None,
) -> Made:
    from talent_factory.dataset.photo_folder import write_photo_folder, write_photo_sheet
    from talent_factory.dataset.photos import examine_photos
    from talent_factory.dataset.tokens import token_findings

    found = examine_photos(
        who.photos,
        resolution=side,
        keep_all=who.keep_all,
        drawn=who.medium != "photo",
        reporter=reporter or SilentReporter(),
    )
    images = write_photo_folder(
        found,
        fresh / PHOTOS,
        token=who.trigger,
        class_noun=who.class_noun,
        resolution=side,
        medium=who.medium,
    )
    write_photo_sheet(found, images, fresh / SHEET, title=who.trigger)
    findings = [
        *told,
        *_agreed(who),
        *token_findings(who.trigger, class_noun=who.class_noun),
        *found.findings,
    ]
    made = Made(
        key=_key(who, side),
        config=config,
        images=len(found.kept),
        left_out=tuple(photo.name for photo in found.left_out),
        findings=tuple(findings),
        name=who.name,
    )
    write_json(fresh / FOUND, made.model_dump(mode="json"))
    write_text(fresh / CONFIG, config)
    return made


def _config(who: Newcomer, *, place: Workspace, version: str, side: int) -> str:
    """The training config: only what is particular to this person, a preset says the rest.

    Raises ConfigError for a value that no training takes.
    """
    from talent_factory.core.config import parse
    from talent_factory.training.config import TrainConfig
    from talent_factory.training.config_text import config_text

    keys: dict[str, Any] = {
        "id": who.talent_id,
        "kind": "lora",
        "sdx_version": version,
        "base_model": who.base,
        "train_data_dir": _data_folder(who, place),
        "resolution": side,
        "token": who.trigger,
        "class_noun": who.class_noun,
        # the embedded base is small and learns at other rates than the presets are made for
        **({"quality": "standard"} if who.base == "mini" else {"preset": who.preset}),
        **({"max_train_steps": who.steps} if who.steps else {}),
        **({"consent": who.consent} if who.consent else {}),
        "mode": "letterbox",
        "seed": who.seed,
        "description": f"{who.trigger}, a {who.class_noun}, learnt from photos",
        "tags": ["identity", who.class_noun],
    }
    parse(TrainConfig, {**_STAND_INS, **keys}, source="the options", remedy="talent new --help")
    head = (
        f"A likeness of {who.trigger}; the photos were checked, see {SHEET} and {FOUND} beside this file.",
    )
    return config_text(keys, head=head)


def _data_folder(who: Newcomer, place: Workspace, *, absolute: bool = False) -> str:
    folder = place.people / who.trigger / PHOTOS
    return folder.as_posix() if absolute else folder.relative_to(place.root).as_posix()


def _welcome(who: Newcomer, folder: Path, made: Made, side: int, *, kept_before: bool = False) -> Welcome:
    return Welcome(
        token=who.trigger,
        talent_id=who.talent_id,
        folder=folder,
        config=folder / CONFIG,
        sheet=folder / SHEET,
        images=made.images,
        left_out=made.left_out,
        resolution=side,
        base=who.base,
        findings=made.findings,
        kept_before=kept_before,
    )
