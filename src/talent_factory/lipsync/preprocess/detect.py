"""Where is the face? One port, and four ways to answer: a cascade, YuNet, given boxes, or the middle.

The cascade of scikit-image comes with that library and needs no download; it sees frontal photographs. YuNet
is better where its ONNX file is at hand. Boxes come from any other detector, by a JSON file. The middle is
for pictures that are cut to the face already.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from talent_factory.core.errors import FileError, UsageError
from talent_factory.core.files import read_json, sha256_file
from talent_factory.lipsync.preprocess.align import CHIN_REACH, Face

DETECTORS = "skimage, yunet:FILE.onnx, boxes:FILE.json or center"
_LONG_SIDE = 640
# Where bridge and chin lie in the box, in heights from its top: the cascade cuts above the chin, the boxes of
# networks end at it.
_CASCADE = (0.52, 1.07)
_TIGHT = (0.51, 1.0)
_SEARCH = 0.6  # how far around a known face to look, in sides of its box
# The second look at what the cascade found: a face of this many pixels, seen this many times at fine steps.
# Photographed faces reach 16 and more, sleeves, patches and flags 4 at most.
_AGAIN, _VOTES = 60, 8


class FaceDetector(Protocol):
    """Finds faces in one picture."""

    @property
    def id(self) -> str:
        """Names the detector and its weights."""
        ...

    @property
    def every(self) -> int:
        """Frames of a video from one look to the next; those between are filled in."""
        ...

    def find(self, image: NDArray[Any], *, index: int = 0, near: Face | None = None) -> tuple[Face, ...]:
        """The faces in an (H, W, 3) uint8 RGB picture, largest first.

        `index` is the number of the frame at 25 a second. With `near` only faces about there and of about
        that size are wanted, which is quicker.
        """
        ...


def open_detector(name: str = "skimage", *, video: str | None = None) -> FaceDetector:
    """The detector called `name`: skimage, yunet:FILE, boxes:FILE or center.

    `video` is the file name whose boxes are meant, for a boxes file that holds several.

    Raises:
        UsageError: there is no such detector, or a library that it needs is missing.
        FileError: its file is missing or not what it should be.
    """
    kind, _, path = name.partition(":")
    if kind in ("yunet", "boxes") and not path:
        raise UsageError(f"{kind} needs a file", remedy=f"write --detector {kind}:FILE")
    if kind == "yunet":
        return _YuNet(Path(path))
    if kind == "boxes":
        return _Boxes(Path(path), video)
    if name == "skimage":
        return _Cascade()
    if name == "center":
        return _Middle()
    raise UsageError(f"there is no detector {name[:60]!r}", remedy=f"use {DETECTORS}")


class _Cascade:
    id = "skimage-lbp-1"
    every = 5

    def __init__(self) -> None:
        from talent_factory.datagen.quality.face import face_cascade

        finder = face_cascade()
        if finder is None:
            raise UsageError(
                "the detector skimage needs the library scikit-image",
                remedy="pip install 'talent-factory[lipsync]', or --detector center for cut faces",
            )
        self._finder = finder

    def find(self, image: NDArray[Any], *, index: int = 0, near: Face | None = None) -> tuple[Face, ...]:
        height, width = image.shape[:2]
        left, top, right, bottom = 0, 0, width, height
        if near is not None:
            reach = _SEARCH * near.side
            left, top = max(0, int(near.left - reach)), max(0, int(near.top - reach))
            right, bottom = min(width, int(near.right + reach)), min(height, int(near.bottom + reach))
            if right - left < 48 or bottom - top < 48:
                return ()
        region = image[top:bottom, left:right]
        # a face is then always searched at about the same size, so its box does not jump between scales
        scale = min(1.0, _LONG_SIDE / max(region.shape[:2]) if near is None else 110 / near.side)
        boxes = self._detect(region, scale, None if near is None else near.side * scale)
        faces = [_face(left + a, top + b, left + c, top + d, _CASCADE) for a, b, c, d in boxes]
        if near is None:
            # a large spot that looks like a face for once must not win over a face
            sure = [face for face in faces if self._stays(image, face)]
            return _largest_first(sure or [face.model_copy(update={"score": 0.0}) for face in faces])
        return _largest_first(face for face in faces if near.overlap(face) >= 0.25)

    def _stays(self, image: NDArray[Any], face: Face) -> bool:
        """Whether a closer look at where the face was found sees it many times."""
        reach = 0.5 * face.side
        rows = slice(max(0, int(face.top - reach)), int(face.bottom + reach))
        columns = slice(max(0, int(face.left - reach)), int(face.right + reach))
        grey = cv2.cvtColor(np.ascontiguousarray(image[rows, columns]), cv2.COLOR_RGB2GRAY)
        scale = min(1.0, _AGAIN / face.side)
        if scale < 1:
            grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        side = face.side * scale
        least, most = max(24, int(0.75 * side)), min(*grey.shape, int(1.35 * side))
        return most > least and bool(
            self._finder.detect_multi_scale(
                img=grey,
                scale_factor=1.05,
                step_ratio=1.0,
                min_size=(least, least),
                max_size=(most, most),
                min_neighbor_number=_VOTES,
            )
        )

    def _detect(
        self, region: NDArray[Any], scale: float, side: float | None
    ) -> list[tuple[float, float, float, float]]:
        grey = cv2.cvtColor(region, cv2.COLOR_RGB2GRAY)
        if scale < 1:
            grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        short = min(grey.shape)
        least = max(24, short // 10) if side is None else max(24, int(side * 0.7))
        most = short if side is None else min(short, int(side * 1.45))
        if most <= least:
            return []
        found = self._finder.detect_multi_scale(
            img=grey, scale_factor=1.1, step_ratio=1.0, min_size=(least, least), max_size=(most, most)
        )
        return [
            tuple(v / scale for v in (b["c"], b["r"], b["c"] + b["width"], b["r"] + b["height"]))
            for b in found
        ]


class _YuNet:
    every = 5

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise FileError(f"{path} does not exist", remedy="give the ONNX file of YuNet, or use skimage")
        try:
            self._net = cv2.FaceDetectorYN.create(str(path), "", (320, 320), score_threshold=0.7)
        except (cv2.error, AttributeError) as error:
            raise FileError(
                f"OpenCV cannot read {path} as YuNet: {str(error).splitlines()[0]}",
                remedy="use face_detection_yunet_*.onnx of the OpenCV zoo, or --detector skimage",
            ) from None
        self.id = f"yunet:{sha256_file(path)[:12]}"

    def find(self, image: NDArray[Any], *, index: int = 0, near: Face | None = None) -> tuple[Face, ...]:
        height, width = image.shape[:2]
        scale = min(1.0, _LONG_SIDE / max(height, width))
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        self._net.setInputSize((small.shape[1], small.shape[0]))
        _, rows = self._net.detect(np.ascontiguousarray(small[..., ::-1]))
        found = [] if rows is None else [face_of_marks(row / scale, float(row[14])) for row in rows]
        return _largest_first(face for face in found if near is None or near.overlap(face) >= 0.25)


def face_of_marks(row: NDArray[Any], score: float) -> Face:
    """A face from a row of YuNet: x, y, width, height, both eyes, nose tip, both corners of the mouth."""
    left, top, width, height = (float(value) for value in row[:4])
    points = np.asarray(row[4:14], np.float64).reshape(5, 2)
    eyes, nose, mouth = points[:2].mean(axis=0), points[2], points[3:].mean(axis=0)
    ordered = points[:2][np.argsort(points[:2, 0])]
    lean = math.degrees(math.atan2(*(ordered[1] - ordered[0])[::-1]))
    bridge = eyes + 0.6 * (nose - eyes)
    # a turned head hides one cheek: the middle of the box keeps the other inside the cut
    bridge[0] = (bridge[0] + left + width / 2) / 2
    chin = mouth + 0.67 * (mouth - eyes)
    return Face(
        left=left,
        top=top,
        right=left + width,
        bottom=top + height,
        bridge=(float(bridge[0]), float(bridge[1])),
        chin=(float(chin[0]), float(chin[1])),
        angle=lean,
        score=score,
    )


class _Boxes:
    """Reads `[[left, top, right, bottom] or null, ...]`, one a frame at 25 a second, or lists by video."""

    every = 1

    def __init__(self, path: Path, video: str | None) -> None:
        data = read_json(path)
        if isinstance(data, dict):
            names = [] if video is None else [Path(video).name, Path(video).stem]
            name = next((name for name in names if name in data), None)
            if name is None:
                raise FileError(
                    f"{path} has no boxes for {video or 'a picture'}", remedy="add them under the file's name"
                )
            data = data[name]
        if not isinstance(data, list):
            raise FileError(f"{path} holds no list of boxes", remedy="write one box or null for each frame")
        self._faces = [_given(box, path, index) for index, box in enumerate(data)]
        self.id = f"boxes:{sha256_file(path)[:12]}"

    def find(self, image: NDArray[Any], *, index: int = 0, near: Face | None = None) -> tuple[Face, ...]:
        face = self._faces[index] if index < len(self._faces) else None
        return () if face is None else (face,)


def _given(box: object, path: Path, index: int) -> Face | None:
    if box is None:
        return None
    fits = isinstance(box, list) and len(box) == 4 and all(isinstance(v, int | float) for v in box)
    if not fits or not (all(math.isfinite(v) for v in box) and box[0] < box[2] and box[1] < box[3]):  # type: ignore[index, attr-defined]
        raise FileError(
            f"{path}: entry {index} is no box", remedy="write [left, top, right, bottom] in pixels, or null"
        )
    left, top, right, bottom = (float(value) for value in box)  # type: ignore[attr-defined]
    return _face(left, top, right, bottom, _TIGHT)


class _Middle:
    id = "center-1"
    every = 1

    def find(self, image: NDArray[Any], *, index: int = 0, near: Face | None = None) -> tuple[Face, ...]:
        height, width = image.shape[:2]
        side = min(height, width)
        left, top = (width - side) / 2, (height - side) / 2
        # the cut is then the largest square in the middle
        return (_face(left, top, left + side, top + side, (0.5, 0.5 + CHIN_REACH)),)


def _face(left: float, top: float, right: float, bottom: float, parts: tuple[float, float]) -> Face:
    x, high = (left + right) / 2, bottom - top
    bridge, chin = ((x, top + part * high) for part in parts)
    return Face(left=left, top=top, right=right, bottom=bottom, bridge=bridge, chin=chin)


def _largest_first(faces: Any) -> tuple[Face, ...]:
    return tuple(sorted(faces, key=lambda face: -face.side))
