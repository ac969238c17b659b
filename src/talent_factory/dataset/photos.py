"""Look at a folder of photos before a likeness is trained on them: which will do, and what is missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from talent_factory.core.doctor import Finding
from talent_factory.core.errors import DatasetError, PortraitError
from talent_factory.core.events import Reporter, SilentReporter
from talent_factory.core.files import json_text, sha256_bytes, sha256_file
from talent_factory.core.records import Record
from talent_factory.datagen.portrait import normalise
from talent_factory.datagen.quality import measure
from talent_factory.datagen.quality.face import find_faces
from talent_factory.datagen.quality.likeness import Trace, colour_distance, distance, trace
from talent_factory.datagen.quality.verdict import Check, graded, remarks, unmeasured, worst_verdict
from talent_factory.dataset.frame import background_word
from talent_factory.dataset.layout import Source, few, read_folder

FEWEST, MOST = 20, 40  # photos that a likeness wants
_LONG_SIDE = 2048
_SHARP_SIDE, _LIGHT_SIDE = 1024, 256
_SHARP = (40.0, 18.0)  # variance of the Laplacian: good, unfit; as for the photographs of a cast
_DARK, _BRIGHT = (0.35, 0.6), (0.35, 0.6)  # share without detail; a white wall is bright
_CONTRAST = (6.0, 2.0)
_SAME, _NEAR = 4, 8  # bits of 64
_SAME_COLOUR, _NEAR_COLOUR = 8.0, 14.0  # mean Lab distance
_CLOSE_UP, _BUST = 0.42, 0.18  # height of a face as a share of the picture
_ONE_SIDED = 0.7
_FEW_FRONTAL = 0.3


class Photo(Record):
    """One photo: its size as given, what was found, and its caption where it brought one.

    `faces` is how many frontal faces were found, None where nobody could look; `framing` is close-up,
    portrait or body, empty where no single face tells it; `place` is the colour of a plain background.
    """

    name: str
    sha256: str
    width: int = 0
    height: int = 0
    caption: str | None = None
    checks: tuple[Check, ...] = ()
    faces: int | None = None
    framing: str = ""
    place: str = ""

    @property
    def unfit(self) -> bool:
        """Whether a check says that it should be left out."""
        return worst_verdict(self.checks) == "fail"

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is wrong with it, the gravest first."""
        return remarks(self.checks)


class PhotoSet(Record):
    """All photos of a folder in name order, and what is to be said of the whole."""

    folder: str
    key: str
    photos: tuple[Photo, ...]
    kept: tuple[str, ...]
    findings: tuple[Finding, ...]

    @property
    def left_out(self) -> tuple[Photo, ...]:
        """The photos that are not used."""
        return tuple(photo for photo in self.photos if photo.name not in self.kept)


def examine_photos(
    folder: Path,
    *,
    resolution: int,
    keep_all: bool = False,
    drawn: bool = False,
    reporter: Reporter | None = None,
) -> PhotoSet:
    """Examine every photo of `folder` for a training at `resolution` pixels.

    `drawn` pictures are not judged by sharpness: a watercolour is soft by nature.

    Left out are files that cannot be read, and, unless `keep_all`, blurred, empty, far too small pictures
    and second copies. Raises DatasetError for a folder without photos, and when not one can be used.
    """
    teller = reporter or SilentReporter()
    sources = [source for source in read_folder(folder, stray_texts=True) if not source.regular]
    photos: list[Photo] = []
    traces: list[tuple[str, Trace]] = []
    for done, source in enumerate(sources, start=1):
        photos.append(_examine(source, traces, resolution=resolution, drawn=drawn))
        teller.progress("photos", done, len(sources), unit="photo")
    readable = [photo for photo in photos if photo.width]
    kept = tuple(photo.name for photo in readable if keep_all or not photo.unfit)
    if not kept:
        shown = "; ".join(f"{photo.name}: {', '.join(photo.remarks)}" for photo in photos[:3])
        raise DatasetError(
            f"{folder}: none of the {len(photos)} photos can be used ({shown})",
            remedy=f"bring sharp photos of at least {resolution} px, or keep these with --keep-all",
        )
    chosen = [photo for photo in readable if photo.name in kept]
    return PhotoSet(
        folder=str(folder),
        key=photos_key(folder, resolution=resolution, keep_all=keep_all),
        photos=tuple(photos),
        kept=kept,
        findings=tuple(_of_all(chosen, [photo for photo in photos if photo.name not in kept])),
    )


def photos_key(folder: Path, *, resolution: int, keep_all: bool) -> str:
    """sha256 over photos, captions and what they are made for, to know the same order when it comes again."""
    sources = [source for source in read_folder(folder, stray_texts=True) if not source.regular]
    rows = [[s.name, sha256_file(s.path), s.caption] for s in sources]
    return sha256_bytes(json_text(["photos-1", resolution, keep_all, rows]).encode())


def open_photo(path: Path) -> Image.Image:
    """A photo upright, in sRGB, with a long side of at most 2048 px. Raises PortraitError."""
    return normalise(path, max_side=_LONG_SIDE).image


def _examine(source: Source, traces: list[tuple[str, Trace]], *, resolution: int, drawn: bool) -> Photo:
    photo = Photo(name=source.name, sha256=sha256_file(source.path), caption=source.caption)
    try:
        image = open_photo(source.path)
    except PortraitError as error:
        reason = error.message.removeprefix(f"{source.path}: ")
        return photo.model_copy(update={"checks": (Check(name="readable", verdict="fail", note=reason),)})
    boxes = find_faces(image)
    heights = [box[3] - box[1] for box in boxes or ()]
    mark = trace(image)
    checks = (
        _size(image, resolution),
        *_light(image, drawn=drawn),
        _twin(mark, traces),
        _face(None if boxes is None else len(boxes)),
    )
    traces.append((source.name, mark))
    return photo.model_copy(
        update={
            "width": image.width,
            "height": image.height,
            "checks": checks,
            "faces": None if boxes is None else len(boxes),
            "framing": _framing(heights),
            "place": background_word(image),
        }
    )


def _size(image: Image.Image, resolution: int) -> Check:
    side = max(image.size)
    note = f"enlarged {resolution / side:.1f} times from {image.width} x {image.height}"
    return graded("size", side / resolution, good=0.9, bad=0.5, least=True, note=note)


def _light(image: Image.Image, *, drawn: bool) -> list[Check]:
    lab = measure.lab_of(measure.pixels_of(image, long_side=_LIGHT_SIDE))
    sharp = measure.sharpness(measure.pixels_of(image, long_side=_SHARP_SIDE))
    dark, bright = measure.clipped(lab)
    return [
        unmeasured("sharpness", "soft by nature")
        if drawn
        else graded("sharpness", sharp, good=_SHARP[0], bad=_SHARP[1], least=True, note="blurred"),
        graded(
            "contrast",
            measure.contrast(lab),
            good=_CONTRAST[0],
            bad=_CONTRAST[1],
            least=True,
            note="hardly anything can be seen",
        ),
        graded("dark", dark, good=_DARK[0], bad=_DARK[1], note=f"{dark:.0%} of it is black"),
        # paper around a cut-out head is no fault, so brightness never leaves a photo out
        graded("bright", bright, good=_BRIGHT[0], bad=2.0, note=f"{bright:.0%} of it is white"),
    ]


def _twin(mark: Trace, traces: Sequence[tuple[str, Trace]]) -> Check:
    """How like an earlier photo this one is, mirrored ones included; the first of two is not blamed."""
    nearest = Check(name="duplicate", verdict="pass", value=64.0, limit=float(_NEAR))
    for name, other in traces:
        bits, mirrored = distance(mark, other)
        colours = colour_distance(mark, other, mirrored=mirrored)
        if bits > _NEAR or colours > _NEAR_COLOUR or bits >= (nearest.value or 0.0):
            continue
        same = bits <= _SAME and colours <= _SAME_COLOUR
        likeness = ("the same as" if same else "much like") + f" {name}" + (", mirrored" if mirrored else "")
        nearest = Check(
            name="duplicate",
            verdict="fail" if same else "warn",
            value=float(bits),
            limit=float(_NEAR),
            note=likeness,
        )
    return nearest


def _face(faces: int | None) -> Check:
    if faces is None:
        return unmeasured("face", "scikit-image is not installed")
    if faces == 0:
        # a turned or a drawn face is none to this detector
        return unmeasured("face", "no face seen from the front")
    verdict = graded("face", faces - 1, good=0, bad=1_000, note=f"{faces} faces: crop it to one person")
    return verdict.model_copy(update={"value": float(faces), "limit": 1.0})


def _framing(heights: Sequence[float]) -> str:
    if len(heights) != 1:
        return ""
    return "close-up" if heights[0] >= _CLOSE_UP else "portrait" if heights[0] >= _BUST else "body"


def _of_all(kept: Sequence[Photo], left_out: Sequence[Photo]) -> list[Finding]:
    """What the kept photos are as a set: how many, from where, how near, before what."""
    found = [_number(len(kept))]
    if left_out:
        names = few([f"{photo.name} ({', '.join(photo.remarks)})" for photo in left_out])
        found.append(_finding("warn", "left out", f"{len(left_out)}: {names}", "replace them, or --keep-all"))
    doubtful = [photo for photo in kept if photo.remarks]
    if doubtful:
        names = few([f"{photo.name} ({', '.join(photo.remarks)})" for photo in doubtful])
        found.append(_finding("warn", "look at", f"{len(doubtful)}: {names}", "replace those you can"))
    found += [_angles(kept), _framings(kept)]
    return found + _places(kept)


def _number(count: int) -> Finding:
    if count < FEWEST:
        return _finding(
            "warn", "number", f"{count} photos; {FEWEST} to {MOST} are wanted", "add others of other days"
        )
    if count > MOST:
        return _finding("warn", "number", f"{count} photos; {MOST} would do", "leave out the weakest")
    return _finding("ok", "number", f"{count} photos")


def _angles(photos: Sequence[Photo]) -> Finding:
    """Frontal or not is all that the detector tells: how far a head is turned, and to where, is not known."""
    if any(photo.faces is None for photo in photos):
        return _finding("ok", "angles", "not measured: no face finder", "pip install scikit-image")
    frontal = sum(bool(photo.faces) for photo in photos)
    if frontal == 0:
        return _finding("ok", "angles", "not measured: no face seen from the front, or only drawn ones")
    text = f"{frontal} from the front, {len(photos) - frontal} turned or hidden (which side is not measured)"
    if frontal == len(photos) and len(photos) >= FEWEST // 2:
        return _finding("warn", "angles", text, "add photos from both sides")
    if frontal < _FEW_FRONTAL * len(photos):
        return _finding("warn", "angles", text, "add photos from the front")
    return _finding("ok", "angles", text)


def _framings(photos: Sequence[Photo]) -> Finding:
    counts = Counter(photo.framing for photo in photos if photo.framing)
    if not counts:
        return _finding("ok", "framing", "not measured: no single frontal face in any of them")
    text = ", ".join(f"{count} {name}" for name, count in counts.most_common())
    if len(counts) == 1 and sum(counts.values()) >= FEWEST // 2:
        return _finding("warn", "framing", f"all {text}", "add photos from nearer and from farther away")
    return _finding("ok", "framing", text)


def _places(photos: Sequence[Photo]) -> list[Finding]:
    counts = Counter(photo.place for photo in photos if photo.place)
    name, count = next(iter(counts.most_common(1)), ("", 0))
    if len(photos) < FEWEST // 2 or count < _ONE_SIDED * len(photos):
        return []
    text = f"{count} of {len(photos)} have a {name}: it may grow into the token"
    return [_finding("warn", "background", text, "add photos in other places")]


def _finding(severity: str, subject: str, message: str, remedy: str = "") -> Finding:
    return Finding.model_validate(
        {"severity": severity, "subject": subject, "message": message, "remedy": remedy}
    )
