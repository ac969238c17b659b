"""The trainer we compare with: diffusers and peft put together as their documentation shows, and no faster.

Sources: the LoRA training guide and the `UNet2DConditionModel.add_adapter` page of diffusers, the
`LoraConfig` page of peft, the quick tour of accelerate. Each step reads the images of the batch from disk
through a DataLoader, encodes them with the VAE, encodes their captions with the text encoder, adds noise,
lets the UNet predict it under autocast, and moves fp32 LoRA weights with AdamW. With `cached`, the only
thing that is done for speed, images and captions are encoded once before the first step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

# kohya's targets, so that both sides train the same layers: 192 in SD 1.5
TARGETS = r".*attentions\.\d+\.(proj_in|proj_out|.*(attn[12]\.to_(q|k|v|out\.0)|ff\.net\.(0\.proj|2)))"


@dataclass(frozen=True)
class Work:
    """What is trained; the same words for every trainer of a comparison."""

    base: Path
    dataset: Path
    out: Path
    resolution: int
    steps: int
    batch: int = 1
    rank: int = 16
    learning_rate: float = 1e-4
    precision: str = "bf16"
    device: str = "cpu"
    checkpointing: bool = False
    cached: bool = False
    seed: int = 0
    alpha: float | None = None


class Pictures(torch.utils.data.Dataset[dict[str, Any]]):
    """Images of a prepared dataset in -1..1 with their caption."""

    def __init__(self, work: Work) -> None:
        from talent_factory.dataset.manifest import load_dataset

        items = load_dataset(work.dataset).items
        self._items = [(work.dataset / item.file, item.caption) for item in items]

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        path, caption = self._items[index]
        with Image.open(path) as image:
            pixels = torch.frombuffer(bytearray(image.convert("RGB").tobytes()), dtype=torch.uint8)
            pixels = pixels.view(image.height, image.width, 3)
        return {"pixels": pixels.permute(2, 0, 1).float() / 127.5 - 1.0, "caption": caption}


class Models:
    """The parts of the base, frozen, as `from_pretrained` loads them."""

    def __init__(self, work: Work) -> None:
        from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
        from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

        self.dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[work.precision]
        self.device = torch.device(work.device)
        self.xl = (work.base / "text_encoder_2").is_dir()
        self.schedule = DDPMScheduler.from_pretrained(work.base, subfolder="scheduler")
        self.vae = AutoencoderKL.from_pretrained(work.base, subfolder="vae")
        self.unet = UNet2DConditionModel.from_pretrained(work.base, subfolder="unet", torch_dtype=self.dtype)
        kinds = [CLIPTextModel, CLIPTextModelWithProjection] if self.xl else [CLIPTextModel]
        self.texts = [
            (
                CLIPTokenizer.from_pretrained(work.base, subfolder=f"tokenizer{end}"),
                kind.from_pretrained(work.base, subfolder=f"text_encoder{end}").to(self.device, self.dtype),
            )
            for kind, end in zip(kinds, ("", "_2"), strict=False)
        ]
        # SDXL's VAE overflows in half precision, so its documented script keeps it in fp32
        self.vae.to(self.device, torch.float32 if self.xl else self.dtype)
        self.unet.to(self.device)
        for part in (self.vae, self.unet, *(text for _, text in self.texts)):
            part.requires_grad_(False)

    def latents(self, pixels_BCHW: Tensor) -> Tensor:
        """A sample of the VAE's posterior, in the UNet's units."""
        posterior = self.vae.encode(pixels_BCHW.to(self.device, self.vae.dtype)).latent_dist
        return posterior.sample().to(self.dtype) * self.vae.config.scaling_factor

    def words(self, captions: list[str], side: int) -> tuple[Tensor, dict[str, Tensor] | None]:
        """What the UNet reads of captions, and SDXL's further conditions."""
        states, pooled = [], None
        for tokenizer, text in self.texts:
            ids = tokenizer(
                captions,
                padding="max_length",
                truncation=True,
                max_length=tokenizer.model_max_length,
                return_tensors="pt",
            ).input_ids.to(self.device)
            said = text(ids, output_hidden_states=self.xl)
            pooled = said[0]
            states.append(said.hidden_states[-2] if self.xl else said[0])
        if not self.xl:
            return states[0], None
        times = torch.tensor([[side, side, 0, 0, side, side]] * len(captions)).to(self.device, self.dtype)
        return torch.cat(states, dim=-1), {"text_embeds": pooled, "time_ids": times}


def train_reference(work: Work, *, after: Callable[[int, float], None]) -> Path:
    """Train as `work` says; `after(step, seconds since the start)` is called when a step has ended.

    Returns the folder of the LoRA, written by `StableDiffusionPipeline.save_lora_weights`.
    """
    from accelerate import Accelerator
    from accelerate.utils import set_seed
    from diffusers.optimization import get_scheduler
    from diffusers.training_utils import cast_training_params
    from peft import LoraConfig

    accelerator = Accelerator(
        mixed_precision="no" if work.precision == "fp32" else work.precision, cpu=work.device == "cpu"
    )
    set_seed(work.seed)
    models = Models(work)
    unet = models.unet
    alpha = work.rank if work.alpha is None else work.alpha
    unet.add_adapter(
        LoraConfig(r=work.rank, lora_alpha=alpha, init_lora_weights="gaussian", target_modules=TARGETS)
    )
    cast_training_params(unet, dtype=torch.float32)
    if work.checkpointing:
        unet.enable_gradient_checkpointing()
    trained = [parameter for parameter in unet.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=work.learning_rate, weight_decay=1e-2, eps=1e-8)
    rate = get_scheduler("cosine", optimizer=optimizer, num_warmup_steps=0, num_training_steps=work.steps)
    loader = torch.utils.data.DataLoader(
        _Repeated(Pictures(work), work.batch), batch_size=work.batch, shuffle=True, collate_fn=_together
    )
    unet, optimizer, loader, rate = accelerator.prepare(unet, optimizer, loader, rate)
    batches = _encoded_once(models, work) if work.cached else _encoded_each_time(models, loader, work)
    unet.train()
    started = time.perf_counter()
    for step, (latents, words, further) in enumerate(batches, start=1):
        noise = torch.randn_like(latents)
        count = models.schedule.config.num_train_timesteps
        timesteps = torch.randint(0, count, (len(latents),), device=latents.device).long()
        noisy = models.schedule.add_noise(latents, noise, timesteps)
        with accelerator.autocast():
            said = unet(noisy, timesteps, words, added_cond_kwargs=further, return_dict=False)[0]
        loss = F.mse_loss(said.float(), noise.float(), reduction="mean")
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        rate.step()
        optimizer.zero_grad()
        # every documented script shows the loss in its progress bar
        loss.detach().item()
        after(step, time.perf_counter() - started)
        if step == work.steps:
            break
    _save(accelerator.unwrap_model(unet), models, work.out)
    return work.out


def _encoded_each_time(models: Models, loader: Any, work: Work) -> Iterator[tuple[Tensor, Tensor, Any]]:
    while True:
        for batch in loader:
            with torch.no_grad():
                latents = models.latents(batch["pixels"])
                words, further = models.words(batch["captions"], work.resolution)
            yield latents, words, further


@torch.no_grad()
def _encoded_once(models: Models, work: Work) -> Iterator[tuple[Tensor, Tensor, Any]]:
    pictures = Pictures(work)
    known = []
    for index in range(len(pictures)):
        picture = pictures[index]
        posterior = models.vae.encode(picture["pixels"][None].to(models.device, models.vae.dtype)).latent_dist
        known.append((posterior, models.words([picture["caption"]], work.resolution)))
    # what a cache is for: the encoders are not needed any more
    scale = models.vae.config.scaling_factor
    models.vae, models.texts = models.vae.to("meta"), []
    while True:
        order = torch.randperm(max(len(known), work.batch)).tolist()
        for start in range(0, len(order) - work.batch + 1, work.batch):
            rows = [known[index % len(known)] for index in order[start : start + work.batch]]
            latents = torch.cat([posterior.sample() for posterior, _ in rows]).to(models.dtype) * scale
            further = [said[1] for _, said in rows]
            joined = (
                {name: torch.cat([one[name] for one in further]) for name in further[0]}
                if further[0] is not None
                else None
            )
            yield latents, torch.cat([said[0] for _, said in rows]), joined


class _Repeated(torch.utils.data.Dataset[dict[str, Any]]):
    """The pictures, again and again until one batch is full."""

    def __init__(self, pictures: Pictures, batch: int) -> None:
        self._pictures = pictures
        self._count = -(-batch // len(pictures)) * len(pictures)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._pictures[index % len(self._pictures)]


def _together(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "pixels": torch.stack([row["pixels"] for row in rows]),
        "captions": [row["caption"] for row in rows],
    }


def _save(unet: Any, models: Models, out: Path) -> None:
    from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft.utils import get_peft_model_state_dict

    kind = StableDiffusionXLPipeline if models.xl else StableDiffusionPipeline
    layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(unet))
    kind.save_lora_weights(save_directory=str(out), unet_lora_layers=layers, safe_serialization=True)
