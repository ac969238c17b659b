"""Where the face is in every frame of a source: sought now and then, followed between, smooth, or absent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from talent_factory.core.errors import ClipError
from talent_factory.core.events import Reporter
from talent_factory.lipsync.animate.film import Source
from talent_factory.lipsync.preprocess.align import Alignment, Face, align_face
from talent_factory.lipsync.preprocess.detect import FaceDetector
from talent_factory.lipsync.records import FRAME_RATE

# A gap up to this long is bridged, in seconds.
_BRIDGE = 0.4
_SMOOTH = 0.2
# Less overlap than this between two findings is another face or another scene.
_SAME = 0.3

Found = tuple[Alignment | None, ...]


class Scaled:
    """Faces whose places are known in a picture that was shrunk to `scale` since."""

    def __init__(self, detector: FaceDetector, scale: float) -> None:
        self._detector, self._scale = detector, scale
        self.id, self.every = detector.id, detector.every

    def find(self, image: NDArray[Any], *, index: int = 0, near: Face | None = None) -> tuple[Face, ...]:
        """The same faces in the shrunk picture."""
        return tuple(_scaled(face, self._scale) for face in self._detector.find(image, index=index))


def _scaled(face: Face, scale: float) -> Face:
    sides = {name: scale * getattr(face, name) for name in ("left", "top", "right", "bottom")}
    points = {name: tuple(scale * value for value in getattr(face, name)) for name in ("bridge", "chin")}
    return face.model_copy(update={**sides, **points})


def find_alignments(
    source: Source, detector: FaceDetector, *, shift: float = 0.0, reporter: Reporter | None = None
) -> Found:
    """The cut of the largest face in each frame of `source`, None where there is none to be seen.

    Raises ClipError when no frame shows a face.
    """
    count = len(source.stamps)
    step = 1 if source.rate is None else max(1, round(detector.every * float(source.rate) / FRAME_RATE))
    seen: list[Face | None] = [None] * count
    held: list[tuple[int, NDArray[Any]]] = []
    last: Face | None = None
    for index, image in enumerate(source.frames()):
        held.append((index, image))
        if index % step and index != count - 1:
            continue
        before, last = last, _seek(detector, image, source.stamps[index], last)
        seen[index] = last
        # where a face came, went or jumped, every frame since the last look is asked
        if (before is None) != (last is None) or (before and last and before.overlap(last) < _SAME):
            near = before or last
            for number, picture in held[:-1]:
                seen[number] = seen[number] or _seek(detector, picture, source.stamps[number], near)
        held = []
        if reporter is not None and count > 1:
            reporter.progress("faces", index + 1, count, unit="frame")
    if not any(seen):
        raise ClipError(
            f"no face was found in {count} frame{'s' if count > 1 else ''} by {detector.id}",
            remedy="give its place with --box LEFT,TOP,RIGHT,BOTTOM, or use another --detector: skimage is "
            "for photographs from the front, drawn for simple drawings, center takes the middle",
        )
    return _smooth(_bridged(seen, source.stamps), shift)


def _seek(detector: FaceDetector, image: NDArray[Any], time: float, near: Face | None) -> Face | None:
    index = round(time * FRAME_RATE)
    found = detector.find(image, index=index, near=near)
    if not found and near is not None:
        found = detector.find(image, index=index)
    return found[0] if found else None


def _bridged(seen: Sequence[Face | None], stamps: Sequence[float]) -> list[tuple[Face, int] | None]:
    """Faces with the number of their run; short gaps are filled by straight lines."""
    answer: list[tuple[Face, int] | None] = [None] * len(seen)
    run, before = 0, -1
    for index, face in enumerate(seen):
        if face is None:
            continue
        former = seen[before] if before >= 0 else None
        if former is None or stamps[index] - stamps[before] > _BRIDGE or former.overlap(face) < _SAME:
            run += 1
        else:
            for between in range(before + 1, index):
                share = (stamps[between] - stamps[before]) / (stamps[index] - stamps[before])
                answer[between] = (_mixed(former, face, share), run)
        answer[index] = (face, run)
        before = index
    return answer


def _mixed(one: Face, other: Face, share: float) -> Face:
    def mix(a: float, b: float) -> float:
        return a + share * (b - a)

    values: dict[str, Any] = {
        name: mix(getattr(one, name), getattr(other, name))
        for name in ("left", "top", "right", "bottom", "angle", "score")
    }
    for name in ("bridge", "chin"):
        (a, b), (c, d) = getattr(one, name), getattr(other, name)
        values[name] = (mix(a, c), mix(b, d))
    return Face(**values)


def _smooth(faces: Sequence[tuple[Face, int] | None], shift: float) -> Found:
    """Cuts whose path has no tremble: averages over about `_SMOOTH` seconds, never across runs."""
    answer: list[Alignment | None] = [None] * len(faces)
    runs: dict[int, list[int]] = {}
    for index, entry in enumerate(faces):
        if entry is not None:
            runs.setdefault(entry[1], []).append(index)
    for members in runs.values():
        cuts = [align_face(entry[0], shift=shift) for i in members if (entry := faces[i]) is not None]
        table = np.array([[cut.x, cut.y, cut.side, cut.angle] for cut in cuts])
        for index, row in zip(members, _averaged(table, radius=round(_SMOOTH * 25 / 2)), strict=True):
            x, y, side, angle = (float(value) for value in row)
            answer[index] = Alignment(x=x, y=y, side=side, angle=angle)
    return tuple(answer)


def _averaged(table: NDArray[Any], *, radius: int) -> NDArray[Any]:
    """Rows averaged with their neighbours by a triangle; near the ends the triangle is narrower."""
    answer = np.empty_like(table)
    for index in range(len(table)):
        reach = min(radius, index, len(table) - 1 - index)
        weights = reach + 1 - np.abs(np.arange(-reach, reach + 1))
        answer[index] = np.average(table[index - reach : index + reach + 1], axis=0, weights=weights)
    return answer
