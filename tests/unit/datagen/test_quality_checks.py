"""Good pictures pass, and each way to spoil one is found by its own check."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter, ImageOps

from talent_factory.core.errors import UsageError
from talent_factory.core.events import SilentReporter
from talent_factory.datagen.actor import CastOptions, cast_actor
from talent_factory.datagen.cast import CastManifest, CastSlot
from talent_factory.datagen.quality.checks import Asked, check_image
from talent_factory.datagen.quality.examine import examine_cast
from talent_factory.datagen.quality.face import count_faces
from talent_factory.datagen.quality.identity import identity_checks
from talent_factory.datagen.quality.likeness import colour_distance, distance, sameness, trace
from talent_factory.datagen.quality.verdict import Check, graded, remarks, worst_verdict
from talent_factory.providers.embedded import EmbeddedPainter

Spoil = Callable[[Image.Image], Image.Image]


@pytest.fixture(scope="module")
def photograph() -> Image.Image:
    """A real portrait photograph, 512 x 512."""
    data = pytest.importorskip("skimage.data")
    return Image.fromarray(data.astronaut())


@pytest.fixture(scope="module")
def cast(tmp_path_factory: pytest.TempPathFactory, photograph: Image.Image) -> tuple[CastManifest, Path]:
    """The painter's seventeen images of that photograph at 640 px."""
    folder = tmp_path_factory.mktemp("cast")
    photograph.save(folder / "face.png")
    made = cast_actor(
        folder / "face.png",
        out=folder,
        token="astra",
        options=CastOptions(sex="woman", long_side=640),
        editor=EmbeddedPainter(),
        reporter=SilentReporter(),
    )
    return made, folder


def _slot(made: CastManifest, name: str) -> CastSlot:
    return next(slot for slot in made.slots if slot.name == name)


def _named(checks: list[Check] | tuple[Check, ...], name: str) -> Check:
    return next(check for check in checks if check.name == name)


def _examined(
    image: Image.Image, medium: str, group: str, portrait: Image.Image | None = None
) -> list[Check]:
    return check_image(image, Asked(medium=medium, group=group, aspect="16:9", long_side=640), portrait)


def test_the_painters_images_pass_and_keep_their_numbers(cast: tuple[CastManifest, Path]) -> None:
    made, folder = cast
    examined = examine_cast(made, folder, again=True)
    failed = {
        slot.name: remarks(slot.checks) for slot in examined.slots if worst_verdict(slot.checks) == "fail"
    }
    assert failed == {}
    assert sum(worst_verdict(slot.checks) == "pass" for slot in examined.slots) >= 14
    for slot in examined.slots:
        assert _named(slot.checks, "identity").verdict == "not_measured"
        assert _named(slot.checks, "edited").value is not None
    assert CastManifest.model_validate_json(examined.model_dump_json()) == examined
    assert examine_cast(examined, folder) is examined


def _bars(image: Image.Image) -> Image.Image:
    return ImageOps.pad(image.resize((440, 360)), (640, 360))


def _red_spot(image: Image.Image) -> Image.Image:
    spoilt = image.convert("RGB")
    spoilt.paste((220, 20, 20), (200, 100, 360, 260))
    return spoilt


@pytest.mark.parametrize(
    ("slot", "spoil", "check"),
    [
        ("rain_street", lambda image: image.filter(ImageFilter.GaussianBlur(6)), "sharpness"),
        ("subway", _bars, "bars"),
        ("comic", lambda image: image.convert("L"), "in_colour"),
        ("woodcut", _red_spot, "black_and_white"),
        (
            "graphite",
            lambda image: ImageOps.colorize(image.convert("L"), "#301000", "#ffe0a0"),
            "black_and_white",
        ),
        ("gouache", lambda image: image.resize((360, 360)), "aspect"),
        ("gouache", lambda image: image.resize((160, 90)), "size"),
        ("garage_walk", lambda image: image.point(lambda value: value // 90), "dark"),
        ("eye_contact", lambda image: Image.new("RGB", image.size, (90, 90, 90)), "contrast"),
    ],
)
def test_spoilt_images_are_found(
    cast: tuple[CastManifest, Path], slot: str, spoil: Spoil, check: str
) -> None:
    made, folder = cast
    chosen = _slot(made, slot)
    with Image.open(folder / chosen.file) as image:
        whole = image.convert("RGB")
    before = _named(_examined(whole, chosen.medium, chosen.group), check)
    after = _named(_examined(spoil(whole), chosen.medium, chosen.group), check)
    assert before.verdict == "pass", before
    assert after.verdict in ("warn", "fail"), after
    assert after.note


@pytest.mark.parametrize(
    ("medium", "check"), [("pen_and_ink", "ink"), ("woodcut", "ink"), ("mono_vector", "flat_colours")]
)
def test_a_grey_photograph_is_no_drawing(photograph: Image.Image, medium: str, check: str) -> None:
    grey = ImageOps.fit(photograph, (640, 360)).convert("L")
    checks = _examined(grey, medium, "monochrome", photograph)
    assert _named(checks, check).verdict == "fail"
    assert _named(checks, "edited").verdict == "fail"
    assert _named(checks, "black_and_white").verdict == "pass"


def test_a_dot_screen_is_told_from_hatching() -> None:
    y, x = np.mgrid[0:360, 0:640]
    angle = np.deg2rad(45)
    across, along = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    dots = ((np.sin(across * 2 * np.pi / 7) + np.sin(along * 2 * np.pi / 7)) > 0.3) * 255
    lines = (np.sin(across * 2 * np.pi / 7) > 0.3) * 255
    for values, verdict in ((dots, "pass"), (lines, "warn")):
        picture = Image.fromarray(values.astype(np.uint8))
        assert _named(_examined(picture, "manga", "monochrome"), "screentone").verdict == verdict


@pytest.mark.parametrize(
    "copy",
    [
        lambda image: ImageOps.fit(image, (640, 360)),
        lambda image: ImageOps.mirror(image.crop((60, 10, 480, 250))),
        lambda image: ImageOps.pad(image, (640, 360)),
    ],
    ids=["cropped", "mirrored close-up", "padded"],
)
def test_a_provider_that_hands_the_portrait_back_is_found(photograph: Image.Image, copy: Spoil) -> None:
    assert _named(_examined(copy(photograph), "comic", "colour", photograph), "edited").verdict in (
        "warn",
        "fail",
    )
    assert sameness(photograph, copy(photograph)) > 0.97


def test_another_picture_is_not_the_portrait(photograph: Image.Image) -> None:
    data = pytest.importorskip("skimage.data")
    for other in (data.chelsea(), data.coffee(), np.full((300, 400, 3), 255, np.uint8)):
        assert sameness(photograph, Image.fromarray(other)) < 0.9
        assert sameness(photograph, Image.fromarray(other), colour=False) < 0.95


def test_hashes_see_mirrors_and_compression(photograph: Image.Image, tmp_path: Path) -> None:
    photograph.save(tmp_path / "a.jpg", quality=40)
    with Image.open(tmp_path / "a.jpg") as packed:
        bits, mirrored = distance(trace(photograph), trace(packed))
    assert bits <= 2
    assert not mirrored
    bits, mirrored = distance(trace(photograph), trace(ImageOps.mirror(photograph)))
    assert bits <= 2
    assert mirrored
    inverse = ImageOps.invert(photograph)
    assert distance(trace(photograph), trace(inverse))[0] > 20
    assert colour_distance(trace(photograph), trace(photograph.rotate(180))) > 8


def test_duplicates_blame_the_later_one(cast: tuple[CastManifest, Path], tmp_path: Path) -> None:
    made, folder = cast
    one, two = _slot(made, "subway"), _slot(made, "garage_walk")
    for slot in made.slots:
        (tmp_path / slot.file).parent.mkdir(exist_ok=True)
        (tmp_path / slot.file).write_bytes((folder / slot.file).read_bytes())
    (tmp_path / made.portrait.file).write_bytes((folder / made.portrait.file).read_bytes())
    with Image.open(folder / one.file) as image:
        ImageOps.mirror(image.convert("RGB")).save(tmp_path / two.file)
    (tmp_path / _slot(made, "comic").file).write_bytes(b"no picture")
    examined = examine_cast(made, tmp_path, again=True)
    twin = _named(_slot(examined, "garage_walk").checks, "duplicate")
    assert twin.verdict == "fail"
    assert twin.note == "the same as 04, mirrored"
    assert _named(_slot(examined, "subway").checks, "duplicate").verdict == "pass"
    assert _slot(examined, "comic").checks[0].name == "readable"
    assert worst_verdict(_slot(examined, "comic").checks) == "fail"


def test_a_face_is_judged_only_where_the_detector_knows_this_one(photograph: Image.Image) -> None:
    wall = Image.new("RGB", (640, 360), (140, 120, 100))
    assert count_faces(photograph) == 1
    missing = _named(_examined(wall, "photo_subway", "photo", photograph), "face")
    assert (missing.verdict, missing.value) == ("warn", 0.0)
    assert _named(_examined(wall, "photo_subway", "photo", wall), "face").verdict == "not_measured"
    assert _named(_examined(wall, "comic", "colour", photograph), "face").verdict == "not_measured"


class _MeanColour:
    """An encoder whose "identity" is the mean colour."""

    name = "mean-colour"

    def encode(self, image: Image.Image) -> np.ndarray | None:  # type: ignore[type-arg]
        small = np.asarray(image.convert("RGB").resize((1, 1)), np.float32).ravel()
        return None if small.max() == 0 else small


def test_identity_is_an_outlier_of_the_set() -> None:
    red = [Image.new("RGB", (32, 32), (200 + n, 40, 40)) for n in range(5)]
    strangers = [Image.new("RGB", (32, 32), (20, 40, 200)), Image.new("RGB", (32, 32)), None]
    checks = identity_checks(red[0], [*red, *strangers], _MeanColour())
    assert [check.verdict for check in checks] == ["pass"] * 5 + ["warn"] + ["not_measured"] * 2
    assert {check.verdict for check in identity_checks(red[0], red[:2], _MeanColour())} == {"not_measured"}
    nothing = identity_checks(Image.new("RGB", (8, 8)), red, _MeanColour())
    assert {check.verdict for check in nothing} == {"not_measured"}


class _Broken:
    """An encoder whose weights are not there."""

    name = "broken"

    def encode(self, image: Image.Image) -> np.ndarray | None:  # type: ignore[type-arg]
        raise UsageError("the weights are gone")


def test_an_encoder_that_comes_later_has_its_say(cast: tuple[CastManifest, Path]) -> None:
    made, folder = cast
    blind = examine_cast(made, folder, again=True)
    seeing = examine_cast(blind, folder, encoder=_MeanColour())
    measured = [_named(slot.checks, "identity") for slot in seeing.slots]
    assert sum(check.value is not None for check in measured) == 16  # all but the silhouette
    assert examine_cast(seeing, folder, encoder=_MeanColour()) is seeing
    assert examine_cast(seeing, folder) is seeing
    broken = examine_cast(blind, folder, encoder=_Broken())
    assert {_named(slot.checks, "identity").note for slot in broken.slots} == {"the weights are gone"}


def test_grades_and_their_order() -> None:
    assert [graded("x", v, good=1, bad=2, note="n").verdict for v in (1, 2, 3)] == ["pass", "warn", "fail"]
    least = [graded("x", v, good=2, bad=1, least=True, note="n").verdict for v in (2, 1, 0)]
    assert least == ["pass", "warn", "fail"]
    mixed = [graded("a", 2, good=1, bad=2, note="small"), graded("b", 3, good=1, bad=2, note="grave")]
    assert remarks(mixed) == ("grave", "small")
    assert worst_verdict(mixed) == "fail"
    assert worst_verdict([]) == "not_measured"
