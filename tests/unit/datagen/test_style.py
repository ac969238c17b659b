"""Style sets from end to end with the embedded painter: kept, topped up, resumed, honest about failures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from talent_factory.core.errors import PartialResult, ProviderError, ProviderRefused, UsageError
from talent_factory.core.events import SilentReporter
from talent_factory.datagen.style import StyleOptions, cast_style, plan_style
from talent_factory.datagen.style_cast import StyleCast, load_style
from talent_factory.datagen.style_plan import grid_prompt
from talent_factory.datagen.subjects import deal
from talent_factory.providers.embedded import EmbeddedPainter
from talent_factory.providers.fake import FakeEditor
from talent_factory.providers.port import Capabilities, EditRequest
from talent_factory.providers.vision import StyleCard, TileVerdict, Verdict, make_vision
from talent_factory.providers.vision.port import U8
from talent_factory.world.samples import kairo_portrait


class Counting(EmbeddedPainter):
    """The painter, counting what it is asked for; it may break at a sheet or refuse."""

    def __init__(self, *, broken: Sequence[str] = (), refuse: str = "") -> None:
        super().__init__()
        self.asked: list[EditRequest] = []
        self._broken, self._refuse = broken, refuse

    def submit(self, request: EditRequest) -> str:
        self.asked.append(request)
        if request.slot == self._refuse:
            raise ProviderRefused("no credit left")
        if request.slot in self._broken:
            raise ProviderError("it broke")
        return super().submit(request)


class Choosy:
    """The embedded vision, but the first `reject` tiles are not liked."""

    def __init__(self, reject: int = 0) -> None:
        self._eye, self._left, self.cards = make_vision(), reject, 0

    name = "choosy"

    def style_card(self, image: Path) -> StyleCard:
        self.cards += 1
        return self._eye.style_card(image)

    def check_tiles(self, tiles: Sequence[U8], *, subjects: Sequence[str], style: Path) -> list[TileVerdict]:
        verdicts = []
        for _ in tiles:
            ok = self._left <= 0
            self._left -= 1
            verdicts.append(TileVerdict(ok=ok, reason="" if ok else "not liked", style_match=4))
        return verdicts

    def follows(self, image: Path, expectation: str) -> Verdict:
        return self._eye.follows(image, expectation)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    Image.fromarray(kairo_portrait(zoom=1)).save(path)
    return path


def _cast(picture: Path, out: Path, **given: object) -> StyleCast:
    options = StyleOptions.model_validate({"count": 9, "long_side": 512, **_options(given)})
    return cast_style(
        picture,
        out=out,
        token="zz_style",
        options=options,
        editor=given.get("editor", EmbeddedPainter()),  # type: ignore[arg-type]
        vision=given.get("vision", Choosy()),  # type: ignore[arg-type]
        reporter=SilentReporter(),
        stop=given.get("stop"),  # type: ignore[arg-type]
    )


def _options(given: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in given.items() if name not in ("editor", "vision", "stop")}


def _state(out: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(p): (p.read_bytes(), p.stat().st_mtime_ns)
        for p in sorted(out.rglob("*"))
        if p.is_file() and p.name != ".lock"
    }


def test_a_set_is_square_captioned_and_on_record(picture: Path, tmp_path: Path) -> None:
    cast = _cast(picture, tmp_path / "out", vision=make_vision())
    assert len(cast.kept) == 9
    cast.require_complete()
    assert load_style(tmp_path / "out") == cast
    assert (cast.provider, cast.method) == ("embedded", "patch-analogy-1")
    assert len({tile.category for tile in cast.kept}) == 7
    sizes = set()
    for number, tile in enumerate(cast.kept, start=1):
        with Image.open(tmp_path / "out" / tile.file) as image:
            sizes.add(image.size)
        text = (tmp_path / "out" / tile.file).with_suffix(".txt").read_text()
        assert tile.image == number
        assert text == f"zz_style, {tile.caption.removeprefix('zz_style, ')}\n"
        assert not re.search(r"flat|outline|colour|style(?!,)", text.removeprefix("zz_style"))
    assert len(sizes) == 1
    width, height = sizes.pop()
    assert width == height > 140
    assert (tmp_path / "out" / "contact_sheet.jpg").is_file()


def test_a_second_call_asks_for_nothing_and_changes_nothing(picture: Path, tmp_path: Path) -> None:
    vision = Choosy()
    _cast(picture, tmp_path / "out", vision=vision)
    before = _state(tmp_path / "out")
    editor = Counting()
    again = Choosy()
    _cast(picture, tmp_path / "out", editor=editor, vision=again)
    assert editor.asked == []
    assert again.cards == 0
    assert _state(tmp_path / "out") == before


def test_another_grid_only_while_too_few_survive(picture: Path, tmp_path: Path) -> None:
    editor = Counting()
    cast = _cast(picture, tmp_path / "a", editor=editor, vision=Choosy(reject=4))
    assert len(editor.asked) == 2
    assert len(cast.kept) == 9
    assert sum(not tile.verdict.ok for tile in cast.tiles) == 4


def test_grids_are_bounded_and_a_set_without_an_image_fails(picture: Path, tmp_path: Path) -> None:
    editor = Counting()
    with pytest.raises(ProviderError, match="not liked"):
        _cast(picture, tmp_path / "out", editor=editor, vision=Choosy(reject=999), max_sheets=2)
    assert len(editor.asked) == 2
    assert len(load_style(tmp_path / "out").tiles) == 18


def test_one_failed_grid_does_not_stop_the_others(picture: Path, tmp_path: Path) -> None:
    cast = _cast(picture, tmp_path / "out", editor=Counting(broken=["sheet_1"]), count=18)
    assert len(cast.kept) == 9
    assert "it broke" in cast.failed[0].error
    with pytest.raises(PartialResult, match="9 of 18"):
        cast.require_complete()
    editor = Counting()
    whole = _cast(picture, tmp_path / "out", editor=editor, count=18)
    assert [request.slot for request in editor.asked] == ["sheet_1"]
    assert len(whole.kept) == 18


def test_a_refusal_stops_the_run_and_keeps_what_was_made(picture: Path, tmp_path: Path) -> None:
    with pytest.raises(ProviderRefused, match="kept"):
        _cast(picture, tmp_path / "out", editor=Counting(refuse="sheet_2"), count=18, in_flight=1)
    assert len(load_style(tmp_path / "out").kept) == 9


def test_direct_mode_makes_one_image_a_subject(picture: Path, tmp_path: Path) -> None:
    editor = Counting()
    cast = _cast(picture, tmp_path / "out", editor=editor, mode="direct", count=3)
    assert [request.medium for request in editor.asked] == ["style_picture"] * 3
    assert [tile.subject for tile in cast.kept] == [subject.name for subject in deal(1, seed=0)[0][:3]]
    assert cast.sheets[0].width == 512


def test_mended_captions_and_foreign_files_stay(picture: Path, tmp_path: Path) -> None:
    cast = _cast(picture, tmp_path / "out")
    words = (tmp_path / "out" / cast.kept[0].file).with_suffix(".txt")
    words.write_text("zz_style, my own words\n")
    mine = tmp_path / "out" / "images" / "99_mine.png"
    mine.write_bytes(b"mine")
    fewer = _cast(picture, tmp_path / "out", count=8)
    assert words.read_text() == "zz_style, my own words\n"
    assert mine.read_bytes() == b"mine"
    left = {path.name for path in (tmp_path / "out" / "images").glob("*.png")}
    assert left == {"99_mine.png", *(Path(tile.file).name for tile in fewer.kept)}


def test_a_remote_provider_gets_words_and_is_never_paid_twice(picture: Path, tmp_path: Path) -> None:
    editor = FakeEditor(tmp_path / "service")
    _cast(picture, tmp_path / "out", editor=editor, time_scale=0.01)
    jobs = editor.jobs()
    assert len(jobs) == 1
    subjects = deal(1, seed=0)[0]
    assert all(subject.text in jobs[0].prompt for subject in subjects)
    assert jobs[0].aspect == "1:1"
    _cast(picture, tmp_path / "out", editor=FakeEditor(tmp_path / "service"), time_scale=0.01)
    assert len(editor.jobs()) == 1
    assert load_style(tmp_path / "out").spent_usd == pytest.approx(0.04)


def test_prompts_hold_layout_subjects_and_style_but_no_picture_subject() -> None:
    card = StyleCard(
        source="x", medium="ink", sentence="Loose ink lines on rough cream paper.", avoid=("gloss",)
    )
    subjects = deal(1, seed=0)[0]
    prompt = grid_prompt(subjects, card)
    assert "three rows of three" in prompt
    assert "Loose ink lines on rough cream paper." in prompt
    assert "Avoid: gloss" in prompt
    places = [prompt.index(subject.text) for subject in subjects]
    assert places == sorted(places)


def test_the_plan_says_what_will_be_asked_and_paid(tmp_path: Path) -> None:
    plan = plan_style(options=StyleOptions(count=20), editor=FakeEditor(tmp_path))
    assert len(plan.steps) == 3
    assert sum(step.cost_usd for step in plan.steps) == pytest.approx(0.12)
    direct = plan_style(options=StyleOptions(count=20, mode="direct"), editor=FakeEditor(tmp_path))
    assert len(direct.steps) == 20


def test_a_provider_that_knows_only_portraits_is_refused(picture: Path, tmp_path: Path) -> None:
    class Narrow(EmbeddedPainter):
        def capabilities(self) -> Capabilities:
            return super().capabilities().model_copy(update={"media": ("comic",)})

    with pytest.raises(UsageError, match="no style sets"):
        _cast(picture, tmp_path / "out", editor=Narrow())


def test_small_tiles_are_enlarged_when_asked_for_and_say_so(picture: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    plain = _cast(picture, out, count=2)
    large = _cast(picture, out, count=2, upscale_to=300)
    for before, after in zip(plain.kept, large.kept, strict=True):
        assert before.sha256 != after.sha256
        with Image.open(out / after.file) as image:
            assert image.size == (300, 300)
            assert str(before.box[2] - before.box[0]) in str(image.info)
    assert [sheet.sha256 for sheet in large.sheets] == [sheet.sha256 for sheet in plain.sheets]
