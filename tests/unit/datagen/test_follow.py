"""A vision is asked once about every image, and its failure harms no cast."""

from __future__ import annotations

from pathlib import Path

from cast_maker import write_face
from servers.openai_chat import KEY, FakeChat
from talent_factory.core.events import SilentReporter
from talent_factory.datagen.actor import CastOptions, cast_actor
from talent_factory.datagen.cast import CastManifest
from talent_factory.datagen.follow import FOLLOWS, check_slots
from talent_factory.datagen.quality.verdict import Check
from talent_factory.providers.embedded import EmbeddedPainter
from talent_factory.providers.vision.catalog import make_vision

NO = '{"state": "fail", "note": "there is no rain"}'


def _cast(folder: Path) -> CastManifest:
    portrait = write_face(folder / "face.png")
    options = CastOptions(long_side=160, count=3)
    return cast_actor(
        portrait,
        out=folder / "cast",
        token="ana",
        options=options,
        editor=EmbeddedPainter(),
        reporter=SilentReporter(),
    )


def _checks(cast: CastManifest) -> list[Check]:
    return [check for slot in cast.made for check in slot.checks if check.name == FOLLOWS]


def test_each_image_is_asked_about_once_and_the_answer_outlives_another_run(tmp_path: Path) -> None:
    drawn = [slot for slot in _cast(tmp_path).made if not slot.augmentation]
    with FakeChat(NO) as server:
        vision = make_vision("openai", model="eye-1", key=KEY, base_url=server.url + "/v1")
        first = check_slots(tmp_path / "cast", vision, reporter=SilentReporter())
        assert len(server.asked) == len(drawn) > 0
        assert drawn[0].action in str(server.asked[0])
        assert [check.verdict for check in _checks(first)].count("fail") == len(drawn)
        assert "no rain" in " ".join(check.note for check in _checks(first))
        assert _checks(_cast(tmp_path)) == _checks(first)
        assert check_slots(tmp_path / "cast", vision, reporter=SilentReporter()) == _cast(tmp_path)
        assert len(server.asked) == len(drawn)


def test_a_refused_key_leaves_the_cast_as_it_was(tmp_path: Path) -> None:
    made = _cast(tmp_path)
    said: list[str] = []

    class Listener(SilentReporter):
        def message(self, text: str) -> None:
            said.append(text)

    with FakeChat("!401") as server:
        vision = make_vision("openai", model="eye-1", key=KEY, base_url=server.url + "/v1")
        after = check_slots(tmp_path / "cast", vision, reporter=Listener())
    assert [slot.sha256 for slot in after.made] == [slot.sha256 for slot in made.made]
    assert "not compared" in said[0]
    assert KEY not in said[0]
