"""Fill the keys that a user left out of a training config: preset, device and quality dial, in that order."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from talent_factory.core.errors import ConfigError, DatasetError
from talent_factory.core.workspace import Workspace, workspace_from
from talent_factory.dataset.layout import read_folder
from talent_factory.training.devices import DeviceFacts, device_facts
from talent_factory.training.presets import Chosen, preset_keys, quality_keys
from talent_factory.training.profiles import derive_profile
from talent_factory.training.shapes import base_shape

# Images that are assumed for a folder that is not there yet.
_USUAL_IMAGES = 30


def filled(
    data: Mapping[str, Any],
    *,
    source: str,
    place: Workspace | None = None,
    facts: DeviceFacts | None = None,
) -> Chosen:
    """All keys of `data` and those that its `preset`, `quality` and `profile` stand for, with the reasons.

    What is written always stays. A config with none of the three comes back as it is. Raises ConfigError when
    preset and quality are both given, and for names that are not known.
    """
    preset, quality = _word(data, "preset", source), _word(data, "quality", source)
    profile = data.get("profile", "auto" if preset or quality else "off")
    if preset and quality:
        raise ConfigError(
            f"{source}: preset and quality both say how long to train", remedy="give one of the two"
        )
    if not preset and not quality and profile != "auto":
        return Chosen(values=dict(data), reasons=())
    images = count_images(data.get("train_data_dir"), place=place)
    suggested: dict[str, Any] = {}
    reasons: list[str] = []
    if preset:
        named = preset_keys(preset, images=images, given=data.keys())
        suggested, reasons = dict(named.values), [*named.reasons]
    base, version = str(data.get("base_model", "")), str(data.get("sdx_version", "1.5"))
    mini = base == "mini"
    if profile == "auto":
        derived = derive_profile(
            data,
            suggested=suggested,
            shape=base_shape(base, version),
            facts=facts or device_facts(data.get("device", "auto")),
            source=source,
        )
        suggested |= derived.values
        reasons += derived.reasons
    if quality:
        merged = {"batch_size": 1, "accumulation": 1, **suggested, **data}
        step = _whole(merged["batch_size"]) * _whole(merged["accumulation"])
        dialled = quality_keys(quality, images=images, images_per_step=step, mini=mini)
        suggested = {**dialled.values, **suggested}
        reasons += dialled.reasons
    return Chosen(values=_merged(suggested, data), reasons=tuple(reasons))


def _merged(suggested: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Both, `given` first; inside groups of keys too."""
    both = {**suggested, **given}
    for key, value in given.items():
        filling = suggested.get(key)
        if isinstance(value, Mapping) and isinstance(filling, Mapping):
            both[key] = {**filling, **value}
    return both


def count_images(written: object, *, place: Workspace | None = None) -> int:
    """The images in the folder that a config names, from here or from the workspace; the usual 30 without."""
    folder = Path(str(written or "")).expanduser()
    if not folder.exists() and not folder.is_absolute():
        folder = (place or workspace_from()).root / folder
    try:
        return len(read_folder(folder)) if written and folder.is_dir() else _USUAL_IMAGES
    except DatasetError:
        return _USUAL_IMAGES  # the same folder is read again, and refused, where its remedy helps


def _word(data: Mapping[str, Any], key: str, source: str) -> str:
    value = data.get(key)
    if value is None or isinstance(value, str):
        return value or ""
    raise ConfigError(f"{source}: '{key}' is no word (got {value!r})", remedy=f"write {key}: standard")


def _whole(value: object) -> int:
    """A number that is not checked yet: the config's own error comes later and is better."""
    return value if isinstance(value, int) and value > 0 else 1
