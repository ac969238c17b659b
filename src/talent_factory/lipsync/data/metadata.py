"""What a dataset says of itself, as `metadata.npz`: plain arrays that hold no code, near or far.

The file is an .npz whose `folder_data` is a JSON list of {folder_name, image_count, image_names} as UTF-8
bytes; beside it stand the format's version, the extractor of the audio, the frame rate, the picture size and
a hash over all of it. Files of other tools, whose `folder_data` holds pickled dicts, are read by `legacy`.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from talent_factory.core.config import problems_of
from talent_factory.core.errors import FileError
from talent_factory.core.files import atomic_path, clear_halves, read_json
from talent_factory.lipsync.data.legacy import folder_data_of, read_members
from talent_factory.lipsync.records import FRAME_RATE, Clip, Metadata

METADATA_FILE = "metadata.npz"
MAX_BYTES = 256 << 20
MAX_NAMES = 20_000_000
_AGAIN = "make it anew: talent lipsync metadata --mode scan --input DATASET --output metadata.npz"


def content_hash(metadata: Metadata) -> str:
    """sha256 over everything the metadata says, as 64 hex digits; equal datasets have equal hashes."""
    head = {
        "extractor": metadata.extractor,
        "frame_rate": metadata.frame_rate,
        "image_size": metadata.image_size,
    }
    digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
    digest.update(_folder_json(metadata))
    return digest.hexdigest()


def write_metadata(path: Path, metadata: Metadata) -> None:
    """Write `metadata.npz` atomically, without pickle; equal metadata become equal bytes."""
    path = Path(path)
    clear_halves(path)
    arrays: dict[str, NDArray[Any]] = {
        "folder_data": np.frombuffer(_folder_json(metadata), np.uint8),
        "format_version": np.array(metadata.format_version, np.int64),
        "extractor": np.frombuffer((metadata.extractor or "").encode(), np.uint8),
        "frame_rate": np.array(metadata.frame_rate, np.float64),
        "image_size": np.array(metadata.image_size or 0, np.int64),
        "content_hash": np.frombuffer(content_hash(metadata).encode(), np.uint8),
    }
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, array, allow_pickle=False)
            # a fixed date: the same dataset gives the same file on any day
            entry = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, buffer.getvalue())


def read_metadata(path_or_url: str | Path, *, environ: Mapping[str, str] | None = None) -> Metadata:
    """The metadata at a path, an s3:// or an https:// address, ours or a legacy file; nothing is executed.

    `environ` holds the keys of a bucket; the process's own environment by default.

    Raises:
        FileError: it is missing, too large, damaged, or holds anything but the names of folders and frames.
        StorageError: the address cannot be reached.
    """
    text = str(path_or_url)
    if "://" in text:
        from talent_factory.lipsync.data.places import read_address

        data = read_address(text, limit=MAX_BYTES, environ=environ)
    else:
        data = _read_file(Path(path_or_url))
    return parse_metadata(data, source=text)


def parse_metadata(data: bytes, *, source: str) -> Metadata:
    """The metadata in the bytes of an .npz or .json file; `source` names it in errors (FileError)."""
    if data[:1] in (b"[", b"{"):
        return _from_plain(_json(data, source), source=source)
    members = read_members(data, source=source, limit=MAX_BYTES)
    version = members.get("format_version")
    if version is None:
        return metadata_of(folder_data_of(members, source=source, limit=MAX_NAMES), source=source)
    if _number(version, source) != 1:
        raise FileError(
            f"{source} is metadata of format {_number(version, source):g}, which is newer than this program",
            remedy="update talent-factory",
        )
    return _from_ours(members, source)


def from_json(path: Path) -> Metadata:
    """Metadata from a JSON file: a list of {folder_name, image_count, image_names}, such a list under
    `folder_data` beside `extractor`, `frame_rate` and `image_size`, or a record of ours.

    Raises:
        FileError: missing, no JSON, or names that no clip or frame can have; all in one line.
    """
    return _from_plain(read_json(path), source=str(path))


def metadata_of(
    folders: Any,
    *,
    source: str,
    extractor: str | None = None,
    frame_rate: float = FRAME_RATE,
    image_size: int | None = None,
) -> Metadata:
    """Metadata of a list of {folder_name, image_count, image_names}; names may end in ".png".

    Raises:
        FileError: something else, a count that is not that of the names, a name twice, or no clip at all.
    """
    if not isinstance(folders, list) or not folders:
        raise FileError(f"{source}: folder_data lists no folder", remedy=_AGAIN)
    clips, seen = [], set()
    for number, item in enumerate(folders):
        clip = _clip(item, f"{source}: folder_data[{number}]")
        # both spellings name one folder
        if clip.name.replace("_", "-") in seen:
            raise FileError(f"{source}: folder {clip.name} is listed twice", remedy=_AGAIN)
        seen.add(clip.name.replace("_", "-"))
        clips.append(clip)
    try:
        return Metadata(extractor=extractor, frame_rate=frame_rate, image_size=image_size, clips=tuple(clips))
    except ValidationError as error:
        raise FileError(f"{source}: {problems_of(error, Metadata)[0]}", remedy=_AGAIN) from None


def _clip(item: Any, where: str) -> Clip:
    if not isinstance(item, Mapping) or not {"folder_name", "image_names"} <= set(item):
        raise FileError(f"{where} is no {{folder_name, image_count, image_names}}", remedy=_AGAIN)
    names, count = item["image_names"], item.get("image_count")
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise FileError(f"{where}: image_names is no list of names", remedy=_AGAIN)
    frames = tuple(name[:-4] if name.lower().endswith(".png") else name for name in names)
    if count is not None and count != len(frames):
        raise FileError(
            f"{where} ({str(item['folder_name'])[:100]}) says {count} images and names {len(frames)}",
            remedy=_AGAIN,
        )
    if len(set(frames)) != len(frames) or not frames:
        raise FileError(
            f"{where} ({str(item['folder_name'])[:100]}) names "
            + ("no image" if not frames else "an image twice"),
            remedy=_AGAIN,
        )
    try:
        return Clip(name=item["folder_name"], frames=frames)
    except ValidationError as error:
        # one bad name is enough: a million of them would fill the screen
        raise FileError(f"{where}: {problems_of(error, Clip)[0]}", remedy=_AGAIN) from None


def _from_plain(data: Any, *, source: str) -> Metadata:
    if isinstance(data, list):
        return metadata_of(data, source=source)
    if isinstance(data, Mapping) and "clips" in data:
        try:
            return Metadata.model_validate(data)
        except ValidationError as error:
            raise FileError(f"{source}: {problems_of(error, Metadata)[0]}", remedy=_AGAIN) from None
    if not isinstance(data, Mapping) or "folder_data" not in data:
        raise FileError(
            f"{source} holds no folder_data",
            remedy="give a JSON list of {folder_name, image_count, image_names}",
        )
    unknown = set(data) - {"folder_data", "extractor", "frame_rate", "image_size", "format_version"}
    if unknown:
        raise FileError(f"{source}: {sorted(unknown)[0]!r} is no known key", remedy="remove it")
    return metadata_of(
        data["folder_data"],
        source=source,
        extractor=data.get("extractor"),
        frame_rate=data.get("frame_rate", FRAME_RATE),
        image_size=data.get("image_size"),
    )


def _from_ours(members: Mapping[str, Any], source: str) -> Metadata:
    missing = {"folder_data", "extractor", "frame_rate", "image_size", "content_hash"} - set(members)
    if missing:
        raise FileError(f"{source} lacks {sorted(missing)[0]}", remedy=_AGAIN)
    made = metadata_of(
        _json(_bytes(members["folder_data"], source), source),
        source=source,
        extractor=_bytes(members["extractor"], source).decode("utf-8", "replace") or None,
        frame_rate=_number(members["frame_rate"], source),
        image_size=int(_number(members["image_size"], source)) or None,
    )
    if content_hash(made).encode() != _bytes(members["content_hash"], source):
        raise FileError(f"{source} was changed after it was written: its hash does not fit", remedy=_AGAIN)
    return made


def _folder_json(metadata: Metadata) -> bytes:
    folders = [
        {"folder_name": clip.name, "image_count": len(clip.frames), "image_names": clip.frames}
        for clip in metadata.clips
    ]
    return json.dumps(folders, separators=(",", ":")).encode()


def _read_file(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise FileError(f"{path} is larger than {MAX_BYTES >> 20} MiB: no metadata", remedy=_AGAIN)
        return path.read_bytes()
    except FileNotFoundError:
        raise FileError(f"{path} does not exist", remedy=_AGAIN) from None
    except OSError as error:
        raise FileError(f"{path} cannot be read ({error.strerror})", remedy="check the path") from None


def _json(data: bytes, source: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise FileError(f"{source}: folder_data is not valid JSON", remedy=_AGAIN) from None


def _bytes(array: Any, source: str) -> bytes:
    if not isinstance(array, np.ndarray) or array.dtype != np.uint8 or array.ndim != 1:
        raise FileError(f"{source} holds an array of another kind than its format says", remedy=_AGAIN)
    return array.tobytes()


def _number(array: Any, source: str) -> float:
    if not isinstance(array, np.ndarray) or array.size != 1 or array.dtype.kind not in "iuf":
        raise FileError(f"{source} holds an array of another kind than its format says", remedy=_AGAIN)
    return float(array.reshape(()))
