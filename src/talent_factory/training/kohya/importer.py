"""A kohya training becomes one of ours: the config, and what became of every option."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from talent_factory.core.config import parse
from talent_factory.core.errors import ConfigError
from talent_factory.core.records import Record
from talent_factory.core.workspace import check_token
from talent_factory.training.config import TrainConfig
from talent_factory.training.config_text import config_text
from talent_factory.training.kohya import around, translate
from talent_factory.training.kohya.folders import Images, find_images, slug
from talent_factory.training.kohya.notes import Note
from talent_factory.training.kohya.sheet import Sheet
from talent_factory.training.kohya.source import Asked, Family, read_asked
from talent_factory.training.kohya.tables import DIFFERS, NEEDLESS, OFF

_KNOWN = tuple({*NEEDLESS, *DIFFERS})
_STEPS = 1600  # sd-scripts' default
# In this order a person reads a config.
_ORDER = tuple(TrainConfig.model_fields)
_LEAST_XL = 768
_MOST_PROMPTS = 8


class Wanted(Record):
    """What the user says beside the file; it outranks what the file says."""

    id: str = ""
    kind: Literal["identity", "style"] = "identity"
    token: str = ""
    class_noun: str = ""
    base: str = ""
    data: str = ""
    sdx_version: Literal["", "1.5", "xl"] = ""


class Imported(Record):
    """A training read from kohya's world. `config` holds the keys to write; `form` is what the file was."""

    source: str
    form: str
    config: dict[str, Any]
    notes: tuple[Note, ...]

    def of(self, *outcomes: str) -> tuple[Note, ...]:
        """The notes with one of these outcomes."""
        return tuple(note for note in self.notes if note.outcome in outcomes)

    def text(self) -> str:
        """The YAML file: the config, and above it what it does otherwise than the original."""
        odd = [
            f"{note.key} {note.value}".rstrip() + f": {note.text}"
            for note in self.of("differs", "unknown", "missing")
        ]
        head = [f"Imported from {Path(self.source).name}, a {self.form} of kohya's sd-scripts."]
        head += ["What is otherwise here:", *(f"- {line}" for line in odd)] if odd else []
        return config_text(self.config, head=head)


def import_kohya(path: Path, wanted: Wanted | None = None) -> Imported:
    """Read the kohya training in `path` (see `source.read_asked`); nothing is run, nothing is downloaded.

    Raises ConfigError when the file cannot be read, trains another kind of model or no LoRA, or lacks what a
    training needs, with the option that supplies it.
    """
    asked, wish = read_asked(path), wanted or Wanted()
    sheet = Sheet(asked.values, asked.notes)
    version = wish.sdx_version or asked.family or _guess(sheet)
    for key, value in (("kind", "lora"), ("sdx_version", version)):
        sheet.quietly(key, value)
    translate.base(sheet)
    images = find_images(sheet, asked.subsets)
    translate.size(sheet, default=1024 if version == "xl" else 512)
    translate.network(sheet)
    translate.rates(sheet)
    around.machine(sheet)
    epoch = images.epoch(
        batch=sheet.config["batch_size"], accumulation=int(sheet.config.get("accumulation", 1))
    )
    steps = _steps(sheet, epoch)
    translate.curve(sheet, steps=steps)
    translate.optimizer(sheet)
    translate.one_rate(sheet)
    translate.loss(sheet)
    translate.noise(sheet)
    around.captions(sheet)
    around.pace(sheet, steps=steps, per_epoch=epoch)
    around.labels(sheet)
    _prompts(sheet, path)
    _subject(sheet, wish, images)
    _rest(sheet)
    return _finished(sheet, path=path, asked=asked, wish=wish)


def _guess(sheet: Sheet) -> Family:
    """The family where no script's name tells it: by the base's name, else by the size."""
    name = Path(str(sheet.left.get("pretrained_model_name_or_path") or "")).name.lower()
    raw = "".join(letter if letter.isdigit() else " " for letter in str(sheet.left.get("resolution") or ""))
    large = any(int(side) >= _LEAST_XL for side in raw.split() if len(side) < 6)
    family: Family = "xl" if "xl" in name or ("1.5" not in name and "v1-5" not in name and large) else "1.5"
    sheet.say("differs", "sdx_version", None, f'guessed: "{family}"; --sdx-version decides')
    return family


def _steps(sheet: Sheet, epoch: int) -> int:
    epochs, steps = sheet.number("max_train_epochs"), sheet.number("max_train_steps")
    if epochs and epoch:
        count = max(1, round(epochs * epoch))
        sheet.put(
            "max_train_steps", count, source="max_train_epochs", raw=int(epochs), text=f"{epoch} in each"
        )
        return count
    count = int(steps) if steps else _STEPS
    if epochs:
        sheet.quietly("max_train_steps", count)
        sheet.say(
            "differs",
            "max_train_epochs",
            int(epochs),
            f"the images are not here to count an epoch: max_train_steps: {count}",
        )
    else:
        sheet.put(
            "max_train_steps",
            count,
            source="max_train_steps",
            raw=steps and int(steps),
            text="" if steps else "sd-scripts' default",
        )
    return count


def _prompts(sheet: Sheet, source: Path) -> None:
    """Sample prompts: a file of them, or the text itself as the window keeps it."""
    told = sheet.take("sample_prompts")
    if not told:
        return
    text = str(told)
    named = next(
        (place for place in (Path(text), source.parent / text) if len(text) < 255 and place.is_file()), None
    )
    if named is not None and named.suffix.lower() != ".txt":
        sheet.say("differs", "sample_prompts", text, "only .txt files of prompts are read")
        return
    if named is None and text.lower().endswith((".txt", ".toml", ".json")):
        sheet.say("differs", "sample_prompts", text, "the file is not here: captions are drawn instead")
        return
    lines = (named.read_text("utf-8", "replace") if named else text).splitlines()
    prompts = [line.partition(" --")[0].strip() for line in lines if line.strip() and line.strip()[0] != "#"]
    if prompts:
        sheet.put(
            "sample_prompts",
            prompts[:_MOST_PROMPTS],
            source="sample_prompts",
            raw=text,
            text="without their --options",
        )


def _subject(sheet: Sheet, wish: Wanted, images: Images) -> None:
    """Id, token and class noun: from the user, else the folders, else the name of the file to be."""
    name = str(sheet.take("output_name") or "")
    token = wish.token or images.token or slug(name)
    if wish.kind == "identity" and not wish.token and not images.token and token:
        sheet.say(
            "missing", "class_tokens", None, f"no folder names the trigger: token: {token}; --token decides"
        )
    if token:
        sheet.quietly("token", check_token(token))
    noun = (wish.class_noun or images.class_noun)[:40]
    if noun:
        sheet.quietly("class_noun", noun)
    sheet.quietly("id", wish.id or f"avatar.{wish.kind}.{slug(name) or token or 'imported'}")
    if name:
        sheet.say("mapped", "output_name", name, f"id: {sheet.config['id']}")
    for key, value in (("base_model", wish.base), ("train_data_dir", wish.data)):
        if value:
            sheet.quietly(key, value)


def _rest(sheet: Sheet) -> None:
    """What no rule took: needless, different or unknown; options that are off are passed over."""
    for key, value in sorted(sheet.left.items()):
        if value in (False, None, "") or value in OFF.get(key, ()):
            continue
        if key in NEEDLESS:
            sheet.say("needless", key, value, NEEDLESS[key])
        elif key in DIFFERS:
            sheet.say("differs", key, value, DIFFERS[key])
        else:
            near = get_close_matches(key, _KNOWN, n=1, cutoff=0.85)
            sheet.say("unknown", key, value, "not obeyed" + (f"; meant is perhaps {near[0]}" if near else ""))


def _finished(sheet: Sheet, *, path: Path, asked: Asked, wish: Wanted) -> Imported:
    needed = [("base_model", "--base"), ("train_data_dir", "--data")]
    needed += [("token", "--token")] if wish.kind == "identity" else []
    missing = [(key, option) for key, option in needed if not sheet.config.get(key)]
    if missing:
        names = " and ".join(key for key, _ in missing)
        options = " ".join(f"{option} ..." for _, option in missing)
        raise ConfigError(
            f"{path} ({asked.form}) says nothing of {names}", remedy=f"add {options} to the same command"
        )
    config = {key: sheet.config[key] for key in _ORDER if key in sheet.config}
    parse(TrainConfig, config, source=f"{path}, as ours", remedy="correct it there, or import and edit")
    return Imported(source=str(path), form=asked.form, config=config, notes=tuple(sheet.notes))
