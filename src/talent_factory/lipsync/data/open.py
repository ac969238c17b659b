"""Opens the clips of a dataset: on this machine, in a bucket, or on a web server; loose or in packs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from talent_factory.core.errors import ClipError, UsageError
from talent_factory.lipsync.data.cache import DiskCache
from talent_factory.lipsync.data.loose import LooseClips
from talent_factory.lipsync.data.metadata import METADATA_FILE, read_metadata
from talent_factory.lipsync.data.pack import PACK_FOLDER, pack_key
from talent_factory.lipsync.data.packed import PackedClips
from talent_factory.lipsync.data.places import Files
from talent_factory.storage.reader import open_reader

if TYPE_CHECKING:
    from talent_factory.core.events import Reporter
    from talent_factory.core.stop import StopSignal
    from talent_factory.lipsync.ports import Clips
    from talent_factory.lipsync.records import Metadata


@dataclass(frozen=True)
class ClipSettings:
    """Where the clips lie and how they are read.

    `local` is the dataset's folder, looked at first; `far` an s3:// or https:// address for what it lacks,
    kept below `cache` up to `cache_bytes`. `metadata` is a path or an address; beside the clips by default.
    `packs`: "auto" reads packs where the first clip has one. A far place that does not answer is waited for
    up to `patience_s` seconds.
    """

    local: Path | None = None
    far: str | None = None
    metadata: str | None = None
    image_folder: str = "aligned-frames"
    audio_folder: str = "audio"
    image_size: int | None = None
    cache: Path | None = None
    cache_bytes: int = 50 << 30
    packs: Literal["auto", "never", "always"] = "auto"
    workers: int = 16
    patience_s: float = 600.0
    environ: Mapping[str, str] | None = None


def open_clips(
    settings: ClipSettings, *, reporter: Reporter | None = None, stop: StopSignal | None = None
) -> Clips:
    """The clips that `settings` name; close them when done.

    `reporter` hears when a far place is waited for; `stop` ends the waiting.

    Raises:
        UsageError: neither a local nor a far place is named. FileError: no metadata, or damaged.
        ClipError: the local folder lacks the clips. StorageError: the far place refuses or stays away.
    """
    if settings.local is None and settings.far is None:
        raise UsageError(
            "no place for the clips is named",
            remedy="set local_data_base_url to a folder, or s3_data_base_url to s3://… or https://…",
        )
    local = settings.local
    if local is not None and not local.is_dir() and settings.far is None:
        raise ClipError(f"{local} is no folder", remedy="set local_data_base_url to the dataset's folder")
    metadata = read_metadata(_metadata_place(settings), environ=settings.environ)
    far = open_reader(settings.far, environ=settings.environ) if settings.far is not None else None
    cache = None
    if far is not None and settings.cache is not None:
        cache = DiskCache(settings.cache / "files", source=settings.far or "", limit=settings.cache_bytes)
    files = Files(
        local=local if local is not None and local.is_dir() else None,
        far=far,
        cache=cache,
        workers=settings.workers,
        patience_s=settings.patience_s,
        stop=stop,
        reporter=reporter,
    )
    try:
        return _clips(settings, metadata, files)
    except BaseException:
        files.close()
        raise


def _clips(settings: ClipSettings, metadata: Metadata, files: Files) -> Clips:
    if settings.packs != "never" and _packed(metadata, files):
        return PackedClips(metadata, files, image_size=settings.image_size)
    if settings.packs == "always":
        raise ClipError(
            f"{files.where} holds no {PACK_FOLDER}/ for clip {metadata.clips[0].name}",
            remedy="make them: talent lipsync pack DATASET",
        )
    return LooseClips(
        metadata,
        files,
        image_folder=settings.image_folder,
        audio_folder=settings.audio_folder,
        image_size=settings.image_size,
    )


def _packed(metadata: Metadata, files: Files) -> bool:
    return files.stamp(pack_key(metadata.clips[0].name)) is not None


def _metadata_place(settings: ClipSettings) -> str:
    if settings.metadata is not None:
        return settings.metadata
    if settings.local is not None and (settings.local / METADATA_FILE).is_file():
        return str(settings.local / METADATA_FILE)
    if settings.far is not None:
        return f"{settings.far.rstrip('/')}/{METADATA_FILE}"
    return str(settings.local and settings.local / METADATA_FILE)
