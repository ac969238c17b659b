"""Where the parts of a base come from: a folder in diffusers form or one checkpoint file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from talent_factory.core.errors import FileError
from talent_factory.core.files import read_json
from talent_factory.training.families.parts import broken, read_config, read_part
from talent_factory.training.families.port import Prediction
from talent_factory.training.families.shapes import Family
from talent_factory.training.revision import base_revision, part_revision
from talent_factory.training.schedule import v1_alphas_cumprod, zero_terminal_snr


class Source(Protocol):
    """The parts of one base, each read when it is asked for; errors are BaseErrors that say what is wrong."""

    path: Path
    family: Family

    def revision(self) -> str:
        """The sha256 over everything that changes a result."""

    def vae_revision(self) -> str:
        """The sha256 over what changes a latent."""

    def config(self, name: str) -> dict[str, Any]:
        """The configuration of one part."""

    def part(self, name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Configuration and tensors of unet, vae, text_encoder or text_encoder_2, by diffusers' names."""

    def tokenizer(self) -> Any:
        """The tokenizer of the (first) text encoder."""

    def noise(self) -> tuple[Tensor, Prediction]:
        """The schedule alphas_cumprod, (T,) float32, and what the UNet estimates."""


class FolderSource:
    """A folder in diffusers form."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.family: Family = folder_family(path)

    def revision(self) -> str:
        """The sha256 over names and contents of all parts."""
        return base_revision(self.path)

    def vae_revision(self) -> str:
        """The sha256 over the folder `vae`."""
        return part_revision(self.path, "vae")

    def config(self, name: str) -> dict[str, Any]:
        """What `name/config.json` says."""
        return read_config(self.path, name)

    def part(self, name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Configuration and tensors of one part."""
        return read_part(self.path, name)

    def tokenizer(self) -> Any:
        """The tokenizer that lies in the folder."""
        from transformers import CLIPTokenizer

        try:
            return CLIPTokenizer.from_pretrained(self.path / "tokenizer", local_files_only=True)
        except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
            line = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise broken(self.path, line) from error

    def noise(self) -> tuple[Tensor, Prediction]:
        """The schedule that scheduler/scheduler_config.json states."""
        try:
            config = read_json(self.path / "scheduler" / "scheduler_config.json")
        except FileError as error:
            raise broken(self.path, error.message) from error
        prediction = config.get("prediction_type", "epsilon")
        if config.get("beta_schedule") != "scaled_linear" or prediction not in ("epsilon", "v_prediction"):
            raise broken(
                self.path,
                f"its scheduler is {config.get('beta_schedule')} with {prediction} prediction, which is "
                "neither Stable Diffusion 1.5 nor SDXL",
            )
        try:
            alphas = v1_alphas_cumprod(
                steps=int(config.get("num_train_timesteps", 1000)),
                beta_start=float(config["beta_start"]),
                beta_end=float(config["beta_end"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise broken(self.path, f"scheduler_config.json is not usable: {error!r}") from error
        return zero_terminal_snr(alphas) if config.get("rescale_betas_zero_snr") else alphas, prediction


def folder_family(folder: Path) -> Family:
    """sdxl when there is a second text encoder, else sd15."""
    return "sdxl" if (folder / "text_encoder_2").is_dir() else "sd15"
