"""What a lip-sync training is told: the four YAML files data, train, model and optimizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from talent_factory.core.records import Record
from talent_factory.lipsync.masks import FaceMask
from talent_factory.lipsync.records import ClipName, is_clip_name

MixedPrecision = Literal["no", "fp32", "fp16", "bf16"]
Scheduler = Literal["constant", "constant_with_warmup", "linear", "cosine"]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Weight = Annotated[float, Field(ge=0.0, le=1000.0)]
SYNC_FRAMES = 5
Count = Annotated[int, Field(ge=1, le=10**9)]
BatchSize = Annotated[int, Field(ge=1, le=65536)]
CountOrNone = Annotated[int, Field(ge=0, le=10**9)]


def _share_or_names(value: Any) -> Any:
    """Refuse what is neither in words of ours: a union would tell of both of its types."""
    if isinstance(value, str | list | tuple):
        names = [value] if isinstance(value, str) else list(value)
        wrong = next((name for name in names if not is_clip_name(name)), None)
        if wrong is not None:
            raise ValueError(f"{wrong!r} is no name of a clip, and no share between 0 and 1")
        return names
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0.0 <= value <= 1.0:
        raise ValueError("write a share between 0 and 1, or names of clips: [HDTF-0001, HDTF-0002]")
    return value


ShareOrNames = Annotated[Share | tuple[ClipName, ...], BeforeValidator(_share_or_names)]


class DataConfig(Record):
    """`data.yaml`: where the clips lie and where the run goes."""

    model_config = ConfigDict(populate_by_name=True, use_attribute_docstrings=True)

    s3_data_base_url: str | None = None
    """`s3://bucket/prefix` or `https://host/prefix`, read where a file is not at hand."""
    local_data_base_url: str | None = None
    """Folder that holds the dataset, looked at first."""
    metadata_url: str | None = None
    """`metadata.npz`: a path or an URL; beside the frames where it is not said."""
    output_dir: str = "runs/lipsync"
    """Folder of the run: checkpoints, figures, strips, logs."""
    image_folder_name: str = "aligned-frames"
    """Folder of the frames below the dataset: image_folder_name/CLIP/FRAME.png."""
    audio_folder_name: str = "audio"
    """Folder of the features: audio_folder_name/CLIP/FRAME.npy."""
    image_size: Annotated[int, Field(ge=16, le=2048, alias="IMAGE_SIZE")] = 256
    """Side of the frames in pixels, as they lie in the dataset; nothing is resized."""
    cache_dir: str | None = None
    """Disk cache of what was fetched and of latents; below output_dir where it is not said."""
    cache_gb: Annotated[float, Field(gt=0.0)] = 50.0
    """Size at which the oldest fetched files go, in GiB; latents do not count."""
    latent_cache: bool = True
    """Encode each frame once and keep its latents on the disk."""
    look_ahead: Annotated[int, Field(ge=0, le=64)] = 4
    """Batches that are prepared in the background."""
    validation_clips: ShareOrNames = 0.05
    """Clips never trained on: their names, or a share of all, which keeps speakers whole: `VIDEO-0001` and
    `VIDEO-0002` are of one. `SYNTH-0001` and `HDTF-0001` count alone, as do clips that all have one name
    before their numbers.
    """


class TrainConfig(Record):
    """`train.yaml`: how long, how exactly, and what is minimised.

    `train_batch_size` times `gradient_accumulation_steps` samples make one optimizer step, on any number of
    processes. Lengths are in frames, weights of losses have no unit.
    """

    model_config = ConfigDict(use_attribute_docstrings=True)

    gradient_accumulation_steps: Count = 512
    """Batches of train_batch_size in one optimizer step."""
    mixed_precision: MixedPrecision = "fp16"
    """`fp16`, `bf16`, or `fp32` (also `no`); a CPU takes fp32 in the place of fp16, and says so."""
    wandb_enabled: bool = False
    """Also send the figures to Weights & Biases, or keep them offline as its WANDB_MODE says."""
    wandb_project: str = "talent-lipsync"
    """Name of the project there."""
    tensorboard_enabled: bool = False
    """Also write the figures for TensorBoard."""
    gradient_checkpointing: bool = False
    """Compute activations twice instead of keeping them: less memory, more time."""
    max_train_steps: Count = 5000
    """Optimizer steps of the whole training."""
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
    train_batch_size: BatchSize = 12
    """Samples of a batch; times gradient_accumulation_steps it is the samples of a step."""
    micro_batch_size: BatchSize | None = None
    """Samples at a time on one device; train_batch_size where it is not said. The step stays the same."""
    audio_length_left: Annotated[int, Field(ge=0, le=16)] = 2
    """Frames of sound that are heard before the frame."""
    audio_length_right: Annotated[int, Field(ge=0, le=16)] = 2
    """Frames of sound that are heard after the frame; each costs 40 ms when speaking live."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Fixes weights, samples and which clips are held out."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to train; `auto` takes a GPU where there is one."""
    deterministic: bool = False
    """Only repeatable algorithms on a GPU, too; the CPU's always are."""
    ema_decay: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.999
    """Memory of the averaged weights, which are validated and exported; 0 for none."""
    samples_per_epoch: Count | None = None
    """Samples of a virtual epoch; as many as there are frames, and at least 6,144, where it is not said."""
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
    near_reference: Share = 0.0
    """Share of samples whose reference is near in pose with another mouth, found by looking at all frames."""
    latent_loss: Weight = 1.0
    """Weight of L1 over latents."""
    pixel_loss: Weight = 2.0
    """Weight of L1 over decoded pixels, 0 to train on latents alone; `mouth_weight` times in the mouth."""
    mouth_weight: Weight = 1.0
    """How much more a pixel at the mouth counts than one elsewhere in the covered part."""
    perceptual_loss: Weight = 0.0
    """Weight of the perceptual loss."""
    vgg_weights: str | None = None
    """Local VGG weights for the perceptual loss; gradients at several scales where there are none."""
    gan_loss: Weight = 0.0
    """Weight of the discriminator's verdict; 0 trains without one."""
    gan_kind: Literal["hinge", "ls"] = "hinge"
    """Form of the adversarial loss: hinge or least squares."""
    gan_start: CountOrNone = 0
    """Step at which the discriminator and the feature matching begin together."""
    gan_learning_rate: Annotated[float, Field(gt=0.0, le=1e-2)] = 1e-4
    """Highest rate of the discriminator's AdamW; it follows the same schedule."""
    feature_matching_loss: Weight = 1.0
    """Weight beside the GAN; without effect when gan_loss is 0."""
    sync_loss: Weight = 0.0
    """Weight of the verdict of sync_model on made frames."""
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

    model_config = ConfigDict(use_attribute_docstrings=True)

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
    residual: bool = False
    """Let the network add to the reference where the face is covered, and leave the rest as it is."""
    temporal: bool = False
    """Attention between the frames of a sample, of no effect before it is trained (second stage)."""


class OptimizerConfig(Record):
    """`optimizer.yaml`: AdamW and the course of its rate; the schedule counts optimizer steps."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    learning_rate: Annotated[float, Field(gt=0.0, le=0.01)] = 5e-5
    """Rate of AdamW at the top of the schedule; more than 0.001 is for the smallest networks alone."""
    scale_lr: bool = False
    """Multiply the rate by the samples of a step."""
    lr_scheduler: Scheduler = "cosine"
    """Course of the rate after the warm-up."""
    lr_warmup_steps: CountOrNone = 0
    """Optimizer steps over which the rate climbs to its top."""
    adam_beta1: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    """Memory of the first moment."""
    adam_beta2: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.999
    """Memory of the second moment."""
    adam_weight_decay: Annotated[float, Field(ge=0.0, le=1.0)] = 0.01
    """Decay of the weights."""
    adam_epsilon: Annotated[float, Field(gt=0.0)] = 1e-8
    """What is added under the fraction line."""
    max_grad_norm: Annotated[float, Field(gt=0.0)] = 1.0
    """Gradients longer than this are shortened to it."""


FREE_KEYS: Mapping[str, frozenset[str]] = {
    "data": frozenset(DataConfig.model_fields) - {"image_size", "validation_clips"},
    "train": frozenset(
        {
            "wandb_enabled", "wandb_project", "tensorboard_enabled", "gradient_checkpointing",
            "validation_steps", "validation_samples", "checkpointing_steps", "checkpoints_total_limit",
            "full_states", "micro_batch_size", "train_batch_size", "gradient_accumulation_steps", "device",
            "deterministic", "vgg_weights", "sync_model",
        }
    ),
    "model": frozenset(
        {"unet_config_file", "vae_pretrained_model_name_or_path", "resume_from_checkpoint", "mask"}
    ),
    "optimizer": frozenset(),
}  # fmt: skip
"""Keys that a resumed run may write differently: they move no number, or what they mean is compared itself
(the samples of a step, the codec, the mask, the shapes of the network)."""


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
