"""What a run is made of, opened once: clips, codec, mask, audio window, split, and plan of samples."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from talent_factory.core.errors import ClipError, ConfigError
from talent_factory.core.events import Reporter
from talent_factory.core.stop import StopSignal
from talent_factory.lipsync.audio.conditioner import AudioConditioner
from talent_factory.lipsync.batch import Batch
from talent_factory.lipsync.codec import open_codec
from talent_factory.lipsync.config import DataConfig, LipsyncConfig
from talent_factory.lipsync.data.latents import LatentCache
from talent_factory.lipsync.data.loose import LooseClips
from talent_factory.lipsync.data.metadata import content_hash
from talent_factory.lipsync.data.open import ClipSettings, open_clips
from talent_factory.lipsync.data.plan import PlanRules, SamplePlan, lengths_of
from talent_factory.lipsync.data.samples import SampleSource
from talent_factory.lipsync.data.scan import check_files
from talent_factory.lipsync.models.unet import Canvas, canvas_of
from talent_factory.lipsync.ports import Clips, Codec
from talent_factory.lipsync.records import Draw, Metadata
from talent_factory.lipsync.sync.network import SyncNet, load_syncnet
from talent_factory.lipsync.train.energies import clip_energies
from talent_factory.lipsync.train.engine import Pace
from talent_factory.lipsync.train.poses import clip_poses
from talent_factory.lipsync.train.split import Split, split_clips, validation_draws
from talent_factory.lipsync.train.validate import SYNC_LEAST, SyncCheck

_SYNC_FRAMES = 75
UNKNOWN = "unknown"
"""The extractor of a dataset whose metadata does not say it."""


@dataclass(eq=False)
class Material:
    """Data and frozen parts of a run."""

    config: LipsyncConfig
    clips: Clips
    codec: Codec
    conditioner: AudioConditioner
    split: Split
    device: torch.device
    latents: LatentCache
    cache: Path
    """Folder of what is worked out once of the clips."""
    sync: SyncNet | None = None
    """Judges lips against sound: a frozen loss, and a figure of validation."""
    _opened: list[Any] = field(default_factory=list)

    @property
    def metadata(self) -> Metadata:
        """What the dataset says of itself."""
        return self.clips.metadata

    @property
    def dataset_sha256(self) -> str:
        """The hash of the metadata."""
        return content_hash(self.metadata)

    def canvas(self) -> Canvas:
        """What the network paints on, on the device."""
        model = self.config.model
        return canvas_of(
            model.mask,
            size=self.config.data.image_size,
            factor=self.codec.factor,
            fed=model.feed_mask,
            residual=model.residual,
            like=torch.zeros((), device=self.device),
        )

    def make_plan(self, *, reporter: Reporter, stop: StopSignal) -> SamplePlan:
        """Which samples are drawn; says how often small clips are repeated.

        The first time this listens to all clips, hours of them for minutes, so it is for the very moment
        before the training. Raises ClipError, StorageError, Cancelled.
        """
        train = self.config.train
        energies = poses = None
        if train.silence > 0 or train.mouth_reference > 0:
            energies = clip_energies(self.clips, self.cache, reporter=reporter, stop=stop)
        if train.near_reference:
            poses = clip_poses(self.clips, self.config.model.mask, self.cache, reporter=reporter, stop=stop)
        plan = SamplePlan(
            train.seed,
            lengths_of(self.metadata.clips),
            rules=_rules(self.config),
            clips=self.split.train,
            energies=energies,
            poses=poses,
        )
        _tell(plan, self.split, self.metadata, reporter)
        return plan

    def feed(self, plan: SamplePlan, pace: Pace, *, step: int, piece: int) -> Callable[[int, int], Batch]:
        """What gives this process its batch of a (step, piece), in order from here on, prepared ahead."""
        draws = self._draws(plan, pace, step=step, piece=piece)
        source = self._source(pixels=self.config.train.needs_pixels)
        self._opened.append(source)
        batches = source.batches(draws, ahead=self.config.data.look_ahead)
        self._opened.append(_Closing(batches))

        def following(step: int, piece: int) -> Batch:
            del step, piece  # the stream and the loop count alike
            return next(batches)

        return following

    def validation(self) -> list[Batch]:
        """The held-out batches, with their true frames."""
        config = self.config.train
        draws = validation_draws(
            self.metadata,
            self.split.held_out,
            config.validation_samples,
            frames=config.frames,
            far=config.far_reference,
        )
        # one draw stands for all its frames, as in training
        return self._batches(draws[:: config.frames])

    def sync_check(self) -> SyncCheck | None:
        """Frames in a row of a held-out clip and their sound, None when no clip is long enough."""
        length = self.config.train.frames
        for clip in self.split.held_out:
            count = min(len(self.metadata.clips[clip].frames), _SYNC_FRAMES) // length * length
            if self.sync is None or count < SYNC_LEAST:
                continue
            draws = [
                Draw(sample=n, clip=clip, target=n, reference=(n + count // 2) % count)
                for n in range(0, count, length)
            ]
            return SyncCheck(self.sync, partial(self._batches, draws), self.clips.audio(clip, 0, count))
        return None

    def close(self) -> None:
        """Give back threads and files."""
        for thing in reversed(self._opened):
            thing.close()
        self._opened.clear()
        self.latents.close()
        self.clips.close()

    def _batches(self, draws: Sequence[Draw]) -> list[Batch]:
        length = self.config.train.frames
        source = self._source(pixels=True)
        size = max(1, min(16, self.config.train.micro) // length)
        try:
            return [source.batch(draws[start : start + size]) for start in range(0, len(draws), size)]
        finally:
            source.close()

    def _source(self, *, pixels: bool) -> SampleSource:
        return SampleSource(
            self.clips,
            self.conditioner,
            self.latents,
            images=pixels,
            length=self.config.train.frames,
            device=self.device,
        )

    def _draws(self, plan: SamplePlan, pace: Pace, *, step: int, piece: int) -> Iterator[list[Draw]]:
        """This process's draws, batch after batch, from a piece of a step to the end of training."""
        total = self.config.train.max_train_steps
        for at in itertools.count(step * pace.pieces + piece):
            number, part = divmod(at, pace.pieces)
            if number >= total:
                return
            first = pace.first(number, part)
            yield [plan.draw(g) for g in range(first, first + pace.micro)]


class _Closing:
    """Gives an iterator with or without a thread behind it one way to end."""

    def __init__(self, batches: Iterator[Batch]) -> None:
        self._batches = batches

    def close(self) -> None:
        close = getattr(self._batches, "close", None)
        if close is not None:
            close()


def refuse_other_size(metadata: Metadata, data: DataConfig) -> None:
    """Raise ClipError when the dataset says that its frames have another size than IMAGE_SIZE."""
    size = metadata.image_size
    if size is not None and size != data.image_size:
        raise ClipError(
            f"the frames are {size} pixels a side, but IMAGE_SIZE is {data.image_size}",
            remedy=f"--set IMAGE_SIZE={size}, or talent lipsync preprocess --size {data.image_size}",
        )


def open_material(
    config: LipsyncConfig, device: torch.device, *, reporter: Reporter, stop: StopSignal
) -> Material:
    """Open the clips and the frozen parts.

    `stop` ends the waiting for a far place, now and in every batch.

    Raises:
        ClipError: the frames have another size, or the metadata holds no clip to train on. FileError,
        StorageError, BaseError, ConfigError: what opening clips and codec raises.
    """
    data, train = config.data, config.train
    cache = Path(data.cache_dir) if data.cache_dir else Path(data.output_dir) / "cache"
    clips = open_clips(_places(data, cache), reporter=reporter, stop=stop)
    metadata = clips.metadata
    try:
        refuse_other_size(metadata, data)
    except ClipError:
        clips.close()
        raise
    _refuse_missing(clips, data)
    codec = open_codec(config.model.vae_pretrained_model_name_or_path, device=str(device))
    split = split_clips(metadata, data.validation_clips, seed=train.seed)
    return Material(
        config,
        clips,
        codec,
        AudioConditioner(train.audio_length_left, train.audio_length_right, metadata.extractor or UNKNOWN),
        split,
        device,
        LatentCache(
            cache / "latents" if data.latent_cache else None,
            clips,
            codec,
            config.model.mask,
            image_size=data.image_size,
            device=device,
        ),
        cache,
        _open_sync(config, metadata, device),
    )


def _places(data: DataConfig, cache: Path) -> ClipSettings:
    return ClipSettings(
        local=Path(data.local_data_base_url) if data.local_data_base_url else None,
        far=data.s3_data_base_url,
        metadata=data.metadata_url,
        image_folder=data.image_folder_name,
        audio_folder=data.audio_folder_name,
        image_size=data.image_size,
        cache=cache,
        cache_bytes=int(data.cache_gb * 2**30),
    )


def _refuse_missing(clips: Clips, data: DataConfig) -> None:
    """A file that this machine lacks is named now, not at the step that draws it; far ones are not asked."""
    if data.s3_data_base_url is not None or not isinstance(clips, LooseClips):
        return
    problems = check_files(
        clips.metadata,
        Path(data.local_data_base_url or ""),
        image_folder=data.image_folder_name,
        audio_folder=data.audio_folder_name,
    )
    if problems:
        clips.close()
        name, problem = next(iter(problems.items()))
        raise ClipError(
            f"{len(problems)} of {len(clips.metadata.clips)} clips are not whole in "
            f"{data.local_data_base_url}; {name} {problem}",
            remedy="bring the files, or list what is whole: talent lipsync metadata --skip-broken",
        )


def _rules(config: LipsyncConfig) -> PlanRules:
    train = config.train
    return PlanRules(
        power=train.clip_weight_power,
        far=train.far_reference,
        self_share=train.self_reference,
        mouth_share=train.mouth_reference,
        near_share=train.near_reference,
        silent_share=train.silence,
        dropped_share=train.audio_dropout,
        window=train.frames,
        epoch=train.samples_per_epoch,
    )


def _open_sync(config: LipsyncConfig, metadata: Metadata, device: torch.device) -> SyncNet | None:
    if config.train.sync_model is None:
        return None
    network = load_syncnet(Path(config.train.sync_model), device=str(device))
    if metadata.extractor is not None and network.extractor != metadata.extractor:
        raise ConfigError(
            f"sync_model {config.train.sync_model} listens to {network.extractor}, the clips' audio is of "
            f"{metadata.extractor}",
            remedy="train one on these clips: talent lipsync sync-train",
        )
    return network


def _tell(plan: SamplePlan, split: Split, metadata: Metadata, reporter: Reporter) -> None:
    frames = sum(len(metadata.clips[clip].frames) for clip in split.train)
    most = max(plan.repeats.values())
    reporter.message(
        f"{len(split.train)} clips with {frames} frames to train on, {len(split.held_out)} kept aside; "
        f"an epoch of {plan.epoch} samples visits a frame up to {most:.1f} times"
    )
