"""Turn what a config calls its base into files on this machine, without torch.

What is local is found without network: `mini`, a folder in diffusers form, one .safetensors checkpoint, or a
model of the hub that lies in the cache of huggingface_hub. Only `fetch` may download.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from talent_factory.core.errors import BaseError, ConfigError, FileError
from talent_factory.core.files import read_json
from talent_factory.training.checkpoint_header import (
    PICKLES,
    Family,
    checkpoint_family,
    embedded_shapes,
    pickle_refused,
    read_header,
)
from talent_factory.training.revision import PARTS, SECOND_PARTS, base_revision

MINI_FOLDER = Path(__file__).resolve().parents[1] / "assets" / "mini"

# Models that left the hub, and where their copies stand.
MOVED = {"runwayml/stable-diffusion-v1-5": "stable-diffusion-v1-5/stable-diffusion-v1-5"}
KNOWN = ("stable-diffusion-v1-5/stable-diffusion-v1-5", "stabilityai/stable-diffusion-xl-base-1.0")
"""Bases of the hub that `talent base list` looks for."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_SIDES: dict[Family, int] = {"sd15": 512, "sdxl": 1024}
_REMEDY = (
    "write base_model: mini, a folder in diffusers form, a .safetensors checkpoint or an id of the hub "
    f"such as {KNOWN[0]}"
)


@dataclass(frozen=True)
class FoundBase:
    """A base on this machine."""

    name: str
    """As it was asked for."""
    path: Path
    form: Literal["mini", "folder", "checkpoint"]
    family: Family
    note: str = ""
    """A sentence for the user, such as that the model has moved."""

    @property
    def kit_folder(self) -> Path | None:
        """The folder or file that says itself which layers a LoRA may have; None where the family does."""
        if self.form == "checkpoint":
            return self.path if embedded_shapes(read_header(self.path)) else None
        return self.path if self.form == "folder" else None

    def revision(self) -> str:
        """The sha256 over all that changes a result; reads every byte once a process."""
        return base_revision(self.path)

    def prediction(self) -> Literal["epsilon", "v_prediction"]:
        """What its UNet estimates, as its header or scheduler says; only loading it checks the rest."""
        if self.form == "checkpoint":
            return read_header(self.path).prediction
        try:
            said = read_json(self.path / "scheduler" / "scheduler_config.json").get("prediction_type")
        except FileError:
            return "epsilon"
        return "v_prediction" if said == "v_prediction" else "epsilon"

    def resolution(self) -> int:
        """Side in pixels that it was trained for. Raises BaseError when its files do not say."""
        try:
            if self.form == "checkpoint":
                own = embedded_shapes(read_header(self.path))
                if not own:
                    return _SIDES[self.family]
                unet, vae = own["unet"], own["vae"]
            else:
                unet = read_json(self.path / "unet" / "config.json")
                vae = read_json(self.path / "vae" / "config.json")
            return int(unet["sample_size"]) << (len(vae["block_out_channels"]) - 1)
        except (FileError, KeyError, TypeError, ValueError) as error:
            raise BaseError(
                f"the base in {self.path} does not state its size", remedy=f"talent base check {self.name}"
            ) from error

    @property
    def large(self) -> bool:
        """Whether it has the full size of its family, and not that of a test."""
        return self.size_bytes() > 1 << 30

    def size_bytes(self) -> int:
        """Bytes of its files on the disk."""
        if self.path.is_file():
            return self.path.stat().st_size
        return sum(path.stat().st_size for path in self.path.rglob("*") if path.is_file())


def resolve_base(name: str, *, fetch: bool = False) -> FoundBase:
    """The base called `name`, local first.

    Raises BaseError when there is none, saying what to write or to run. A model of the hub that is not here
    is downloaded only with `fetch`.
    """
    if name == "mini":
        if not (MINI_FOLDER / "model_index.json").is_file():
            raise BaseError(
                f"the embedded base is missing in {MINI_FOLDER}",
                remedy="reinstall the package, or talent base build mini",
            )
        return FoundBase(name="mini", path=MINI_FOLDER, form="mini", family="sd15")
    path = Path(name).expanduser()
    if name and path.is_dir():
        return _folder(name, path)
    if path.is_file():
        return FoundBase(name=name, path=path, form="checkpoint", family=checkpoint_family(read_header(path)))
    if path.suffix.lower() in PICKLES:
        raise pickle_refused(path)
    if path.suffix == ".safetensors" or not _HUB_ID.fullmatch(name):
        raise BaseError(f"no base model at {name[:200]!r}", remedy=_REMEDY)
    return _hub(name, fetch=fetch)


def check_version(family: str, sdx_version: str, *, name: str) -> None:
    """Raise ConfigError unless `sdx_version` is the generation that the base is of."""
    right = "xl" if family == "sdxl" else "1.5"
    if sdx_version != right:
        kind = "an SDXL" if family == "sdxl" else "a Stable Diffusion 1.5"
        raise ConfigError(
            f'{name} is {kind} model, but sdx_version says "{sdx_version}"',
            remedy=f'write sdx_version: "{right}", or name another base_model',
        )


def _folder(name: str, path: Path, note: str = "") -> FoundBase:
    if not (path / "unet").is_dir():
        files = sorted(path.glob("*.safetensors"))
        hint = f"name the file itself, such as {files[0]}" if files else _REMEDY
        raise BaseError(f"no base model at {name[:200]!r}: the folder holds no unet", remedy=hint)
    missing = [part for part in PARTS if not (path / part).is_dir()]
    if missing:
        raise BaseError(f"{path} is no whole base model: it has no {missing[0]}", remedy=_REMEDY)
    family: Family = "sdxl" if (path / "text_encoder_2").is_dir() else "sd15"
    return FoundBase(name=name, path=path, form="folder", family=family, note=note)


def _hub(name: str, *, fetch: bool) -> FoundBase:
    repository = MOVED.get(name, name)
    note = f"{name} is gone from the hub; {repository} is the same model" if repository != name else ""
    path = cached_snapshot(repository)
    if path is None and fetch:
        path = _download(repository)
    if path is None:
        raise BaseError(
            f"base model {name!r} is not on this machine" + (f" ({note})" if note else ""),
            remedy=f"talent base fetch {repository}, or name mini, a folder in diffusers form or a "
            ".safetensors checkpoint instead",
        )
    return _folder(name, path, note)


def cached_snapshot(repository: str) -> Path | None:
    """The folder of a hub model in the local cache; None when it or any of its parts is not there."""
    from huggingface_hub import try_to_load_from_cache

    index = try_to_load_from_cache(repository, "model_index.json")
    if not isinstance(index, str):
        return None
    folder = Path(index).parent
    try:
        stated = read_json(Path(index))
    except FileError:
        return None
    parts = [*PARTS, *(part for part in SECOND_PARTS if part in stated)]
    return folder if all(_whole(folder / part) for part in parts) else None


def _whole(part: Path) -> bool:
    """Whether a part was fetched to its end: its words, and the weights of those that have some."""
    if part.name.startswith(("tokenizer", "scheduler")):
        return any(part.glob("*.json"))
    index = next(iter(sorted(part.glob("*.safetensors.index*.json"))), None)
    if index is not None:
        names = set(read_json(index).get("weight_map", {}).values())
        return bool(names) and all((part / Path(name).name).is_file() for name in names)
    return (part / "config.json").is_file() and any(part.glob("*.safetensors"))


def _download(repository: str) -> Path:
    """Fetch what a training needs of a hub model: safetensors alone, of two precisions the fuller one."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    try:
        wanted = needed_files(HfApi().list_repo_files(repository))
        if not wanted:
            raise BaseError(
                f"{repository} has no model in diffusers form with safetensors weights", remedy=_REMEDY
            )
        return Path(snapshot_download(repository, allow_patterns=wanted))
    except GatedRepoError as error:
        raise BaseError(
            f"{repository} is only for those who accepted its terms",
            remedy=f"accept them at https://huggingface.co/{repository}, then hf auth login",
        ) from error
    except RepositoryNotFoundError as error:
        raise BaseError(f"there is no model {repository} on the hub", remedy=_REMEDY) from error
    except (HfHubHTTPError, OSError) as error:
        line = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise BaseError(
            f"{repository} is not on this machine and cannot be fetched: {line}",
            remedy="connect and try again, or give a local folder or .safetensors file",
        ) from error


def needed_files(names: Iterable[str]) -> list[str]:
    """The files of a hub model that are loaded, out of all that it offers, in a fixed order."""
    here = set(names)
    parts = (*PARTS, *SECOND_PARTS)
    chosen: list[str] = []
    for part in parts:
        files = sorted(name for name in here if name.startswith(f"{part}/") and name.count("/") == 1)
        chosen += [name for name in files if name.endswith((".json", ".txt")) and ".index." not in name]
        weights = [name for name in files if ".safetensors" in name and ".non_ema" not in name]
        full = [name for name in weights if ".fp16" not in name]
        chosen += full or weights
    complete = all(any(name.startswith(f"{part}/") for name in chosen) for part in PARTS)
    weighted = any(name.startswith("unet/") and ".safetensors" in name for name in chosen)
    return ["model_index.json", *chosen] if complete and weighted else []
