"""The window fills every order, pays once for each image, and keeps to the retry table whatever fails."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from cast_maker import write_face
from talent_factory.core.errors import DiskFull, PolicyRefused, ProviderError, ProviderRefused
from talent_factory.core.stop import StopSignal
from talent_factory.datagen.ledger import LEDGER_FILE, Attempt, Ledger
from talent_factory.datagen.order import Deliver, Harvest, Made, Order, Picture, Terms
from talent_factory.datagen.retry import soften
from talent_factory.datagen.stamp import read_stamp
from talent_factory.datagen.window import make_images
from talent_factory.providers.fake import FakeEditor
from talent_factory.providers.port import EditRequest, ImageEditor

FAST = 0.001


@dataclass
class Place:
    """A folder to cast into and the service that outlives every run; `slots` are what is ordered."""

    root: Path
    slots: Sequence[str]

    @property
    def out(self) -> Path:
        return self.root / "out"

    def service(self, **options: object) -> FakeEditor:
        return FakeEditor(self.root / "service", **options)  # type: ignore[arg-type]

    def orders(self) -> list[Order]:
        portrait = self.root / "face.png"
        if not portrait.is_file():
            write_face(portrait)
        return [
            Order(
                key=f"key-{slot}",
                request=EditRequest(
                    portrait=portrait,
                    slot=slot,
                    medium="ink",
                    prompt=f"a dark alley, {slot}",
                    seed=n,
                    long_side=64,
                ),
                path=self.out / f"{slot}.png",
                facts={"slot": slot},
            )
            for n, slot in enumerate(self.slots)
        ]

    def run(
        self,
        editor: ImageEditor,
        *,
        stop: StopSignal | None = None,
        deliver: Deliver | None = None,
        heard: list[Made] | None = None,
        **terms: object,
    ) -> Harvest:
        self.out.mkdir(exist_ok=True)
        return make_images(
            self.orders(),
            folder=self.out,
            editor=editor,
            terms=Terms.model_validate({"time_scale": FAST, **terms}),
            stop=stop,
            on_made=heard.append if heard is not None else None,
            deliver=deliver,
        )

    def left(self, harvest: Harvest) -> None:
        """Take away what is done, as a cast would."""
        done = {made.order.request.slot for made in harvest.made if made.state == "done"}
        self.slots = [slot for slot in self.slots if slot not in done]

    def history(self) -> tuple[Attempt, ...]:
        ledger = Ledger(self.out / LEDGER_FILE, provider="fake", remote=True)
        try:
            return ledger.everything()
        finally:
            ledger.close()

    def paid(self) -> Counter[str]:
        """Jobs that gave an image, by slot."""
        return Counter(job.slot for job in self.service().jobs() if job.fate in GOOD)


GOOD = ("ok", "lost-after", "cut")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path, ["one", "two", "three", "four"])


def _faults(**words: str) -> Mapping[str, Sequence[str]]:
    return {slot: text.split() for slot, text in words.items()}


def _states(harvest: Harvest) -> list[str]:
    return [made.state for made in harvest.made]


def test_every_order_becomes_a_stamped_png_with_its_own_seed(place: Place) -> None:
    heard: list[Made] = []
    harvest = place.run(place.service(latency_s=0.01), heard=heard)
    assert _states(harvest) == ["done"] * 4
    assert harvest.stopped is None
    assert harvest.spent_usd == pytest.approx(0.16)
    assert {made.order.key for made in heard} == {order.key for order in place.orders()}
    jobs = {job.id: job for job in place.service().jobs()}
    for made in harvest.made:
        with Image.open(made.order.path) as image:
            assert (image.format, image.mode, image.size) == ("PNG", "RGB", (64, 36))
        facts = read_stamp(made.order.path)
        assert facts["key"] == made.order.key
        assert facts["seed"] == made.seed == jobs[made.job].seed != made.order.request.seed
    assert len({made.seed for made in harvest.made}) == 4
    assert {attempt.state for attempt in place.history()} == {"done"}
    assert {attempt.sent["seed"] for attempt in place.history()} == {made.seed for made in harvest.made}


def test_no_more_jobs_in_flight_than_allowed(place: Place) -> None:
    place.slots = [f"slot_{n}" for n in range(12)]
    editor = place.service(latency_s=0.02)
    place.run(editor, in_flight=3)
    # ready before the next one is accepted: at most three spans overlap at any moment
    jobs = editor.jobs()
    for job in jobs:
        overlapping = [o for o in jobs if o.accepted_at <= job.accepted_at < o.ready_at]
        assert len(overlapping) <= 3


@pytest.mark.parametrize(
    ("words", "attempts"),
    [
        ("busy ok", ["done"]),
        ("unreachable unreachable ok", ["done"]),
        ("lost-after", ["done"]),
        ("lost-before ok", ["absent", "done"]),
        ("transient transient ok", ["failed", "failed", "done"]),
        ("flagged ok", ["failed", "done"]),
        ("moderated flagged ok", ["failed", "failed", "done"]),
        ("cut", ["done"]),
    ],
    ids=str,
)
def test_a_fault_that_passes_ends_in_one_paid_image(place: Place, words: str, attempts: list[str]) -> None:
    harvest = place.run(place.service(faults=_faults(two=words)))
    assert _states(harvest) == ["done"] * 4
    assert place.paid() == dict.fromkeys(place.slots, 1)
    assert [past.state for past in place.history() if past.slot == "two"] == attempts


@pytest.mark.parametrize(
    ("words", "code", "said", "tries"),
    [
        ("flagged flagged flagged ok", "E005", "safety filter", 3),
        ("transient transient transient ok", "E1000", "it broke", 3),
        ("broken ok", "E999", "cannot be made", 1),
        ("cancelled ok", "", "cancelled", 1),
        ("expired ok", "LOST", "no longer kept", 1),
        ("lost-before lost-before lost-before ok", "UNANSWERED", "no answer", 3),
    ],
    ids=str,
)
def test_a_fault_that_stays_fails_one_slot_only(
    place: Place, words: str, code: str, said: str, tries: int
) -> None:
    harvest = place.run(place.service(faults=_faults(two=words)))
    assert _states(harvest) == ["done", "failed", "done", "done"]
    assert harvest.stopped is None
    failed = harvest.made[1]
    assert failed.code == code
    assert said in failed.error
    assert len([past for past in place.history() if past.slot == "two"]) == tries


def test_the_ladder_takes_a_new_seed_then_softer_words_and_is_not_climbed_again(place: Place) -> None:
    place.slots = ["two"]
    editor = place.service(faults=_faults(two="flagged flagged flagged ok"))
    place.run(editor)
    jobs = editor.jobs()
    assert len({job.seed for job in jobs}) == 3
    assert [job.prompt == jobs[0].prompt for job in jobs] == [True, True, False]
    assert jobs[2].prompt == soften(jobs[0].prompt)
    assert "dim side street" in jobs[2].prompt
    again = place.run(editor)
    assert _states(again) == ["failed"]
    assert len(editor.jobs()) == 3
    assert _states(place.run(editor, pay_again=True)) == ["done"]


def test_a_refused_key_stops_the_run_and_brings_home_what_is_in_flight(place: Place) -> None:
    place.slots = [f"slot_{n}" for n in range(8)]
    editor = place.service(latency_s=0.05, faults=_faults(slot_3="refused ok"))
    harvest = place.run(editor, in_flight=2)
    assert isinstance(harvest.stopped, ProviderRefused)
    assert _states(harvest)[3] == "failed"
    assert _states(harvest)[:3] == ["done"] * 3
    assert _states(harvest)[5:] == ["left"] * 3
    place.left(harvest)
    assert _states(place.run(editor)) == ["done"] * len(place.slots)
    assert all(count == 1 for count in place.paid().values())


def test_a_budget_is_never_passed_and_the_rest_follows_with_a_larger_one(place: Place) -> None:
    editor = place.service()
    harvest = place.run(editor, budget_usd=0.10, in_flight=4)
    assert isinstance(harvest.stopped, PolicyRefused)
    assert sorted(_states(harvest)) == ["done", "done", "left", "left"]
    assert harvest.spent_usd <= 0.10
    place.left(harvest)
    assert place.run(editor, budget_usd=0.16).stopped is None
    assert len(editor.jobs()) == 4


def test_the_same_failure_in_a_row_stops_the_run(place: Place) -> None:
    place.slots = [f"slot_{n}" for n in range(20)]
    editor = place.service(faults={slot: ["broken"] for slot in place.slots})
    harvest = place.run(editor, in_flight=1)
    assert isinstance(harvest.stopped, ProviderError)
    assert "in a row" in harvest.stopped.message
    assert len(editor.jobs()) == 5


def test_without_a_connection_the_run_gives_up_and_nothing_is_reserved(place: Place) -> None:
    editor = place.service(faults={slot: ["unreachable"] * 50 for slot in place.slots})
    harvest = place.run(editor)
    assert harvest.stopped is not None
    assert "no connection" in harvest.stopped.message
    assert harvest.spent_usd == 0
    assert editor.jobs() == []
    assert _states(place.run(place.service())) == ["done"] * 4


def test_a_stop_brings_home_what_is_in_flight_and_submits_nothing_more(place: Place) -> None:
    stop = StopSignal()
    place.slots = [f"slot_{n}" for n in range(6)]

    def step(word: str) -> None:
        if word == "accepted":
            stop.request()

    editor = place.service(latency_s=0.5, step=step)
    harvest = place.run(editor, stop=stop, in_flight=2)
    assert harvest.stopped is None
    assert _states(harvest).count("done") == len(editor.jobs()) == 2


def test_an_interrupt_leaves_at_once_and_the_next_run_collects(place: Place) -> None:
    accepted = threading.Semaphore(0)
    editor = place.service(
        latency_s=2.0, step=lambda word: accepted.release() if word == "accepted" else None
    )

    class _Interrupts(StopSignal):
        @property
        def requested(self) -> bool:
            for _ in range(4):
                accepted.acquire()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        place.run(editor, stop=_Interrupts())
    assert {past.state for past in place.history()} <= {"submitted", "intent"}
    later = place.service()
    assert _states(place.run(later)) == ["done"] * 4
    assert place.paid() == dict.fromkeys(place.slots, 1)


def test_an_image_deleted_from_the_disk_is_fetched_again_and_not_paid_again(place: Place) -> None:
    editor = place.service()
    first = place.run(editor)
    before = first.made[0].order.path.read_bytes()
    first.made[0].order.path.unlink()
    again = place.run(editor)
    assert _states(again) == ["done"] * 4
    assert again.made[0].order.path.read_bytes() == before
    assert len(editor.jobs()) == 4


def test_what_the_provider_no_longer_keeps_is_only_paid_again_when_told(place: Place) -> None:
    place.run(place.service())
    short = place.service(capabilities={"result_ttl_s": 0.0})
    assert {made.code for made in place.run(short).made} == {"LOST"}
    assert {made.code for made in place.run(place.service()).made} == {"LOST"}
    assert len(place.service().jobs()) == 4
    assert _states(place.run(place.service(), pay_again=True)) == ["done"] * 4
    assert len(place.service().jobs()) == 8


def test_a_provider_that_keeps_nothing_loses_what_a_killed_run_asked_for(place: Place) -> None:
    forgetful = {"recoverable": False, "resumable": False}
    place.out.mkdir()
    ledger = Ledger(place.out / LEDGER_FILE, provider="fake", remote=True)
    intents = [
        ledger.intend(key=o.key, slot=o.request.slot, seed=None, rung=0, price_usd=0.04, budget_usd=None)
        for o in place.orders()[:2]
    ]
    ledger.submitted(intents[0], "abc")
    ledger.close()
    harvest = place.run(place.service(capabilities=forgetful))
    assert [made.code for made in harvest.made] == ["LOST", "LOST", "", ""]
    assert harvest.spent_usd == pytest.approx(0.16)
    assert _states(place.run(place.service(capabilities=forgetful), pay_again=True))[:2] == ["done", "done"]


def test_delivery_is_tried_and_a_failed_one_costs_no_image(place: Place) -> None:
    delivered: list[Picture] = []

    def deliver(picture: Picture) -> str:
        if picture.key == "key-two":
            raise OSError("the store is away")
        delivered.append(picture)
        return f"https://store/{picture.sha256}"

    harvest = place.run(place.service(), deliver=deliver)
    assert _states(harvest) == ["done"] * 4
    assert harvest.made[1].url == ""
    assert "the store is away" in harvest.made[1].error
    assert harvest.made[0].url == f"https://store/{harvest.made[0].sha256}"
    assert all(picture.raw.startswith(b"\xff\xd8") and picture.sent["seed"] for picture in delivered)


def test_a_full_disk_ends_the_run_and_the_next_one_pays_nothing_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    from talent_factory.datagen import collect

    def full(path: Path, data: bytes) -> None:
        raise DiskFull("no room")

    with monkeypatch.context() as patched:
        patched.setattr(collect, "write_bytes", full)
        harvest = place.run(place.service())
    assert isinstance(harvest.stopped, DiskFull)
    assert _states(place.run(place.service())) == ["done"] * 4
    assert place.paid() == dict.fromkeys(place.slots, 1)
