"""After a training: warnings were told, the kit stands in the registry, and neither can spoil the work."""

from __future__ import annotations

from pathlib import Path

from tests.kit_maker import make_base, make_kit
from tests.photo_maker import write_photos

from talent_factory.aftermath import enter_in_registry, tell_findings
from talent_factory.core.events import SilentReporter
from talent_factory.core.workspace import Workspace
from talent_factory.dataset.prepare import prepare_folder


class _Listener(SilentReporter):
    def __init__(self) -> None:
        self.heard: list[str] = []

    def message(self, text: str) -> None:
        self.heard.append(text)


def test_a_trigger_that_means_something_is_told_before_the_training(tmp_path: Path) -> None:
    folder = write_photos(tmp_path / "in", 7)
    for number in range(7):
        (folder / f"{number:02d}.txt").write_text(f"by the sea, blue eyes, evening light {number}")
    prepare_folder(
        folder, out=tmp_path / "out", kind="identity", token="rose", class_noun="woman", resolution=64
    )
    listener = _Listener()
    tell_findings(tmp_path / "out", listener)
    assert any(line.startswith("warn: trigger: none of 7 captions") for line in listener.heard)
    assert any(line.startswith("warn: token rose: a common word") for line in listener.heard)
    assert listener.heard[-1].endswith(f"more: talent dataset check {tmp_path / 'out'}")
    assert len(listener.heard) == 6


def test_the_registry_follows_and_a_damaged_one_stops_nothing(tmp_path: Path) -> None:
    place = Workspace(tmp_path)
    make_kit(place.talents, make_base(tmp_path / "base"), work=tmp_path / "work")
    enter_in_registry(place, _Listener())
    assert (tmp_path / "registry.md").is_file()
    (tmp_path / "registry.jsonl").write_text("{")
    listener = _Listener()
    enter_in_registry(place, listener)
    assert "the registry was not updated" in listener.heard[0]
