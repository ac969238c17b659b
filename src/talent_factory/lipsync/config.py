"""What a lip-sync training is told: the four YAML files data, train, model and optimizer."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from talent_factory.core.records import Record
from talent_factory.lipsync.masks import FaceMask
from talent_factory.lipsync.records import ClipName

MixedPrecision = Literal["no", "fp32", "fp16", "bf16"]
Scheduler = Literal["constant", "constant_with_warmup", "linear", "cosine"]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Weight = Annotated[float, Field(ge=0.0, le=1000.0)]
SYNC_FRAMES = 5
Count = Annotated[int, Field(ge=1)]
CountOrNone = Annotated[int, Field(ge=0)]


class DataConfig(Record):
    """`data.yaml`: where the clips lie and where the run goes."""

    model_config = ConfigDict(populate_by_name=True)

    s3_data_base_url: str | None = None
    """`s3://bucket/prefix` or `https://host/prefix`, read where a file is not at hand."""
    local_data_base_url: str | None = None
    """Folder that holds the dataset, looked at first."""
    metadata_url: str | None = None
    """`metadata.npz`: a path or an URL; beside the frames where it is not said."""
    output_dir: str = "runs/lipsync"
    image_folder_name: str = "aligned-frames"
    audio_folder_name: str = "audio"
    image_size: Annotated[int, Field(ge=16, le=2048, alias="IMAGE_SIZE")] = 256
    cache_dir: str | None = None
    """Disk cache of what was fetched and of latents; below output_dir where it is not said."""
    cache_gb: Annotated[float, Field(gt=0.0)] = 50.0
    latent_cache: bool = True
    """Encode each frame once and keep its latents on the disk."""
    look_ahead: Annotated[int, Field(ge=0, le=64)] = 4
    """Batches that are prepared in the background."""
    validation_clips: Share | tuple[ClipName, ...] = 0.05
    """Clips never trained on: a share of all, or their names."""


class TrainConfig(Record):
    """`train.yaml`: how long, how exactly, and what is minimised.

    `train_batch_size` times `gradient_accumulation_steps` samples make one optimizer step, on any number of
    processes. Lengths are in frames, weights of losses have no unit.
    """

    gradient_accumulation_steps: Count = 512
    mixed_precision: MixedPrecision = "fp16"
    wandb_enabled: bool = False
    wandb_project: str = "talent-lipsync"
    tensorboard_enabled: bool = False
    gradient_checkpointing: bool = False
    max_train_steps: Count = 5000
    validation_steps: CountOrNone = 100
    """Steps from one validation to the next; 0 for none."""
    validation_samples: Count = 32
    """Frames that a validation makes."""
    checkpointing_steps: CountOrNone = 0
    """Steps from one checkpoint to the next; 0 means as validation_steps."""
    checkpoints_total_limit: Count = 1000
    """Checkpoints of which the weights are kept."""
    full_states: Count = 2
    """Newest checkpoints that keep the whole state, to go on from."""
    train_batch_size: Count = 12
    micro_batch_size: Count | None = None
    """Samples at a time on one device; train_batch_size where it is not said. The step stays the same."""
    audio_length_left: Annotated[int, Field(ge=0, le=16)] = 2
    audio_length_right: Annotated[int, Field(ge=0, le=16)] = 2
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    deterministic: bool = False
    """Only repeatable algorithms on a GPU, too; the CPU's always are."""
    ema_decay: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.999
    """Memory of the averaged weights, which are validated and exported; 0 for none."""
    samples_per_epoch: Count | None = None
    clip_weight_power: Annotated[float, Field(ge=0.0, le=1.0)] = 0.5
    """Clips are drawn in proportion to their frames to this power: 1 as often as they are long, 0 equally."""
    self_reference: Share = 0.1
    """Share of samples whose reference is the frame itself, as animate gives it."""
    far_reference: Count = 5
    """All other references lie more frames away than this."""
    silence: Share = 0.05
    """Share of samples that teach silence to close the mouth."""
    audio_dropout: Share = 0.05
    """Share of samples without audio."""
    mouth_reference: Share = 0.5
    """Share of samples whose reference is chosen for a sound, hence a mouth, unlike the frame's own."""
    latent_loss: Weight = 1.0
    pixel_loss: Weight = 2.0
    """Weight of L1 over decoded pixels, 0 to train on latents alone; `mouth_weight` times in the mouth."""
    mouth_weight: Weight = 1.0
    perceptual_loss: Weight = 0.0
    vgg_weights: str | None = None
    """Local VGG weights for the perceptual loss; gradients at several scales where there are none."""
    gan_loss: Weight = 0.0
    gan_kind: Literal["hinge", "ls"] = "hinge"
    gan_start: CountOrNone = 0
    """Step at which the discriminator and the feature matching begin together."""
    gan_learning_rate: Annotated[float, Field(gt=0.0, le=1e-2)] = 1e-4
    feature_matching_loss: Weight = 1.0
    """Weight beside the GAN; without effect when gan_loss is 0."""
    sync_loss: Weight = 0.0
    sync_model: str | None = None
    """A SyncNet of `talent lipsync sync-train`; needed by sync_loss, and adds its figures to validation."""
    frames: Annotated[int, Field(ge=1, le=64)] = 1
    """Frames that follow each other in one sample; more than 1 for the second stage."""
    trainable: Literal["all", "temporal"] = "all"
    """`temporal` trains only the temporal layers and the attention to audio (second stage)."""

    @model_validator(mode="after")
    def _fits(self) -> TrainConfig:
        micro = self.micro_batch_size or self.train_batch_size
        if self.effective_batch % micro:
            raise ValueError(
                f"micro_batch_size {micro} does not divide the {self.effective_batch} samples of a step"
            )
        if self.sync_loss and self.sync_model is None:
            raise ValueError("sync_loss needs a sync_model: talent lipsync sync-train makes one")
        if self.sync_loss and self.frames < SYNC_FRAMES:
            raise ValueError(f"sync_loss needs frames of {SYNC_FRAMES} or more")
        if self.latent_loss == 0 and self.pixel_loss == 0:
            raise ValueError("latent_loss and pixel_loss are both 0: nothing would be learnt")
        return self

    @property
    def effective_batch(self) -> int:
        """Samples of one optimizer step."""
        return self.train_batch_size * self.gradient_accumulation_steps

    @property
    def micro(self) -> int:
        """Samples at a time on one device."""
        return self.micro_batch_size or self.train_batch_size

    @property
    def checkpoint_every(self) -> int:
        """Steps from one checkpoint to the next."""
        return self.checkpointing_steps or self.validation_steps or self.max_train_steps

    @property
    def needs_pixels(self) -> bool:
        """Whether a loss looks at decoded frames."""
        return any((self.pixel_loss, self.perceptual_loss, self.gan_loss, self.sync_loss))


class ModelConfig(Record):
    """`model.yaml`: which network, which codec, and where the weights start."""

    unet_config_file: str = "full"
    """A diffusers UNet2DConditionModel as JSON, or a preset: full, half, quarter, tiny."""
    vae_pretrained_model_name_or_path: str = "madebyollin/taesd"
    """`madebyollin/taesd`, a local folder of an AutoencoderTiny or AutoencoderKL, or dct8, dct4, mini."""
    resume_from_checkpoint: str | None = None
    """`latest`, a checkpoint, or bare UNet weights to begin from."""
    mask: FaceMask = FaceMask()
    """What of the face is covered: kind (half, rectangle, ellipse), top, side, below."""
    feed_mask: bool = False
    """Give the mask to the network as one more channel."""
    temporal: bool = False
    """Attention between the frames of a sample, of no effect before it is trained (second stage)."""


class OptimizerConfig(Record):
    """`optimizer.yaml`: AdamW and the course of its rate; the schedule counts optimizer steps."""

    learning_rate: Annotated[float, Field(gt=0.0, le=0.1)] = 5e-5
    scale_lr: bool = False
    """Multiply the rate by the samples of a step."""
    lr_scheduler: Scheduler = "cosine"
    lr_warmup_steps: CountOrNone = 0
    adam_beta1: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    adam_beta2: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.999
    adam_weight_decay: Annotated[float, Field(ge=0.0, le=1.0)] = 0.01
    adam_epsilon: Annotated[float, Field(gt=0.0)] = 1e-8
    max_grad_norm: Annotated[float, Field(gt=0.0)] = 1.0


class LipsyncConfig(Record):
    """The four files together."""

    data: DataConfig = DataConfig()
    train: TrainConfig = TrainConfig()
    model: ModelConfig = ModelConfig()
    optimizer: OptimizerConfig = OptimizerConfig()

    @model_validator(mode="after")
    def _second_stage(self) -> LipsyncConfig:
        if self.train.frames > 1 and not self.model.temporal and self.train.trainable == "temporal":
            raise ValueError("train.trainable is temporal, but model.temporal is false")
        if self.model.temporal and self.train.frames < 2:
            raise ValueError("model.temporal needs train.frames of 2 or more")
        return self
