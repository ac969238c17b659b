"""Follow faces through a video: looked for now and then, filled in between, split where they are gone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from talent_factory.lipsync.preprocess.align import Alignment, Face, align_face
from talent_factory.lipsync.preprocess.detect import FaceDetector

GAP = 10
"""Frames (0.4 s) that a face may be missed for and is still filled in."""
_SAME = 0.3  # overlap of the boxes of one face in two looks
_AFRESH = 25  # frames between two looks at the whole picture
_STEADY, _STEADY_SIDE = 25, 75  # frames that smoothing looks at


@dataclass
class Track:
    """One face from frame `first` to `last` (exclusive), seen in the frames of `knots`."""

    first: int
    knots: list[tuple[int, Face]] = field(default_factory=list)
    last: int = 0

    @property
    def frames(self) -> int:
        """How many frames it lasts."""
        return self.last - self.first

    @property
    def side(self) -> float:
        """The median side of its boxes in pixels."""
        return float(np.median([face.side for _, face in self.knots]))


class FaceTracker:
    """Takes the frames of a video in order, holds a few of them, and ends with the tracks of its faces.

    It looks at every n-th frame, and where a face comes or goes also at those it passed over.
    """

    def __init__(self, detector: FaceDetector) -> None:
        self._detector = detector
        self._open: list[Track] = []
        self._done: list[Track] = []
        self._due = self._afresh = 0
        self._passed: list[tuple[int, NDArray[Any]]] = []

    def see(self, index: int, image: NDArray[Any], *, cut: bool = False) -> None:
        """Look at frame `index`; with `cut` no face goes on from the frame before."""
        if cut:
            self.pause(index)
            self._due = self._afresh = index
        if index < self._due:
            self._passed.append((index, image))
            return
        whole = not self._open or index >= self._afresh
        if whole:
            faces = list(self._detector.find(image, index=index))
            self._afresh = index + _AFRESH
        else:
            near = [self._detector.find(image, index=index, near=t.knots[-1][1]) for t in self._open]
            faces = [face for found in near for face in found]
        self._match(index, faces, new=whole)
        missed = self._look_back(index)
        self._due = index + (1 if missed else self._detector.every)
        self._passed.clear()

    def pause(self, index: int) -> None:
        """From frame `index` on there is nothing to see; the next that is seen begins anew."""
        for track in list(self._open):
            seen = track.knots[-1][0]
            # between two looks nothing speaks against the face
            self._end(track, index if index - seen <= self._detector.every else seen + 1)
        self._passed.clear()

    def finish(self, count: int) -> tuple[Track, ...]:
        """The tracks of a video of `count` frames, by their first frame; they may overlap."""
        self.pause(count)
        return tuple(sorted(self._done, key=lambda track: (track.first, -track.side)))

    def _match(self, index: int, faces: list[Face], *, new: bool) -> None:
        pairs = [
            (track.knots[-1][1].overlap(face), n, m)
            for n, track in enumerate(self._open)
            for m, face in enumerate(faces)
        ]
        met, used = set[int](), set[int]()
        for overlap, n, m in sorted(pairs, key=lambda pair: -pair[0]):
            if overlap >= _SAME and n not in met and m not in used:
                self._open[n].knots.append((index, faces[m]))
                met.add(n)
                used.add(m)
        if new:
            # a second box around a known face is no second face
            known = [track.knots[-1][1] for track in self._open]
            for m, face in enumerate(faces):
                if m not in used and all(face.overlap(other) < _SAME for other in known):
                    self._open.append(self._begun(index, face))
                    known.append(face)

    def _begun(self, index: int, face: Face) -> Track:
        """A new track, from the first of the frames passed over that shows the face already."""
        knots = [(index, face)]
        for earlier, image in reversed(self._passed):
            found = self._detector.find(image, index=earlier, near=knots[0][1])
            if not found or found[0].overlap(knots[0][1]) < _SAME:
                break
            knots.insert(0, (earlier, found[0]))
        return Track(knots[0][0], knots)

    def _look_back(self, index: int) -> bool:
        """Find where the faces that are missed now were seen last; end those that are gone too long."""
        missed = False
        for track in list(self._open):
            seen, face = track.knots[-1]
            if seen == index:
                continue
            for earlier, image in reversed(self._passed):
                found = self._detector.find(image, index=earlier, near=face)
                if found and found[0].overlap(face) >= _SAME:
                    track.knots.append((earlier, found[0]))
                    break
            if index - track.knots[-1][0] > GAP:
                self._end(track, track.knots[-1][0] + 1)
            else:
                missed = True
        return missed

    def _end(self, track: Track, last: int) -> None:
        track.last = last
        self._open.remove(track)
        self._done.append(track)


def choose_tracks(tracks: Iterable[Track], *, least: int, least_side: float = 0.0) -> tuple[Track, ...]:
    """Tracks of at least `least` frames that do not overlap: where faces compete, the larger and longer.

    A track whose beginning or end is covered by a better one keeps its longest free part.
    """
    fit = [track for track in tracks if track.frames >= least and track.side >= least_side]
    taken = np.zeros(max((track.last for track in fit), default=0), bool)
    chosen = []
    for track in sorted(fit, key=lambda track: (-track.frames * track.side, track.first)):
        first, last = _longest_free(taken, track.first, track.last)
        if last - first >= least:
            taken[first:last] = True
            chosen.append(Track(first, track.knots, last))
    return tuple(sorted(chosen, key=lambda track: track.first))


def align_track(track: Track, *, shift: float = 0.0) -> tuple[Alignment, ...]:
    """A steady cut for each frame of a track: outliers dropped, filled in, smoothed; sides most of all."""
    places = np.array([index for index, _ in track.knots], float)
    cuts = [align_face(face, shift=shift) for _, face in track.knots]
    moments = np.arange(track.first, track.last, dtype=float)
    rows = np.array([(c.x, c.y, c.side, c.angle) for c in cuts])
    rows[:, 3] = np.unwrap(rows[:, 3], period=360)
    windows = (_STEADY, _STEADY, _STEADY_SIDE, _STEADY)
    x, y, side, angle = (
        smooth(np.interp(moments, places, _without_spikes(rows[:, n])), window)
        for n, window in enumerate(windows)
    )
    side = np.maximum(side, rows[:, 2].min())
    return tuple(
        Alignment(x=round(a, 3), y=round(b, 3), side=round(c, 3), angle=round(d, 3))
        for a, b, c, d in zip(x.tolist(), y.tolist(), side.tolist(), angle.tolist(), strict=True)
    )


def smooth(values: NDArray[Any], window: int) -> NDArray[Any]:
    """Savitzky and Golay's filter of second order over an odd `window`; straight lines stay as they are."""
    half = min(window // 2, len(values) - 1)
    if half < 2:
        return values
    basis = np.vander(np.arange(-half, half + 1) / half, 3, increasing=True)
    weights = np.linalg.pinv(basis)[0]
    # turned about the ends, so that a movement goes on there
    begin = 2 * values[0] - values[half:0:-1]
    end = 2 * values[-1] - values[-2 : -half - 2 : -1]
    return np.convolve(np.concatenate([begin, values, end]), weights[::-1], mode="valid")


def _without_spikes(values: NDArray[Any]) -> NDArray[Any]:
    """Each value by the median of itself and its neighbours; the ends stay."""
    if len(values) < 3:
        return values
    middle = np.median(np.stack([values[:-2], values[1:-1], values[2:]]), axis=0)
    return np.concatenate([values[:1], middle, values[-1:]])


def _longest_free(taken: NDArray[Any], first: int, last: int) -> tuple[int, int]:
    best, start = (first, first), first
    for index in range(first, last + 1):
        if index == last or taken[index]:
            best = max(best, (start, index), key=lambda run: run[1] - run[0])
            start = index + 1
    return best


def pieces(first: int, last: int, *, most: int) -> Sequence[tuple[int, int]]:
    """`first` to `last` in equal parts of at most `most` frames."""
    count = -(-(last - first) // most)
    edges = [first + (last - first) * n // count for n in range(count + 1)]
    return list(pairwise(edges))
