"""The faces of a source on stage: cut out, seen by the network once, and put back."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from talent_factory.lipsync.animate.blend import changed, face_alpha, match_colours
from talent_factory.lipsync.animate.faces import Found
from talent_factory.lipsync.animate.film import Source
from talent_factory.lipsync.animate.speaker import Face, Speaker
from talent_factory.lipsync.animate.timeline import source_at, there_and_back
from talent_factory.lipsync.preprocess.align import crop, paste

# Faces whose latents are kept: a minute of film, 6 MB with TAESD and 150 MB with dct8 at 64 pixels.
_KEPT = 1500
_EDGE = 1e-6


class Shot:
    """One frame to come: which picture of the source it is, and that picture."""

    __slots__ = ("image", "index")

    def __init__(self, index: int, image: NDArray[Any]) -> None:
        self.index, self.image = index, image


class Stage:
    """A source with its alignments and a speaker; one thread looks and speaks, another may compose."""

    def __init__(self, source: Source, alignments: Found, speaker: Speaker) -> None:
        self._source, self._alignments, self._speaker = source, alignments, speaker
        self._mask, self._size = speaker.card.mask, speaker.card.image_size
        self._alpha = face_alpha(self._mask, self._size)
        self._faces: OrderedDict[int, Face] = OrderedDict()
        # one reference for the whole film: the mouth of the source, which says something else, cannot shine
        # through, and nothing flickers
        self._reference = next(i for i, cut in enumerate(alignments) if cut is not None)

    def shot(self, time: float) -> Shot:
        """What the source shows at `time` seconds; a film that ends runs backward, and forward again."""
        inside = there_and_back(time, self._source.seconds) if self._source.seconds else 0.0
        index = source_at(self._source.stamps, inside + _EDGE)
        return Shot(index, self._source.frame(index))

    def shows_face(self, shot: Shot) -> bool:
        """Whether there is a face in the picture of the shot."""
        return self._alignments[shot.index] is not None

    def compose(self, shot: Shot, made: NDArray[Any] | None) -> NDArray[np.uint8]:
        """The picture of the shot with the made face in place; the picture itself without one."""
        cut = self._alignments[shot.index]
        if made is None or cut is None:
            return shot.image
        true = crop(shot.image, cut, self._size)
        matched = match_colours(made, true, self._mask)
        return np.asarray(paste(shot.image, matched, cut, self._alpha * changed(matched, true)))

    def pairs(self, shots: Sequence[Shot]) -> list[tuple[Face, Face]]:
        """The face and the reference of each shot; all must show a face."""
        wanted = {shot.index: shot.image for shot in shots if shot.index not in self._faces}
        if self._reference not in self._faces and self._reference not in wanted:
            wanted[self._reference] = self._source.frame(self._reference)
        if wanted:
            cuts = [(image, self._alignments[index]) for index, image in wanted.items()]
            crops = [crop(image, cut, self._size) for image, cut in cuts if cut is not None]
            self._faces.update(zip(wanted, self._speaker.look(crops), strict=True))
        reference = self._faces[self._reference]
        pairs = [(self._faces[shot.index], reference) for shot in shots]
        self._faces.move_to_end(self._reference)
        while len(self._faces) > _KEPT:
            self._faces.popitem(last=False)
        return pairs
