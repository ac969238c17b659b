"""One checkpoint file with a whole base in it, as the web knows them: read part by part, and written."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from talent_factory.core.files import atomic_path
from talent_factory.core.unet_names import SHAPES_WORD, diffusers_names, stability_names
from talent_factory.training.checkpoint_header import (
    TEXT_SD15,
    TEXT_SDXL,
    UNET,
    VAE,
    CheckpointHeader,
    checkpoint_family,
    embedded_shapes,
    read_header,
)
from talent_factory.training.families.checkpoint_names import (
    text_from_open_clip,
    text_to_open_clip,
    vae_to_checkpoint,
    vae_to_diffusers,
)
from talent_factory.training.families.parts import broken
from talent_factory.training.families.port import Prediction
from talent_factory.training.families.shapes import PARTS, Config, Family
from talent_factory.training.families.vocabulary import clip_tokenizer
from talent_factory.training.revision import base_revision
from talent_factory.training.schedule import v1_alphas_cumprod, zero_terminal_snr


class CheckpointSource:
    """A .safetensors file in the names of CompVis (SD 1.5) or Stability (SDXL).

    Raises BaseError when the file is no such checkpoint, of another family, a pickle or cut short.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.header: CheckpointHeader = read_header(path)
        self.family: Family = checkpoint_family(self.header)
        self._shapes: Mapping[str, Config] = {**PARTS[self.family], **embedded_shapes(self.header)}

    def revision(self) -> str:
        """The sha256 of the file."""
        return base_revision(self.path)

    def vae_revision(self) -> str:
        """The sha256 of the file: reading 7 GB once is cheaper than being wrong about a latent."""
        return base_revision(self.path)

    def config(self, name: str) -> dict[str, Any]:
        """The family's own configuration of one part, or the one in the header."""
        return dict(self._shapes[name])

    def part(self, name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Configuration and tensors of one part, in diffusers' names."""
        config = dict(self._shapes[name])
        if name == "unet":
            rename = self._unet_names(config)
            return config, {rename(key): tensor for key, tensor in self._read(UNET).items()}
        if name == "vae":
            levels = len(config["block_out_channels"])
            return config, {vae_to_diffusers(key, levels): tensor for key, tensor in self._read(VAE).items()}
        if name == "text_encoder_2":
            return config, text_from_open_clip(self._read(TEXT_SDXL[1]))
        return config, self._read(TEXT_SD15 if self.family == "sd15" else TEXT_SDXL[0])

    def tokenizer(self) -> Any:
        """CLIP's own: a checkpoint carries none."""
        return clip_tokenizer()

    def noise(self) -> tuple[Tensor, Prediction]:
        """The schedule of both families, and what the header says the UNet estimates."""
        alphas = v1_alphas_cumprod()
        return zero_terminal_snr(alphas) if self.header.zero_terminal else alphas, self.header.prediction

    def _unet_names(self, config: Config) -> Callable[[str], str]:
        try:
            return diffusers_names(config)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise broken(self.path, f"the configuration of unet is not usable: {error!r}") from error

    def _read(self, prefix: str) -> dict[str, Tensor]:
        try:
            with safe_open(self.path, framework="pt") as stored:
                names = [name for name in self.header.shapes if name.startswith(prefix)]
                return {name.removeprefix(prefix): stored.get_tensor(name) for name in names}
        except (OSError, SafetensorError, RuntimeError) as error:
            raise broken(self.path, str(error).splitlines()[0]) from error


def write_checkpoint(
    path: Path,
    parts: Mapping[str, Mapping[str, Tensor]],
    *,
    family: Family,
    configs: Mapping[str, Config],
    words: Mapping[str, str] | None = None,
) -> Path:
    """Write the parts of a base (diffusers' names) as one checkpoint file; returns `path`.

    Configurations that are not the family's usual ones go into the header, where `CheckpointSource` finds
    them; other programs know such a file by its shapes or not at all.
    """
    tensors: dict[str, Tensor] = {}
    to_unet = stability_names(configs["unet"])
    tensors.update({UNET + to_unet(name): tensor for name, tensor in parts["unet"].items()})
    levels = len(configs["vae"]["block_out_channels"])
    for name, tensor in parts["vae"].items():
        key = vae_to_checkpoint(name, levels)
        # the middle's attention is a 1 x 1 convolution there
        wide = ".mid.attn_1." in key and tensor.dim() == 2
        tensors[VAE + key] = tensor[:, :, None, None] if wide else tensor
    text = TEXT_SD15 if family == "sd15" else TEXT_SDXL[0]
    for name, tensor in parts["text_encoder"].items():
        tensors[f"{text}text_model.{name.removeprefix('text_model.')}"] = tensor
    if family == "sdxl":
        second = text_to_open_clip(parts["text_encoder_2"])
        tensors.update({TEXT_SDXL[1] + name: tensor for name, tensor in second.items()})
    unusual = {part: dict(config) for part, config in configs.items() if config != PARTS[family][part]}
    header = {"format": "pt", **(words or {})}
    if unusual:
        header[SHAPES_WORD] = json.dumps(unusual, sort_keys=True)
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata=header)
    return path
