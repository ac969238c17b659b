"""A cast over a paid provider, killed at every step of its way, pays once for each image and loses none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cast_maker import write_face
from talent_factory.core.events import SilentReporter
from talent_factory.datagen.actor import CastOptions, cast_actor, plan_cast
from talent_factory.datagen.cast import CAST_FILE, CastManifest
from talent_factory.datagen.ledger import LEDGER_FILE, Ledger
from talent_factory.providers.fake import FakeEditor

TESTS = Path(__file__).resolve().parents[2]
needs_fork = pytest.mark.skipif(sys.platform == "win32", reason="forks")


def _kills(folder: Path, *options: str) -> int:
    script = [sys.executable, str(TESTS / "crash_points.py"), str(folder), *options]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@needs_fork
def test_killed_here_and_there(tmp_path: Path) -> None:
    assert _kills(tmp_path, "--every", "17", "--double", "2", "--faults", "lost-after") > 8


@needs_fork
@pytest.mark.slow
@pytest.mark.parametrize(
    "faults", [(), ("lost-after", "lost-before", "transient+cut"), ("flagged", "busy", "cut")], ids=str
)
def test_killed_at_every_single_step(tmp_path: Path, faults: tuple[str, ...]) -> None:
    assert _kills(tmp_path, "--double", "20", "--faults", *faults) > 100


def _cast(folder: Path, **options: object) -> CastManifest:
    write_face(folder / "face.png", (96, 96))
    chosen = {"recipe": "actor-17", "long_side": 64, "time_scale": 0.001, **options}
    return cast_actor(
        folder / "face.png",
        out=folder / "cast",
        token="dot",
        options=CastOptions.model_validate(chosen),
        editor=FakeEditor(folder / "service"),
        reporter=SilentReporter(),
    )


def test_a_second_run_pays_nothing_and_touches_nothing(tmp_path: Path) -> None:
    made = _cast(tmp_path)
    paths = [path for path in (tmp_path / "cast").rglob("*") if path.is_file() and path.name != ".lock"]
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}
    assert _cast(tmp_path) == made
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in paths} == before
    assert len(FakeEditor(tmp_path / "service").jobs()) == 17


def test_the_manifest_says_what_each_image_cost_and_which_job_made_it(tmp_path: Path) -> None:
    made = _cast(tmp_path)
    jobs = {job.id: job for job in FakeEditor(tmp_path / "service").jobs()}
    assert {slot.job for slot in made.slots} == set(jobs)
    assert all(slot.seed == jobs[slot.job].seed and slot.cost_usd == 0.04 for slot in made.slots)
    (tmp_path / "cast" / CAST_FILE).unlink()
    assert _cast(tmp_path) == made


def test_another_seed_pays_anew_and_going_back_pays_nothing(tmp_path: Path) -> None:
    first = _cast(tmp_path)
    second = _cast(tmp_path, seed=1)
    assert {slot.sha256 for slot in first.slots}.isdisjoint(slot.sha256 for slot in second.slots)
    assert len(list((tmp_path / "cast" / "spare").iterdir())) == 17
    plan = plan_cast(
        tmp_path / "face.png",
        out=tmp_path / "cast",
        token="dot",
        options=CastOptions(long_side=64),
        editor=FakeEditor(tmp_path / "service"),
    )
    assert plan.cost_usd == 0
    assert [slot.sha256 for slot in _cast(tmp_path).slots] == [slot.sha256 for slot in first.slots]
    assert [slot.sha256 for slot in _cast(tmp_path, seed=1).slots] == [slot.sha256 for slot in second.slots]
    assert len(FakeEditor(tmp_path / "service").jobs()) == 34


def test_a_paid_job_of_a_killed_run_comes_home_even_when_another_seed_is_wanted(tmp_path: Path) -> None:
    write_face(tmp_path / "face.png", (96, 96))
    (tmp_path / "cast").mkdir()
    service = FakeEditor(tmp_path / "service")
    ledger = Ledger(tmp_path / "cast" / LEDGER_FILE, provider="fake", remote=True)
    attempt = ledger.intend(key="0123abc", slot="old", seed=None, rung=0, price_usd=0.04, budget_usd=None)
    ledger.close()
    from talent_factory.providers.port import EditRequest

    service.submit(
        EditRequest(portrait=tmp_path / "face.png", slot="old", medium="ink", seed=attempt.seed, long_side=64)
    )
    made = _cast(tmp_path)
    assert made.target == 17
    assert [path.name for path in (tmp_path / "cast" / "spare").iterdir()] == ["old_0123abc.png"]
    book = Ledger(tmp_path / "cast" / LEDGER_FILE, provider="fake", remote=True)
    assert book.all_live() == ()
    assert book.spent() == 18 * 40_000
    book.close()
