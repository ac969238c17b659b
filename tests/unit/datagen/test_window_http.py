"""The window over real HTTP: a Replicate-shaped server that fails in its many ways is paid once an image."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from cast_maker import write_face
from servers.replicate import TOKEN, Behaviour, FakeReplicate
from talent_factory.core.errors import ProviderRefused
from talent_factory.core.events import SilentReporter
from talent_factory.datagen.actor import CastOptions, cast_actor
from talent_factory.datagen.cast import CastManifest, load_cast
from talent_factory.providers.replicate import ReplicateEditor

SCALE = 0.002


def _cast(folder: Path, url: str) -> CastManifest:
    editor = ReplicateEditor(token=TOKEN, base_url=url, upload=True)
    try:
        return cast_actor(
            write_face(folder / "face.png"),
            out=folder / "cast",
            token="dot",
            options=CastOptions(long_side=96, in_flight=4, time_scale=SCALE),
            editor=editor,
            reporter=SilentReporter(),
        )
    finally:
        editor.close()


def _good(server: FakeReplicate) -> Counter[str]:
    return Counter(str(job.input["prompt"]) for job in server.jobs.values() if job.fate == "succeeded")


@pytest.mark.parametrize(
    ("kind", "faults"),
    [
        ("submit", ["429", "429", "reset-after", "500-after", "garbage"]),
        ("submit", ["reset-before", "503-before", "html"]),
        ("submit", ["E6716", "aborted", "no-output", "E005"]),
        ("poll", ["500", "reset", "html", "429"]),
        ("download", ["truncated", "truncated-open", "not-image", "404", "500", "reset"]),
    ],
    ids=str,
)
def test_faults_that_pass_end_in_a_whole_set_paid_once(tmp_path: Path, kind: str, faults: list[str]) -> None:
    with FakeReplicate(Behaviour(long_side=96, after_polls=2)) as server:
        server.faults.plan(kind, *faults)
        if "reset-after" in faults:
            server.faults.plan("list", "500", "reset")
        made = _cast(tmp_path, server.url)
        while len(made.done) < made.target:  # what was answered with a page, or five in a row: tried again
            made = _cast(tmp_path, server.url)
        assert set(_good(server).values()) == {1}
        assert {slot.job for slot in made.slots} == {
            j.id for j in server.jobs.values() if j.fate == "succeeded"
        }
        assert {slot.seed for slot in made.slots} <= {job.seed for job in server.jobs.values()}


def test_missing_credit_stops_the_set_keeps_it_and_later_completes_it(tmp_path: Path) -> None:
    with FakeReplicate(Behaviour(long_side=96)) as server:
        server.faults.plan("submit", *["ok"] * 6, *["402"] * 4)
        with pytest.raises(ProviderRefused, match=r"of 17 images.* so far, and kept"):
            _cast(tmp_path, server.url)
        kept = load_cast(tmp_path / "cast")
        assert 5 <= len(kept.done) <= 10
        server.faults = type(server.faults)()
        made = _cast(tmp_path, server.url)
        assert len(made.done) == 17
        assert set(_good(server).values()) == {1}
        assert [slot.sha256 for slot in made.slots if slot.name in {s.name for s in kept.done}] == [
            slot.sha256 for slot in kept.done
        ]


def test_a_slow_account_is_served_at_its_own_rate(tmp_path: Path) -> None:
    behaviour = Behaviour(long_side=96, per_minute=6, time_scale=SCALE, burst=1)
    with FakeReplicate(behaviour) as server:
        made = _cast(tmp_path, server.url)
        assert len(made.done) == 17
        assert len(server.jobs) == 17


def test_flagged_words_are_softened_and_the_safety_that_was_sent_is_on_record(tmp_path: Path) -> None:
    with FakeReplicate(Behaviour(long_side=96, flagged=("alley",))) as server:
        made = _cast(tmp_path, server.url)
        assert len(made.done) == 17
        assert (made.safety_requested, made.safety_sent) == (6, 2)
        fates = Counter(job.fate for job in server.jobs.values())
        assert fates["succeeded"] == 17
        assert fates["E005"] >= 2


def test_neither_the_ledger_nor_the_record_holds_the_token(tmp_path: Path) -> None:
    with FakeReplicate(Behaviour(long_side=96)) as server:
        _cast(tmp_path, server.url)
    for path in (tmp_path / "cast").rglob("*"):
        if path.is_file():
            assert TOKEN.encode() not in path.read_bytes(), path
    assert json.loads((tmp_path / "cast" / "cast.json").read_text())["provider"] == "replicate"
