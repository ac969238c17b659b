"""A cast is filled slot by slot, never makes an image twice, and survives failures, stops and kills."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from cast_maker import BlockEditor, write_face
from talent_factory.core.errors import (
    Cancelled,
    DiskFull,
    PartialResult,
    ProviderError,
    UsageError,
    WorkspaceBusy,
)
from talent_factory.core.events import SilentReporter
from talent_factory.core.stop import StopSignal
from talent_factory.core.workspace import exclusive
from talent_factory.datagen.actor import CastOptions, cast_actor, plan_cast
from talent_factory.datagen.cast import CAST_FILE, SHEET_FILE, CastManifest, load_cast
from talent_factory.datagen.stamp import read_stamp

SMALL = CastOptions(long_side=64, sex="woman")


class _Heard(SilentReporter):
    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []
        self.steps: list[int] = []

    def event(self, kind: str, **fields: object) -> None:
        self.events.append((kind, fields))

    def progress(self, stage: str, done: int, total: int, *, unit: str = "step", note: str = "") -> None:
        self.steps.append(done)


def _cast(
    folder: Path, editor: BlockEditor, options: CastOptions = SMALL, *, stop: StopSignal | None = None
) -> CastManifest:
    portrait = folder / "face.png"
    if not portrait.is_file():
        write_face(portrait)
    return cast_actor(
        portrait,
        out=folder / "cast",
        token="dot",
        options=options,
        editor=editor,
        reporter=SilentReporter(),
        stop=stop,
    )


def _state(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        path.relative_to(folder).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def test_a_whole_cast(tmp_path: Path) -> None:
    editor = BlockEditor()
    heard = _Heard()
    made = cast_actor(
        write_face(tmp_path / "face.png"),
        out=tmp_path / "cast",
        token="dot",
        options=SMALL,
        editor=editor,
        reporter=heard,
    )
    assert (made.target, len(made.done), made.failed) == (17, 17, ())
    assert made.summary() == "17 of 17 images; 2 of 17 made by augmentation, not newly generated"
    assert made.counts()["total_training_images"] == 17
    made.require_complete()
    assert load_cast(tmp_path / "cast") == made
    for slot in made.slots:
        path = tmp_path / "cast" / slot.file
        assert path.name == f"{slot.number:02d}_{slot.name}.png"
        assert (slot.width, slot.height) == (64, 36)
        facts = read_stamp(path)
        assert facts["key"] == slot.key
        assert facts["augmentation"] is slot.augmentation
        assert facts["provider"] == "blocks"
    assert (tmp_path / "cast" / SHEET_FILE).is_file()
    assert len({slot.seed for slot in made.slots}) == 17
    assert heard.steps == list(range(18))
    assert [kind for kind, _ in heard.events] == ["cast.begin", *["cast.slot"] * 17, "cast.end"]
    assert editor.peak <= 3


def test_a_second_run_makes_nothing_and_touches_nothing(tmp_path: Path) -> None:
    _cast(tmp_path, BlockEditor())
    before = _state(tmp_path / "cast")
    again = BlockEditor()
    _cast(tmp_path, again)
    assert again.painted == []
    assert _state(tmp_path / "cast") == before


def test_the_same_inputs_give_the_same_bytes_elsewhere(tmp_path: Path) -> None:
    _cast(tmp_path / "a", BlockEditor(in_flight=1))
    _cast(tmp_path / "b", BlockEditor(in_flight=5, delay=0.001))
    one, two = _state(tmp_path / "a" / "cast"), _state(tmp_path / "b" / "cast")
    assert {name: data for name, (data, _) in one.items()} == {name: data for name, (data, _) in two.items()}


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"long_side": 80},
        {"aspect": "1:1"},
        {"sex": "man"},
        {"actor_type": "creature", "sex": None},
    ],
    ids=str,
)
def test_what_decides_the_pixels_makes_all_images_anew(tmp_path: Path, change: dict[str, object]) -> None:
    _cast(tmp_path, BlockEditor())
    again = BlockEditor()
    _cast(tmp_path, again, CastOptions.model_validate({**SMALL.model_dump(), **change}))
    assert len(again.painted) == 17


def test_another_portrait_or_method_makes_images_anew_other_words_do_not(tmp_path: Path) -> None:
    _cast(tmp_path, BlockEditor())
    newer = BlockEditor()
    newer.method = "blocks-2"
    _cast(tmp_path, newer)
    assert sorted(newer.painted) == ["pen_ink", "subway"]
    told = BlockEditor()
    told.method = "blocks-2"
    made = _cast(tmp_path, told, SMALL.model_copy(update={"portrait_words": ("smiling",)}))
    assert told.painted == []
    assert made.portrait.words == ("smiling",)
    write_face(tmp_path / "face.png", (300, 300))
    other = BlockEditor()
    _cast(tmp_path, other)
    assert len(other.painted) == 17


def test_a_failed_slot_stops_nothing_and_is_tried_again(tmp_path: Path) -> None:
    editor = BlockEditor()
    editor.broken = {
        "manga": ProviderError("flagged as sensitive (E005)"),
        "comic": ZeroDivisionError("inside\nthe provider"),
    }
    editor.answers = {"gouache": b"<html>busy</html>"}
    made = _cast(tmp_path, editor)
    assert [slot.name for slot in made.failed] == ["manga", "comic", "gouache"]
    assert made.counts()["total_training_images"] == 14
    assert made.failed[0].error == "flagged as sensitive (E005)"
    assert made.failed[1].error == "ZeroDivisionError: inside the provider"
    assert "no PNG" in made.failed[2].error
    with pytest.raises(PartialResult, match="manga, comic, gouache") as caught:
        made.require_complete()
    assert caught.value.exit_code == 3
    again = BlockEditor()
    mended = _cast(tmp_path, again)
    assert sorted(again.painted) == ["comic", "gouache", "manga"]
    assert len(mended.done) == 17
    assert all(slot.error == "" for slot in mended.slots)


def test_not_one_image_is_an_error_that_keeps_the_record(tmp_path: Path) -> None:
    editor = BlockEditor()
    editor.broken = {slot: ProviderError("no network") for slot in _names()}
    with pytest.raises(ProviderError, match=r"not one of 17.*no network"):
        _cast(tmp_path, editor)
    assert len(load_cast(tmp_path / "cast").failed) == 17


def test_a_full_disk_stops_the_cast_and_keeps_what_is_there(tmp_path: Path) -> None:
    editor = BlockEditor(in_flight=1)
    editor.broken = {"manga": DiskFull("no room")}
    with pytest.raises(DiskFull):
        _cast(tmp_path, editor)
    # one that followed before the error was seen is kept, in the record or as a file that speaks for itself
    assert 12 <= len(load_cast(tmp_path / "cast").done) <= 14
    kept = len(list((tmp_path / "cast" / "images").glob("*.png")))
    again = BlockEditor(in_flight=1)
    assert len(_cast(tmp_path, again).done) == 17
    assert again.painted[0] == "manga"
    assert len(again.painted) == 17 - kept  # exactly what is missing, whatever others finished meanwhile


def test_lost_and_changed_images_are_made_again_stray_ones_are_taken_over(tmp_path: Path) -> None:
    made = _cast(tmp_path, BlockEditor())
    cast = tmp_path / "cast"
    (cast / made.slots[0].file).unlink()
    with Image.open(cast / made.slots[1].file) as image:
        image.convert("L").save(cast / made.slots[1].file)
    again = BlockEditor()
    assert _cast(tmp_path, again) == made
    assert sorted(again.painted) == sorted(slot.name for slot in made.slots[:2])
    (cast / CAST_FILE).unlink()
    from_images = BlockEditor()
    assert _cast(tmp_path, from_images) == made
    assert from_images.painted == []
    (cast / CAST_FILE).write_text("{ damaged")
    assert _cast(tmp_path, from_images) == made
    assert from_images.painted == []


def test_a_stop_drains_and_the_next_run_goes_on(tmp_path: Path) -> None:
    stop = StopSignal()
    editor = BlockEditor(in_flight=1, delay=0.01)
    stop_after = 4

    class _Stopping(SilentReporter):
        def progress(self, stage: str, done: int, total: int, *, unit: str = "step", note: str = "") -> None:
            if done == stop_after:
                stop.request()

    with pytest.raises(Cancelled) as caught:
        cast_actor(
            write_face(tmp_path / "face.png"),
            out=tmp_path / "cast",
            token="dot",
            options=SMALL,
            editor=editor,
            reporter=_Stopping(),
            stop=stop,
        )
    assert caught.value.exit_code == 130
    kept = len(load_cast(tmp_path / "cast").done)
    assert stop_after <= kept <= stop_after + 1
    again = BlockEditor()
    _cast(tmp_path, again)
    assert len(again.painted) == 17 - kept


def test_two_casts_of_one_folder_exclude_each_other(tmp_path: Path) -> None:
    with exclusive(tmp_path / "cast"), pytest.raises(WorkspaceBusy):
        _cast(tmp_path, BlockEditor())


def test_a_bad_token_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    for token in ("../up", "Dot", "dot\n", ""):
        with pytest.raises(UsageError):
            cast_actor(
                write_face(tmp_path / "face.png"),
                out=tmp_path / "cast",
                token=token,
                options=SMALL,
                editor=BlockEditor(),
                reporter=SilentReporter(),
            )
    assert not (tmp_path / "cast").exists()


def test_a_plan_writes_nothing_and_knows_what_is_done(tmp_path: Path) -> None:
    portrait = write_face(tmp_path / "face.png")
    out = tmp_path / "cast"
    plan = plan_cast(portrait, out=out, token="dot", options=SMALL, editor=BlockEditor())
    assert len(plan.todo) == 17
    assert plan.cost_usd == 0
    assert not out.exists()
    editor = BlockEditor()
    editor.broken = {"manga": ProviderError("busy")}
    _cast(tmp_path, editor)
    before = _state(out)
    left = plan_cast(portrait, out=out, token="dot", options=SMALL, editor=BlockEditor())
    assert [step.name for step in left.todo] == ["13 manga"]
    assert _state(out) == before


def _names() -> list[str]:
    from talent_factory.datagen.recipes import load_recipe

    return [slot.name for slot in load_recipe().slots]


_CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from cast_maker import BlockEditor
from talent_factory.core.events import SilentReporter
from talent_factory.datagen.actor import CastOptions, cast_actor
folder = Path(sys.argv[1])
options = CastOptions(long_side=64, sex="woman")
cast_actor(folder / "face.png", out=folder / "cast", token="dot", options=options,
           editor=BlockEditor(delay=0.02, in_flight=2, log=folder / "painted.txt"), reporter=SilentReporter())
"""


def test_killed_at_any_moment_a_cast_loses_at_most_what_was_in_work(tmp_path: Path) -> None:
    tests = str(Path(__file__).resolve().parents[2])
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    _cast(whole, BlockEditor())
    write_face(cut / "face.png")
    chance = random.Random(5)
    kills = 0
    while True:
        child = subprocess.Popen([sys.executable, "-c", _CHILD.format(tests=tests), str(cut)])
        log = cut / "painted.txt"
        before = log.stat().st_size if log.exists() else 0
        while child.poll() is None and (not log.exists() or log.stat().st_size == before):
            time.sleep(
                0.005
            )  # let it begin: the moment of the kill should lie in the work, not in the imports
        time.sleep(chance.uniform(0.0, 0.15))
        if kills < 4 and child.poll() is None:
            os.kill(child.pid, signal.SIGKILL)
            child.wait()
            kills += 1
            continue
        assert child.wait() == 0
        break
    one, two = _state(whole / "cast"), _state(cut / "cast")
    assert {name: data for name, (data, _) in one.items()} == {name: data for name, (data, _) in two.items()}
    assert json.loads((cut / "cast" / CAST_FILE).read_text())["slots"][16]["state"] == "done"
    painted = (cut / "painted.txt").read_text().splitlines()
    assert set(painted) == set(_names())
    assert len(painted) <= 17 + 2 * kills


def test_a_picture_of_the_users_is_never_overwritten(tmp_path: Path) -> None:
    mine = tmp_path / "portrait.png"
    Image.new("L", (128, 128), 90).save(mine)
    before = mine.read_bytes()
    for act in (cast_actor, plan_cast):
        extra = {"reporter": SilentReporter()} if act is cast_actor else {}
        with pytest.raises(UsageError, match=r"portrait\.png belongs to no cast"):
            act(mine, out=tmp_path, token="dot", options=SMALL, editor=BlockEditor(), **extra)  # type: ignore[operator]
    assert mine.read_bytes() == before
    assert not (tmp_path / CAST_FILE).exists()


def test_a_cast_that_lost_its_manifest_is_still_a_cast(tmp_path: Path) -> None:
    _cast(tmp_path, BlockEditor())
    (tmp_path / "cast" / CAST_FILE).unlink()
    editor = BlockEditor()
    assert len(_cast(tmp_path, editor).done) == 17


def test_a_portrait_whose_name_is_no_utf_8(tmp_path: Path) -> None:
    portrait = tmp_path / "face\udcff.png"
    write_face(portrait)
    cast = cast_actor(
        portrait,
        out=tmp_path / "cast",
        token="dot",
        options=SMALL,
        editor=BlockEditor(),
        reporter=SilentReporter(),
    )
    assert load_cast(tmp_path / "cast") == cast
    assert cast.portrait.source == "face\ufffd.png"
