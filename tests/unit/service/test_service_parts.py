"""The parts of the service one by one: journal, queue, the worker's caution, tokens, the client's reading."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import httpx2
import pytest
from sqlalchemy.exc import OperationalError

from service_maker import IDENTITY, SOURCE, make_workspace
from talent_factory.core.errors import KitError, UsageError
from talent_factory.core.files import write_json
from talent_factory.core.workspace import Workspace
from talent_factory.service.client import FoundryClient, ServiceFault, _events
from talent_factory.service.faults import NotThere, hide, status_of
from talent_factory.service.journal import JOURNAL, Follower, Journal
from talent_factory.service.order import check_render, check_unchanged, kit_digests, named_bases
from talent_factory.service.places import images_folder, job_folder, regular_file
from talent_factory.service.queue import (
    Jobs,
    KeyTaken,
    NoSuchJob,
    ServiceBusy,
    database_url,
    prepare_database,
)
from talent_factory.service.serve import Serving, _own_names, _read_token, _sweep, _token_path
from talent_factory.service.sse import encode
from talent_factory.service.wire import Event, RenderAsk
from talent_factory.service.worker import Worker

JOB = "0" * 24
ASK = RenderAsk(kits=(IDENTITY,), prompts=("ink portrait",), steps=1)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(make_workspace(tmp_path_factory.mktemp("workspace")))


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    place = Workspace(tmp_path)
    url = database_url(place)
    prepare_database(url)
    prepare_database(url)
    opened = Jobs(place, url, limit=2)
    yield opened
    opened.close()


def test_a_story_is_followed_from_any_event_and_over_a_torn_line(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.progress("drawing", 1, 4)
    journal.progress("drawing", 2, 4)  # too soon after the first
    journal.event("preview", step=3, path="/home/someone/preview.png")
    journal.event("checkpoint", secret="kept out")
    journal.progress("drawing", 4, 4)
    follower = Follower(tmp_path)
    told = list(follower.fresh())
    assert [(event.id, event.kind) for event in told] == [(1, "progress"), (2, "preview"), (3, "progress")]
    assert told[1].data == {"step": 3}
    assert told[2].data["done"] == 4
    with open(tmp_path / JOURNAL, "ab") as stream:
        stream.write(b'{"event": "mess')
    assert list(follower.fresh()) == []
    Journal(tmp_path).message("again")
    assert [event.data for event in follower.fresh()] == [{"text": "again"}]
    assert [event.id for event in Follower(tmp_path, after=2).fresh()] == [3, 4]
    assert list(Follower(tmp_path / "nowhere").fresh()) == []


def test_what_is_no_event_in_a_story_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / JOURNAL).write_bytes(b'[]\n\xff\n{}\n{"event": "message", "text": "\xc3\xa9"}\n')
    assert [(event.id, event.data) for event in Follower(tmp_path).fresh()] == [(4, {"text": "é"})]


def test_events_survive_the_way_to_the_client() -> None:
    sent = [Event(id=1, kind="progress", data={"note": "two\nlines: é"}), Event(id=2, kind="done")]
    text = b": still here\n\n" + b"".join(encode(event) for event in sent) + b"id: 3\nevent: lost\n"
    assert list(_events(iter(text.decode().split("\n")))) == sent


class Wire:
    """A service that answers as `script` says, one line a request; time passes only here."""

    def __init__(self, script: list[str]) -> None:
        self.script, self.clock = script, 0.0

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        said = self.script.pop(0) if self.script else "gone"
        if said == "gone":
            raise httpx2.ConnectError("nobody listens", request=request)
        if said == "full":
            return httpx2.Response(503, json={"error": {"kind": "ServiceBusy", "message": "full"}})
        return httpx2.Response(200, stream=Told(self, said))

    def sleep(self, seconds: float) -> None:
        self.clock += seconds


class Told(httpx2.SyncByteStream):
    """A stream that is silent for ten minutes, tells one event, and breaks unless that was the last."""

    def __init__(self, wire: Wire, kind: str) -> None:
        self.wire, self.kind = wire, kind

    def __iter__(self) -> Iterator[bytes]:
        self.wire.clock += 600
        yield encode(Event(id=1, kind=self.kind))
        self.wire.clock += 600
        if self.kind != "done":
            raise httpx2.ReadError("cut")


def followed(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr("talent_factory.service.client.time", SimpleNamespace(
        monotonic=lambda: wire.clock, sleep=wire.sleep
    ))  # fmt: skip
    with FoundryClient("http://127.0.0.1:1") as client:
        monkeypatch.setattr(
            client, "_http", httpx2.Client(base_url="http://x", transport=httpx2.MockTransport(wire.answer))
        )
        return [event.kind for event in client.events(JOB, patience=30)]


def test_following_outlives_long_silence_and_short_absence(monkeypatch: pytest.MonkeyPatch) -> None:
    script = ["progress", "gone", "full", "progress", *["gone"] * 20, "done"]
    assert followed(Wire(script), monkeypatch) == ["progress", "progress", "done"]


def test_following_ends_when_nobody_answers_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    wire = Wire(["progress"])
    with pytest.raises(ServiceFault, match="cannot be reached"):
        followed(wire, monkeypatch)
    assert 1230 <= wire.clock <= 1235


def test_a_queue_is_bounded_and_knows_its_keys(jobs: Jobs) -> None:
    first = jobs.submit(ASK, total=1, kits={IDENTITY: "a"}, key="one")
    assert jobs.submit(ASK, total=1, kits={IDENTITY: "a"}, key="one").id == first.id
    with pytest.raises(KeyTaken, match="another request"):
        jobs.submit(ASK.model_copy(update={"steps": 2}), total=1, kits={}, key="one")
    second = jobs.submit(ASK, total=1, kits={})
    with pytest.raises(ServiceBusy, match="2 jobs wait or run") as told:
        jobs.submit(ASK, total=1, kits={})
    assert told.value.retry_after_s == 5
    assert jobs.submit(ASK, total=1, kits={IDENTITY: "a"}, key="one").id == first.id
    assert jobs.cancel(second.id).state == "cancelled"
    assert jobs.submit(ASK, total=1, kits={}).state == "queued"
    assert jobs.active() == 2
    assert [job.state for job in jobs.recent()].count("queued") == 2
    assert jobs.get(first.id).request == ASK


def test_a_job_that_is_not_there_is_told_from_a_text_that_is_no_job(jobs: Jobs) -> None:
    with pytest.raises(NoSuchJob):
        jobs.get(JOB)
    for text in ("", "../x", JOB + "\n", JOB.replace("0", "G"), "0" * 25):
        with pytest.raises(UsageError, match="no job id"):
            jobs.get(text)
    gone = jobs.outcome(JOB)
    assert gone is not None
    assert gone.state == "failed"


def test_jobs_that_ended_long_ago_are_removed_with_their_images(jobs: Jobs, tmp_path: Path) -> None:
    old, waiting = jobs.submit(ASK, total=1, kits={}), jobs.submit(ASK, total=1, kits={})
    jobs.cancel(old.id)
    images = images_folder(Workspace(tmp_path), old.id)
    images.mkdir(parents=True)
    assert jobs.forget(older_than=timedelta(days=1)) == 0
    assert images.is_dir()
    assert jobs.forget(older_than=timedelta(days=-1)) == 1
    assert not images.exists()
    assert [job.id for job in jobs.recent()] == [waiting.id]


def test_nothing_in_the_queue_is_a_pickle(jobs: Jobs, tmp_path: Path) -> None:
    jobs.submit(ASK, total=1, kits={})
    with closing(sqlite3.connect(tmp_path / "service" / "queue.sqlite")) as database:
        text = "\n".join(database.iterdump())
    assert f'"kits":["{IDENTITY}"]' in text
    assert "portable_json" in text
    assert "py_pickle" not in text


def test_a_job_of_a_later_version_is_listed_without_its_request(jobs: Jobs) -> None:
    class Later(RenderAsk):
        sparkle: int = 0

    taken = jobs.submit(Later(**ASK.model_dump(exclude_unset=True), sparkle=3), total=1, kits={})
    assert [(job.id, job.request) for job in jobs.recent()] == [(taken.id, RenderAsk())]


def test_sweeping_goes_on_after_a_database_that_was_away() -> None:
    tries: list[timedelta] = []
    told: list[str] = []
    over = threading.Event()

    class Away:
        def forget(self, *, older_than: timedelta) -> int:
            tries.append(older_than)
            raise OperationalError("SELECT 1", None, OSError("password=secret"))

    over.set()
    _sweep(cast("Jobs", Away()), 30, over, told.append)
    assert tries == [timedelta(days=30)]
    assert told == ["old jobs could not be removed (OperationalError); the next try is in an hour"]


def test_only_addresses_of_known_databases_are_taken(tmp_path: Path) -> None:
    assert database_url(Workspace(tmp_path), "postgresql://host/name") == "postgresql://host/name"
    with pytest.raises(UsageError, match="neither Postgres nor SQLite"):
        database_url(Workspace(tmp_path), "mysql://host/name")


def test_a_database_that_is_away_is_told_in_one_line_without_its_password() -> None:
    for address in ("postgresql://ada:hunter2@127.0.0.1:1/x", "postgresql://ada:hunter2/x@127.0.0.1:1/x"):
        with pytest.raises(UsageError, match="the database cannot be used") as told:
            prepare_database(address)
        assert "hunter2" not in str(told.value)
        assert "\n" not in told.value.message


def test_a_job_that_kills_its_process_is_given_up(place: Workspace) -> None:
    folder = job_folder(place, JOB)
    write_json(folder / "tries.json", {"tries": 3, "images": 0})
    order = {"ask": ASK.model_dump(mode="json", exclude_unset=True), "total": 1}
    order["kits"] = kit_digests(check_render(ASK, place=place, bases=named_bases(())))
    outcome = Worker(place, named_bases(())).run(JOB, order)
    assert outcome["state"] == "failed"
    assert "died 3 times" in outcome["message"]


def test_a_kit_that_is_gone_or_changed_is_named(place: Workspace) -> None:
    session = check_render(ASK, place=place, bases=named_bases(()))
    with pytest.raises(KitError, match=f"{IDENTITY} changed"):
        check_unchanged(session, {IDENTITY: "0" * 64})
    check_unchanged(session, kit_digests(session))


def test_what_the_asker_leaves_out_is_the_foundrys_to_choose(place: Workspace) -> None:
    session = check_render(RenderAsk(kits=(IDENTITY,)), place=place, bases=named_bases(()))
    assert session.order.shots[0].prompt == "portrait of dot_test woman, white background"
    assert session.order.size is None
    hero = check_render(RenderAsk(kits=(IDENTITY,), kind="hero"), place=place, bases=named_bases(()))
    assert hero.kind == "hero"


def test_bases_are_known_by_a_name_that_is_no_path() -> None:
    assert named_bases(()) == {"mini": "mini"}
    assert named_bases(("mini", "models/sd15", "org/xl")) == {
        "mini": "mini",
        "sd15": "models/sd15",
        "xl": "org/xl",
    }
    with pytest.raises(UsageError, match="two bases"):
        named_bases(("a/sd15", "b/sd15"))


def test_a_file_is_found_only_without_links_on_the_way(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(b"a")
    (tmp_path / "link").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "b.png").symlink_to(tmp_path / "in" / "a.png")
    assert regular_file(tmp_path, "in", "a.png") == tmp_path / "in" / "a.png"
    assert regular_file(tmp_path, "link", "a.png") is None
    assert regular_file(tmp_path, "in", "b.png") is None
    assert regular_file(tmp_path, "in") is None
    assert regular_file(tmp_path, "nowhere", "a.png") is None


def test_a_token_is_made_once_and_is_only_ours(tmp_path: Path) -> None:
    serving = Serving(place=Workspace(tmp_path), token_file=tmp_path / "token")
    path = _token_path(serving)
    assert path is not None
    first = _read_token(path)
    assert len(first) >= 40
    assert path.stat().st_mode & 0o777 == 0o600
    assert _token_path(serving) == path
    assert _read_token(path) == first
    path.write_text("short")
    with pytest.raises(UsageError, match="20 characters"):
        _read_token(path)
    assert _token_path(Serving(place=Workspace(tmp_path), auth=False)) is None


def test_names_are_checked_where_only_this_machine_may_ask() -> None:
    assert _own_names("127.0.0.1") == {"127.0.0.1", "localhost", "[::1]"}
    assert _own_names("0.0.0.0") is None


def test_faults_have_a_status_and_tell_no_path(tmp_path: Path) -> None:
    assert status_of(NotThere("x")) == 404
    assert status_of(ServiceBusy("x")) == 503
    assert status_of(KeyTaken("x")) == 409
    assert status_of(KitError("x")) == 422
    told = f"no kit in {tmp_path}/talents for /models/deep/sd15"
    shown = hide(told, Workspace(tmp_path), {"sd15": "/models/deep/sd15"})
    assert shown == "no kit in WORKSPACE/talents for sd15"


def test_without_the_extra_the_command_names_it(tmp_path: Path) -> None:
    code = (
        "import sys, importlib.util as u; f = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name in ('dbos', 'fastapi') else f(name, *a)\n"
        "from talent_factory.cli.app import run; sys.exit(run(['serve', '--port', '0']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: the service needs fastapi, dbos",
        "next: pip install 'talent-factory[service]'",
    ]
