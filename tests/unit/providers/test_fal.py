"""fal against a server that speaks its queue on loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from PIL import Image

from contract.image_editor import ImageEditorContract, picture_size
from servers.fal import KEY, FakeFal
from talent_factory.core.errors import (
    ProviderBusy,
    ProviderError,
    ProviderRefused,
    ProviderUnreachable,
    ResultExpired,
    SubmitUnknown,
)
from talent_factory.providers.catalog import make_editor
from talent_factory.providers.fal import FalEditor
from talent_factory.providers.port import EditRequest, ImageEditor, JobStatus
from unit.providers.portraits import character

NOW = datetime.now(UTC)


@pytest.fixture
def server() -> Iterator[FakeFal]:
    with FakeFal() as server:
        yield server


@pytest.fixture
def portrait(tmp_path: Path) -> Path:
    path = tmp_path / "portrait.png"
    Image.fromarray(character(64)).save(path)
    return path


def editor_of(server: FakeFal, **settings: str) -> FalEditor:
    return FalEditor(key=KEY, base_url=server.url, **settings)


def ask(portrait: Path, **changes: object) -> EditRequest:
    facts: dict[str, object] = {"portrait": portrait, "slot": "one", "medium": "manga", "seed": 3}
    return EditRequest.model_validate(facts | {"prompt": "manga, a street at night"} | changes)


def finish(editor: ImageEditor, job: str) -> JobStatus:
    while (status := editor.poll(job)).state in ("queued", "running"):
        pass
    return status


class TestFal(ImageEditorContract):
    keys = (KEY,)

    @pytest.fixture
    def editor(self, server: FakeFal) -> ImageEditor:
        return editor_of(server)

    @pytest.fixture
    def portrait(self, portrait: Path) -> Path:
        return portrait


class TestFlux2(TestFal):
    @pytest.fixture
    def editor(self, server: FakeFal) -> ImageEditor:
        return editor_of(server, model="flux-2-pro")

    @pytest.fixture
    def request_1(self, portrait: Path) -> EditRequest:
        return ask(portrait, seed=11, long_side=256, slot="first")


def test_a_job_waits_runs_and_is_done(server: FakeFal, portrait: Path) -> None:
    editor = editor_of(server)
    job = editor.submit(ask(portrait))
    assert [editor.poll(job).state for _ in range(3)] == ["queued", "running", "succeeded"]


def test_what_is_sent_is_what_the_payload_says(server: FakeFal, portrait: Path) -> None:
    editor = editor_of(server)
    request = ask(
        portrait, aspect="9:16", seed=2**32 - 1, options={"output_format": "png", "guidance_scale": "2.5"}
    )
    editor.submit(request)
    sent = next(iter(server.jobs.values())).input
    payload = editor.payload(request)
    assert payload["path"] == "/fal-ai/flux-pro/kontext"
    body = payload["body"]
    assert isinstance(body, dict)
    assert str(sent.pop("image_url")).startswith("data:image/png;base64,")
    body.pop("image_url")
    assert sent == body
    # this is the route that takes 6 together with an image
    assert (sent["safety_tolerance"], payload["clamped"]) == ("6", {})
    assert (sent["output_format"], sent["guidance_scale"], sent["sync_mode"]) == ("png", 2.5, False)


def test_another_model_takes_less_and_says_so(server: FakeFal, portrait: Path) -> None:
    payload = editor_of(server, model="flux-2-pro").payload(ask(portrait, long_side=1360))
    assert payload["clamped"] == {"safety_tolerance": {"requested": 6, "sent": 5}}
    body = payload["body"]
    assert isinstance(body, dict)
    assert body["image_size"] == {"width": 1280, "height": 720}
    assert isinstance(body["image_urls"], list)


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": "  "},
        {"aspect": "7:1"},
        {"seed": 2**33},
        {"options": {"steps": "9"}},
        {"options": {"safety_tolerance": "9"}},
    ],
)
def test_what_the_model_cannot_do_is_refused_before_anything_is_sent(
    changes: dict[str, object], server: FakeFal, portrait: Path
) -> None:
    with pytest.raises(ProviderRefused):
        editor_of(server).submit(ask(portrait, **changes))
    assert not server.counts


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        ("401", ProviderRefused, "FAL_KEY"),
        ("403-balance", ProviderRefused, "Exhausted balance"),
        ("429", ProviderBusy, "wait 7 s"),
        ("html", ProviderError, "web page"),
        ("500-before", SubmitUnknown, "lost"),
        ("reset-before", SubmitUnknown, "lost"),
    ],
)
def test_refusals_leave_no_job(
    fault: str, kind: type[ProviderError], words: str, server: FakeFal, portrait: Path
) -> None:
    server.faults.plan("submit", fault)
    editor = editor_of(server)
    with pytest.raises(kind) as caught:
        editor.submit(ask(portrait))
    assert words in str(caught.value)
    assert KEY not in str(caught.value)
    assert not server.jobs


@pytest.mark.parametrize("fault", ["500-after", "reset-after", "garbage"])
def test_a_job_whose_answer_was_lost_is_found_once_it_is_listed(
    fault: str, server: FakeFal, portrait: Path
) -> None:
    server.page_size = 2
    editor = editor_of(server)
    server.faults.plan("submit", fault)
    with pytest.raises(SubmitUnknown):
        editor.submit(ask(portrait, seed=5))
    lost = next(iter(server.jobs.values()))
    assert editor.find(5, since=NOW - timedelta(minutes=1)) is None  # it still runs
    lost.polls = 3
    for seed in (6, 7, 8):
        finish(editor, editor.submit(ask(portrait, seed=seed)))
    other = editor_of(server)
    job = other.find(5, since=NOW - timedelta(minutes=1))
    assert job is not None
    assert job.endswith(lost.id)
    assert other.find(7) is not None
    assert other.find(999) is None
    assert finish(other, job).state == "succeeded"
    assert picture_size(other.fetch(job)) == (96, 54)


def test_the_list_may_fail(server: FakeFal) -> None:
    server.faults.plan("list", "500")
    with pytest.raises(ProviderUnreachable):
        editor_of(server).find(5)


@pytest.mark.parametrize(
    ("fate", "code", "flagged", "transient"),
    [
        ("policy", "content_policy_violation", True, False),
        ("invalid", "value_error", False, False),
        ("runner-500", "internal_server_error", False, True),
        ("nsfw", "nsfw", True, False),
        ("no-output", "no-output", False, True),
    ],
)
def test_jobs_that_fail_say_why(
    fate: str, code: str, flagged: bool, transient: bool, server: FakeFal, portrait: Path
) -> None:
    server.faults.plan("submit", fate)
    editor = editor_of(server)
    job = editor.submit(ask(portrait))
    status = finish(editor, job)
    assert (status.state, status.code) == ("failed", code)
    assert (status.flagged, status.transient) == (flagged, transient)
    with pytest.raises(ProviderError):
        editor.fetch(job)


@pytest.mark.parametrize("fault", ["500", "reset", "odd"])
def test_a_poll_that_fails_may_be_repeated(fault: str, server: FakeFal, portrait: Path) -> None:
    editor = editor_of(server)
    job = editor.submit(ask(portrait))
    server.faults.plan("poll", fault)
    with pytest.raises(ProviderUnreachable):
        editor.poll(job)
    assert finish(editor, job).state == "succeeded"


@pytest.mark.parametrize(("fault", "kind"), [("truncated", ProviderUnreachable), ("404", ResultExpired)])
def test_a_download_that_fails_keeps_the_job(
    fault: str, kind: type[ProviderError], server: FakeFal, portrait: Path
) -> None:
    editor = editor_of(server)
    job = editor.submit(ask(portrait))
    finish(editor, job)
    server.faults.plan("download", fault)
    with pytest.raises(kind):
        editor.fetch(job)
    assert picture_size(editor.fetch(job)) == (96, 54)


def test_a_job_that_another_process_gave_up_is_cancelled(server: FakeFal, portrait: Path) -> None:
    first = editor_of(server)
    job = first.submit(ask(portrait))
    first.cancel(job)
    assert editor_of(server).poll(job).state == "cancelled"
    done = first.submit(ask(portrait, seed=4))
    finish(first, done)
    first.cancel(done)  # too late, and no error
    with pytest.raises(ProviderError):
        first.fetch(done)


@pytest.mark.parametrize("job", ["../../v1/models", "a/b/requests/../c", "a/b/requests/", "x y/b/requests/c"])
def test_ids_are_checked_before_they_become_addresses(job: str, server: FakeFal) -> None:
    editor = editor_of(server)
    for call in (editor.poll, editor.fetch, editor.cancel):
        with pytest.raises(ProviderError, match="no id"):
            call(job)
    assert not server.counts


def test_no_key_names_the_variable(monkeypatch: pytest.MonkeyPatch, server: FakeFal) -> None:
    monkeypatch.delenv("FAL_KEY", raising=False)
    with pytest.raises(ProviderRefused, match="FAL_KEY is not set"):
        make_editor("fal", base_url=server.url)
    monkeypatch.setenv("FAL_KEY", KEY)
    monkeypatch.setenv("FAL_BASE_URL", server.url)
    editor = make_editor("fal")
    assert editor.name == "fal"
    assert KEY not in json.dumps(editor.capabilities().model_dump(mode="json"))
