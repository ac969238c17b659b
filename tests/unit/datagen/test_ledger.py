"""The ledger forbids what would pay twice, keeps sums exact, and says plainly when it cannot be used."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from talent_factory.core.errors import FileError, PolicyRefused
from talent_factory.datagen.ledger import LEDGER_FILE, Attempt, Ledger, Taken
from talent_factory.datagen.retry import GaveUp, Pace, next_rung, soften


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    book = Ledger(tmp_path / LEDGER_FILE, provider="fake", remote=True)
    yield book
    book.close()


def _intend(ledger: Ledger, key: str = "a", **changes: object) -> Attempt:
    terms: dict[str, object] = {"seed": None, "rung": 0, "price_usd": 0.04, "budget_usd": None}
    return ledger.intend(key=key, slot=key, **(terms | changes))  # type: ignore[arg-type]


def test_what_a_call_returned_from_is_on_the_disk(ledger: Ledger, tmp_path: Path) -> None:
    attempt = ledger.submitted(_intend(ledger), "job1")
    with sqlite3.connect(tmp_path / LEDGER_FILE) as other:
        assert other.execute("SELECT state, job, seed FROM attempts").fetchall() == [
            ("submitted", "job1", attempt.seed)
        ]
        assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    other.close()
    assert ledger._base.execute("PRAGMA synchronous").fetchone()[0] == 2


def test_one_image_has_one_living_attempt(ledger: Ledger) -> None:
    first = _intend(ledger)
    with pytest.raises(sqlite3.IntegrityError):
        _intend(ledger)
    ledger.absent(first)
    assert _intend(ledger).id != first.id


def test_a_job_belongs_to_one_attempt_only(ledger: Ledger) -> None:
    ledger.submitted(_intend(ledger, "a"), "job1")
    other = _intend(ledger, "b")
    with pytest.raises(Taken):
        ledger.submitted(other, "job1")
    assert ledger.live("b") == other


def test_a_state_moves_on_from_the_known_one_only(ledger: Ledger) -> None:
    attempt = _intend(ledger)
    ledger.submitted(attempt, "job1")
    with pytest.raises(RuntimeError, match="no longer intent"):
        ledger.absent(attempt)
    assert ledger.live("a") is not None


def test_seeds_are_fresh_within_the_range_of_the_provider(tmp_path: Path) -> None:
    small = Ledger(tmp_path / LEDGER_FILE, provider="fake", remote=True, max_seed=12)
    seeds = {_intend(small, f"k{n}").seed for n in range(10)}
    assert len(seeds) == 10
    assert seeds <= set(range(1, 13))
    small.close()


def test_the_budget_counts_spent_and_reserved_to_the_last_cent(ledger: Ledger) -> None:
    done = ledger.submitted(_intend(ledger, "a", budget_usd=0.12), "1")
    ledger.done(ledger.fetched(done, b"image"))
    second = _intend(ledger, "b", budget_usd=0.12)
    third = _intend(ledger, "c", budget_usd=0.12)
    assert ledger.spent() == 120_000
    with pytest.raises(PolicyRefused, match=r"\$0\.12"):
        _intend(ledger, "d", budget_usd=0.12)
    assert ledger.attempts("d") == ()
    ledger.release(second)
    with pytest.raises(PolicyRefused):
        ledger.renew(ledger.attempts("b")[0], budget_usd=0.11)
    ledger.failed(third, message="no", billed=False)
    assert ledger.spent() == 40_000
    ledger.failed(_intend(ledger, "d"), message="who knows", billed=None)
    assert ledger.spent() == 80_000


def test_the_image_stays_until_it_is_done(ledger: Ledger) -> None:
    fetched = ledger.fetched(ledger.submitted(_intend(ledger), "1"), b"\xff\xd8 image")
    assert ledger.image(fetched) == b"\xff\xd8 image"
    done = ledger.done(fetched)
    assert ledger.image(done) is None
    assert (done.state, done.cost) == ("done", 40_000)


def test_many_threads_share_it(ledger: Ledger) -> None:
    errors: list[BaseException] = []

    def work(name: str) -> None:
        try:
            for n in range(5):
                attempt = ledger.submitted(_intend(ledger, f"{name}{n}"), f"job-{name}{n}")
                ledger.done(ledger.fetched(attempt, b"x" * 1000))
        except BaseException as error:  # noqa: BLE001 - shown by the assertion below
            errors.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcdefgh"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert {past.state for past in ledger.everything()} == {"done"}
    assert len(ledger.everything()) == 40


@pytest.mark.parametrize(
    "content", [b"this is no database at all, but long enough", b"SQLite format 3\0" * 40]
)
def test_a_damaged_ledger_is_refused_not_begun_anew(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / LEDGER_FILE
    path.write_bytes(content)
    with pytest.raises(FileError, match="damaged") as caught:
        Ledger(path, provider="fake", remote=True)
    assert caught.value.remedy
    assert path.read_bytes() == content


def test_a_ledger_of_another_version_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / LEDGER_FILE) as other:
        other.execute("PRAGMA user_version = 99")
    other.close()
    with pytest.raises(FileError, match="version 99"):
        Ledger(tmp_path / LEDGER_FILE, provider="fake", remote=True)


def test_lost_images_wait_for_a_word_and_stay_in_the_sum(ledger: Ledger) -> None:
    ledger.lost(_intend(ledger), "gone")
    with pytest.raises(GaveUp, match="--pay-again"):
        next_rung(ledger.attempts("a"), run=ledger.run)
    ledger.forgo()
    assert next_rung(ledger.attempts("a"), run=ledger.run) == 0
    assert ledger.spent() == 40_000


def test_faults_count_for_this_run_flags_for_all(ledger: Ledger) -> None:
    for _ in range(2):
        ledger.failed(_intend(ledger), message="broke", transient=True)
    assert next_rung(ledger.attempts("a"), run=ledger.run) == 0
    ledger.failed(_intend(ledger), message="broke", transient=True)
    with pytest.raises(GaveUp, match="broke"):
        next_rung(ledger.attempts("a"), run=ledger.run)
    assert next_rung(ledger.attempts("a"), run=ledger.run + 1) == 0
    for rung in range(3):
        assert next_rung(ledger.attempts("b"), run=ledger.run + rung) == rung
        ledger.failed(_intend(ledger, "b", rung=rung), message="no", flagged=True)
    with pytest.raises(GaveUp, match="skipped"):
        next_rung(ledger.attempts("b"), run=ledger.run + 9)


def test_softer_words_keep_the_medium_and_say_how_harmless_they_are() -> None:
    prompt = "Woodcut of the man running in a Dark alley. Bold carved lines."
    soft = soften(prompt)
    assert soft.startswith("Woodcut of the man walking briskly in a Dim side street. Bold carved lines.")
    assert "fully clothed" in soft


def test_waits_follow_the_scale_and_stay_within_their_jitter() -> None:
    pace = Pace(scale=0.02)
    polls = [pace.next_poll() for _ in range(200)]
    assert 0.02 * 1.2 <= min(polls) < max(polls) <= 0.02 * 1.8
    assert pace.real(4) == pytest.approx(0.08)
    assert max(pace.backoff(50) for _ in range(50)) <= 0.02 * 30 * 1.2
