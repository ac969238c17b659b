"""`talent cast` with a provider that costs money: price, consent, budget, refusals, signals, going on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cast_maker import write_face
from pipeline_maker import write_recipe
from servers.loopback import Exchange, Loopback
from servers.replicate import TOKEN, Behaviour, FakeReplicate
from servers.s3 import BUCKET, moto_server
from talent_factory.cli.app import run

Talent = Callable[..., tuple[int, Any, str]]
# one real second is a thousand of ours
SCALE = 0.001
NEVER = Behaviour(after_polls=10**9)
# at SCALE a job is given up after 1.8 s, which a busy machine lets pass between two looks; here after 90 s
PATIENT = ("--time-scale", "0.05")

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


@pytest.fixture
def server() -> Iterator[FakeReplicate]:
    with FakeReplicate(Behaviour(time_scale=SCALE)) as server:
        yield server


@pytest.fixture
def talent(
    server: FakeReplicate,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Iterator[Talent]:
    """Run `talent ... --json` in an empty folder, against the server; exit code, document, stderr."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("AWS_", "REPLICATE_", "FAL_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("REPLICATE_BASE_URL", server.url)
    monkeypatch.setenv("REPLICATE_API_TOKEN", TOKEN)

    def call(*words: str | Path, as_json: bool = True) -> tuple[int, Any, str]:
        code = run([*map(str, words), *(["--json"] if as_json else [])])
        out, err = capfd.readouterr()
        assert TOKEN not in out + err
        return code, json.loads(out) if as_json else out, err

    with open(os.devnull) as nobody:
        monkeypatch.setattr("sys.stdin", nobody)
        yield call


@pytest.fixture
def words(tmp_path: Path) -> tuple[str, ...]:
    """A cast of three images by Replicate."""
    write_recipe(tmp_path / "three.toml")
    portrait = write_face(tmp_path / "face.png", (96, 96))
    return (
        *("cast", "actor", str(portrait), "--token", "dot", "--recipe", str(tmp_path / "three.toml")),
        *("--provider", "replicate", "--time-scale", str(SCALE), "--long-side", "128"),
    )


def test_nothing_is_asked_for_before_somebody_agrees_to_the_price(
    talent: Talent, words: tuple[str, ...], server: FakeReplicate, tmp_path: Path
) -> None:
    code, document, err = talent(*words)
    assert code == 2
    assert "3 images by replicate flux-kontext-pro cost about $0.12" in document["error"]["message"]
    assert "--yes" in document["error"]["remedy"]
    assert len(err.splitlines()) == 2
    assert not server.events
    assert not (tmp_path / "casts").exists()
    code, plan, _ = talent(*words, "--estimate")
    assert code == 0
    assert plan["totals"]["cost_usd"] == pytest.approx(0.12)
    assert plan["quote"]["cost_usd"] == pytest.approx(0.12)
    assert not server.events


def test_a_cast_is_paid_once_and_says_what_it_cost(
    talent: Talent, words: tuple[str, ...], server: FakeReplicate, tmp_path: Path
) -> None:
    code, made, err = talent(*words, "--yes")
    assert (code, made["total_training_images"], made["model"]) == (0, 3, "flux-kontext-pro")
    assert made["spent_usd"] == pytest.approx(0.12)
    assert "$0.12" in err
    # nothing is left to pay, so nobody has to agree
    again = talent(*words)
    assert (again[0], again[1]) == (0, made)
    assert sorted(server.paid().values()) == [1, 1, 1]
    code, view, _ = talent("cast", "show", "dot")
    assert (code, view["done"], view["finished"], view["open"]) == (0, 3, True, [])
    assert view["spent_usd"] == pytest.approx(0.12)
    code, text, _ = talent("cast", "show", "dot", as_json=False)
    assert "3 of 3 images" in text
    assert "spent: $0.12" in text
    everything = b"".join(path.read_bytes() for path in (tmp_path / "casts").rglob("*") if path.is_file())
    assert TOKEN.encode() not in everything


@posix_only
@pytest.mark.parametrize(("answer", "code", "paid"), [("n\n", 130, 0), ("y\n", 0, 3)])
def test_on_a_terminal_the_user_is_asked(
    talent: Talent, words: tuple[str, ...], server: FakeReplicate, answer: str, code: int, paid: int
) -> None:
    ours, theirs = os.openpty()
    try:
        os.write(ours, answer.encode())
        command = [sys.executable, "-m", "talent_factory.cli.app", *words, "--json"]
        done = subprocess.run(command, stdin=theirs, capture_output=True, text=True, check=False)
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == code, done.stderr
    assert "cost about $0.12" in done.stderr
    json.loads(done.stdout)
    assert len(server.paid()) == paid


def test_the_budget_holds_over_runs_and_resume_may_raise_it(
    talent: Talent, words: tuple[str, ...], server: FakeReplicate
) -> None:
    code, document, _ = talent(*words, "--yes", "--budget", "0.10")
    assert code == 3
    assert "budget of $0.10" in document["error"]["message"]
    assert "2 of 3 images" in document["error"]["message"]
    assert len(server.paid()) == 2
    # the order keeps its budget
    assert talent("cast", "resume", "dot", "--yes")[0] == 3
    assert len(server.paid()) == 2
    code, document, _ = talent("cast", "resume", "--budget", "0.12")
    assert (code, "1 image by replicate" in document["error"]["message"]) == (2, True)
    code, made, _ = talent("cast", "resume", "--budget", "0.12", "--yes")
    assert (code, made["total_training_images"]) == (0, 3)
    assert sorted(server.paid().values()) == [1, 1, 1]
    assert talent("cast", "resume")[0] == 2  # nothing is unfinished


def test_of_more_images_the_best_are_kept_and_only_their_addresses_told(
    talent: Talent, words: tuple[str, ...], server: FakeReplicate, tmp_path: Path
) -> None:
    more = ("--count", "4", "--keep", "3", "--store", str(tmp_path / "store"), "--actor-id", "kai")
    code, made, _ = talent(*words, *more, "--yes", "--set", "safety_tolerance=1")
    assert (code, made["total_training_images"], made["target_training_images"]) == (0, 3, 3)
    assert len(made["training_image_urls"]) == len(made["images"]) == 3
    assert len(server.paid()) == 4
    assert {job.input["safety_tolerance"] for job in server.jobs.values()} == {1}
    assert len(list((tmp_path / "store" / "local" / "custom-actors" / "kai").rglob("*.jpg"))) == 3
    # ended between the last image and its checks: unfinished, and nothing is to pay
    manifest = tmp_path / "casts" / "dot" / "cast.json"
    cast = json.loads(manifest.read_text())
    manifest.write_text(
        json.dumps(cast | {"slots": [slot | {"checks": [], "kept": True} for slot in cast["slots"]]})
    )
    assert talent("cast", "show", "dot")[1]["finished"] is False
    assert talent("cast", "resume")[1] == made
    assert talent("cast", "show", "dot")[1]["finished"] is True


def test_without_a_key_there_is_one_line_and_still_an_estimate(
    talent: Talent, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("REPLICATE_API_TOKEN")
    code, document, err = talent(*words, "--yes")
    assert code == 3
    assert "REPLICATE_API_TOKEN is not set" in document["error"]["message"]
    assert "https://replicate.com/account/api-tokens" in document["error"]["remedy"]
    assert len(err.splitlines()) == 2
    assert talent(*words, "--estimate")[1]["quote"]["todo"] == 3
    assert _keys(talent)["replicate"] == "missing"
    (tmp_path / ".env").write_text(f"REPLICATE_API_TOKEN={TOKEN}\n")
    assert _keys(talent)["replicate"] == "set"
    assert talent(*words, "--yes")[0] == 0


def _keys(talent: Talent) -> dict[str, str]:
    rows = talent("cast", "providers")[1]["providers"]
    assert {row["provider"] for row in rows} >= {"embedded", "replicate", "fal", "comfyui", "diffusers"}
    assert all(row["as_of"] for row in rows if row["price_usd"])
    text = talent("cast", "providers", as_json=False)[1]
    assert "flux-kontext-pro" in text
    return {row["provider"]: row["key"] for row in rows}


@pytest.mark.parametrize(("fault", "says"), [("402", "credit"), ("401", "token"), ("422", "strange")])
def test_a_refusal_stops_the_run_and_keeps_what_was_made(
    talent: Talent, words: tuple[str, ...], server: FakeReplicate, fault: str, says: str
) -> None:
    server.faults.plan("submit", "ok", *[fault] * 9)
    code, document, err = talent(*words, "--yes", "--in-flight", "1")
    assert code == 3
    assert says in document["error"]["message"]
    assert "1 of 3 images" in document["error"]["message"]
    assert document["error"]["remedy"]
    assert err.splitlines()[-2].startswith("error: ")
    assert len(server.paid()) == 1
    server.faults = type(server.faults)()
    assert talent("cast", "resume", "dot", "--yes")[0] == 0
    assert sorted(server.paid().values()) == [1, 1, 1]


def test_web_pages_instead_of_answers_lose_nothing(
    talent: Talent, words: tuple[str, ...], server: FakeReplicate
) -> None:
    server.faults.plan("submit", "html", "reset-after", "garbage")
    server.faults.plan("poll", "html")
    server.faults.plan("download", "not-image", "truncated")
    code, made, _ = talent(*words, "--yes")
    assert (code, len(made["failed"])) == (3, 1)
    assert "web page instead of JSON" in made["failed"][0]["message"]
    assert talent("cast", "resume", "--yes")[0] == 0
    assert sorted(server.paid().values()) == [1, 1, 1]


def test_a_server_of_web_pages_is_told_in_one_line(
    talent: Talent, words: tuple[str, ...], server: FakeReplicate
) -> None:
    server.faults.rates = {"submit:html": 1.0}
    code, document, err = talent("--quiet", *words, "--yes")
    assert code == 1
    assert document["error"]["remedy"]
    assert len(err.splitlines()) == 2
    assert not server.paid()


def test_what_the_filter_refuses_is_skipped_and_paid_again_only_when_told(
    talent: Talent, words: tuple[str, ...], server: FakeReplicate
) -> None:
    server.faults.plan("submit", "E005", "E005", "E005")
    code, made, _ = talent(*words, "--yes", "--in-flight", "1")
    assert (code, len(made["failed"])) == (3, 1)
    assert "safety filter" in made["failed"][0]["message"]
    before = sum(server.paid().values())
    # it is given up, so there is nothing to agree to
    assert talent("cast", "resume", "dot")[0] == 3
    assert sum(server.paid().values()) == before
    code, document, _ = talent("cast", "resume", "dot", "--pay-again")
    assert (code, "1 image by replicate" in document["error"]["message"]) == (2, True)
    assert talent("cast", "resume", "dot", "--pay-again", "--yes")[0] == 0
    assert sum(server.paid().values()) == before + 1


class Running:
    """`talent` in a process of its own."""

    def __init__(self, words: tuple[str, ...], tmp_path: Path) -> None:
        self._errors = tmp_path / "stderr.txt"
        with open(self._errors, "w") as stream:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "talent_factory.cli.app", *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stream,
            )

    def until(self, what: Callable[[], bool]) -> None:
        """Wait for something that the process brings about."""
        for _ in range(6000):
            if what():
                return
            assert self._process.poll() is None, self.errors
            time.sleep(0.02)
        pytest.fail(f"it never came: {self.errors}")

    def send(self, number: int) -> None:
        self._process.send_signal(number)

    def end(self) -> int:
        return self._process.wait(timeout=120)

    @property
    def errors(self) -> str:
        return self._errors.read_text()


@posix_only
def test_the_first_ctrl_c_waits_for_what_is_paid(
    talent: Talent, words: tuple[str, ...], server: FakeReplicate, tmp_path: Path
) -> None:
    server.behaviour = NEVER
    running = Running((*words, *PATIENT, "--yes", "--in-flight", "2"), tmp_path)
    running.until(lambda: len(server.paid()) == 2)
    running.send(signal.SIGINT)
    running.until(lambda: "Ctrl-C again leaves at once" in running.errors)
    # the window looks at the wish five times a second: give it seconds, counted in its own polls
    first = next(iter(server.jobs.values()))
    seen = first.polls
    running.until(lambda: first.polls > seen + 40)
    server.behaviour = Behaviour(time_scale=SCALE)
    assert running.end() == 130
    assert "2 of 3 images" in running.errors
    assert len(server.paid()) == 2
    assert talent("cast", "resume", "--yes")[1]["total_training_images"] == 3
    assert sorted(server.paid().values()) == [1, 1, 1]


@posix_only
@pytest.mark.parametrize("end", ["interrupt twice", "kill"])
def test_jobs_left_behind_are_shown_and_collected_without_paying_again(
    talent: Talent, words: tuple[str, ...], server: FakeReplicate, tmp_path: Path, end: str
) -> None:
    server.behaviour = NEVER
    running = Running((*words, *PATIENT, "--yes"), tmp_path)
    # polled: so the ids are in the ledger
    running.until(lambda: len(server.paid()) == 3 and all(job.polls for job in server.jobs.values()))
    # one may look while another process works
    assert len(talent("cast", "show", "dot")[1]["open"]) == 3
    if end == "kill":
        running.send(signal.SIGKILL)
        assert running.end() == -signal.SIGKILL
    else:
        running.send(signal.SIGINT)
        running.until(lambda: "stopping" in running.errors)
        running.send(signal.SIGINT)
        assert running.end() == 130
        assert f"talent cast resume {tmp_path / 'casts' / 'dot'}" in running.errors
        assert "Traceback" not in running.errors
    code, view, _ = talent("cast", "show", "dot")
    assert (code, view["done"], view["finished"]) == (0, 0, False)
    assert {job["job"] for job in view["open"]} == set(server.jobs)
    assert view["reserved_usd"] == pytest.approx(0.12)
    assert "under way" in talent("cast", "show", "dot", as_json=False)[1]
    server.behaviour = Behaviour(time_scale=SCALE)
    # all is paid: nobody needs to agree
    code, made, _ = talent("cast", "resume")
    assert (code, made["total_training_images"]) == (0, 3)
    assert sorted(server.paid().values()) == [1, 1, 1]


def test_all_unfinished_sets_go_on_and_one_that_fails_stops_no_other(
    talent: Talent, words: tuple[str, ...], server: FakeReplicate, tmp_path: Path
) -> None:
    for token in ("dot", "ada", "eve"):
        changed = tuple(token if word == "dot" else word for word in words)
        assert talent(*changed, "--yes", "--budget", "0.05")[0] == 3
    (tmp_path / "casts" / "ada" / "portrait.png").unlink()
    (tmp_path / "face.png").unlink()
    code, document, _ = talent("cast", "resume")
    assert (code, "3 sets are unfinished: ada, dot, eve" in document["error"]["message"]) == (2, True)
    code, document, err = talent("cast", "resume", "--all", "--yes", "--budget", "1")
    assert code == 1
    assert [bool(cast.get("error")) for cast in document["casts"]] == [True, False, False]
    lines = err.splitlines()
    told = next(number for number, line in enumerate(lines) if line.startswith("error: ada: "))
    assert lines[told + 1] == f"next: {document['casts'][0]['error']['remedy']}"
    shown = talent("cast", "show")[1]["casts"]
    assert [(cast["token"], cast["done"]) for cast in shown] == [("ada", 1), ("dot", 3), ("eve", 3)]
    assert set(server.paid().values()) == {1}
    assert len(server.paid()) == 7


def test_images_are_delivered_to_a_store(
    talent: Talent, words: tuple[str, ...], server: FakeReplicate, monkeypatch: pytest.MonkeyPatch
) -> None:
    with moto_server() as place:
        for name, value in place.environ().items():
            monkeypatch.setenv(name, value)
        bad = talent(*words, "--yes", "--store", "s3://no-such-bucket")
        assert (bad[0], bad[1]["error"]["kind"]) == (1, "StorageError")
        odd = talent(*words, "--yes", "--store", "s3", "--user-id", "../ada")
        assert odd[0] == 2
        assert not server.events
        code, made, _ = talent(*words, "--yes", "--store", "s3", "--user-id", "ada")
        assert code == 0
        assert made["training_image_urls"] == [
            f"{place.endpoint}/{BUCKET}/ada/custom-actors/dot/training_data/actor_dot_td_{number:02d}.jpg"
            for number in (1, 2, 3)
        ]
        assert talent(*words, "--store", "s3", "--user-id", "ada")[1] == made
    # the store has gone: the images are here all the same
    code, made, _ = talent("cast", "resume", "dot", "--yes")
    assert (code, made["error"]["kind"]) == (1, "StorageError")


def test_a_portrait_may_come_from_an_address(
    talent: Talent, words: tuple[str, ...], server: FakeReplicate, tmp_path: Path
) -> None:
    data = (tmp_path / "face.png").read_bytes()

    def answer(ask: Exchange) -> None:
        if ask.path == "/face.png":
            ask.send(200, data, "image/png")
        else:
            ask.page()

    with Loopback(answer) as web:
        address = f"{web.url}/face.png?signature=SECRET"
        changed = tuple(address if word.endswith("face.png") else word for word in words)
        code, document, _ = talent(*changed, "--yes")
        assert (code, document["error"]["kind"]) == (1, "PortraitError")
        assert talent(*changed, "--yes", "--allow-local", "--budget", "0.05")[0] == 3
        page = tuple(f"{web.url}/page" if word.endswith("face.png") else word for word in words)
        code, document, _ = talent(*page, "--yes", "--allow-local", "--out", tmp_path / "other")
        assert (code, document["error"]["kind"]) == (1, "PortraitError")
        assert not (tmp_path / "other").exists()
    assert "SECRET" not in (tmp_path / "casts" / "dot" / "order.json").read_text()
    # the web may be gone by now
    assert talent("cast", "resume", "--budget", "1", "--yes")[1]["total_training_images"] == 3
    assert len(server.paid()) == 3


def test_a_style_by_single_images(talent: Talent, server: FakeReplicate, tmp_path: Path) -> None:
    picture = write_face(tmp_path / "style.png")
    words = ("cast", "style", picture, "--token", "sty", "--provider", "replicate", "--mode", "direct")
    more = ("--count", "2", "--max-sheets", "1", "--time-scale", str(SCALE))
    code, document, _ = talent(*words, *more)
    assert (code, "2 sheets by replicate" in document["error"]["message"]) == (2, True)
    assert "$0.36 at most" in document["error"]["message"]
    # soft patches of colour are found wanting, which is no reason to pay without end
    code, document, _ = talent(*words, *more, "--yes")
    paid = len(server.paid())
    assert (code, paid) == (1, 9)
    view = talent("cast", "show", "sty")[1]
    assert (view["kind"], view["target"], len(view["parts"])) == ("style", 2, paid)
    assert view["spent_usd"] == pytest.approx(0.04 * paid)
    # an actor in the same folder would mix up their images
    actor = ("cast", "actor", picture, "--token", "sty", "--long-side", "64")
    code, document, _ = talent(*actor)
    assert (code, "holds a style already" in document["error"]["message"]) == (2, True)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--provider", "replicat"), "replicat"),
        (("--provider", "replicate", "--model", "flux-9"), "flux-9"),
        (("--provider", "embedded", "--model", "flux"), "no models"),
        (("--set", "safety"), "NAME=VALUE"),
        (("--count", "2", "--keep", "3"), "keep 3 of 2"),
        (("--aspect", "wide"), "aspect"),
        (("--budget", "-1"), "budget"),
        (("--aspect", "7:5"), "makes no 7:5 pictures"),
        (("--aspect", "7:5", "--estimate"), "makes no 7:5 pictures"),
        (("--store", "ftp://there"), "ftp"),
    ],
)
def test_mistakes_cost_nothing(
    talent: Talent,
    words: tuple[str, ...],
    server: FakeReplicate,
    tmp_path: Path,
    more: tuple[str, ...],
    says: str,
) -> None:
    code, document, err = talent(*words, *more, "--yes")
    assert code == 2
    assert says in document["error"]["message"]
    assert len(err.splitlines()) == 2
    assert not server.events
    assert not (tmp_path / "casts").exists()
