"""Black Forest Labs' API, spoken by a server on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from contract.image_editor import ImageEditorContract, picture_size
from servers.bfl import KEY, FakeBfl
from talent_factory.core.errors import (
    ProviderBusy,
    ProviderError,
    ProviderRefused,
    ProviderUnreachable,
    ResultExpired,
    SubmitUnknown,
)
from talent_factory.providers.bfl import BflEditor
from talent_factory.providers.catalog import make_editor
from talent_factory.providers.port import EditRequest, ImageEditor, JobStatus
from unit.providers.portraits import character


@pytest.fixture
def server() -> Iterator[FakeBfl]:
    with FakeBfl() as server:
        yield server


@pytest.fixture
def portrait(tmp_path: Path) -> Path:
    path = tmp_path / "portrait.png"
    Image.fromarray(character(64)).save(path)
    return path


def editor_of(server: FakeBfl, **settings: str) -> BflEditor:
    return BflEditor(key=KEY, base_url=server.url, **settings)


def ask(portrait: Path, **changes: object) -> EditRequest:
    facts: dict[str, object] = {"portrait": portrait, "slot": "one", "medium": "manga", "seed": 3}
    return EditRequest.model_validate(facts | {"prompt": "manga, a street", "long_side": 128} | changes)


def finish(editor: ImageEditor, job: str) -> JobStatus:
    while (status := editor.poll(job)).state in ("queued", "running"):
        pass
    return status


class TestBfl(ImageEditorContract):
    keys = (KEY,)

    @pytest.fixture
    def editor(self, server: FakeBfl) -> ImageEditor:
        return editor_of(server, model="flux-kontext-pro")

    @pytest.fixture
    def portrait(self, portrait: Path) -> Path:
        return portrait


class TestFlux2(TestBfl):
    @pytest.fixture
    def editor(self, server: FakeBfl) -> ImageEditor:
        return editor_of(server)

    @pytest.fixture
    def request_1(self, portrait: Path) -> EditRequest:
        return ask(portrait, seed=11, long_side=256, slot="first")


def test_the_two_families_are_asked_in_their_own_words(server: FakeBfl, portrait: Path) -> None:
    request = ask(portrait, long_side=1360)
    kontext = editor_of(server, model="flux-kontext-pro").payload(request)
    flux2 = editor_of(server).payload(request)
    bodies = kontext["body"], flux2["body"]
    assert all(isinstance(body, dict) for body in bodies)
    assert bodies[0]["aspect_ratio"] == "16:9"  # type: ignore[index]
    assert bodies[0]["safety_tolerance"] == 6  # type: ignore[index]
    assert (bodies[1]["width"], bodies[1]["height"]) == (1280, 720)  # type: ignore[index]
    assert flux2["clamped"] == {"safety_tolerance": {"requested": 6, "sent": 5}}
    assert kontext["clamped"] == {}


def test_the_key_goes_to_the_api_and_not_with_downloads_from_elsewhere(
    server: FakeBfl, portrait: Path
) -> None:
    editor = editor_of(server)
    job = editor.submit(ask(portrait))
    assert finish(editor, job).state == "succeeded"
    with FakeBfl() as elsewhere:
        elsewhere.jobs = server.jobs
        editor._samples[job] = f"{elsewhere.url}/delivery/{job.partition('@')[0]}/sample.jpeg"
        assert picture_size(editor.fetch(job)) == (128, 64)
        assert "x-key" not in elsewhere.downloads[0]


def test_a_job_is_polled_from_another_process(server: FakeBfl, portrait: Path) -> None:
    job = editor_of(server).submit(ask(portrait))
    other = editor_of(server)
    assert finish(other, job).state == "succeeded"
    assert picture_size(other.fetch(job)) == (128, 64)
    assert other.find(3) is None  # the API lists nothing
    assert not other.capabilities().recoverable
    assert other.capabilities().resumable


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        ("402", ProviderRefused, "add credit"),
        ("403", ProviderRefused, "BFL_API_KEY"),
        ("422", ProviderRefused, "Refused"),
        ("429", ProviderBusy, "wait 3 s"),
        ("html", ProviderError, "web page"),
        ("500-before", SubmitUnknown, "lost"),
        ("500-after", SubmitUnknown, "lost"),
        ("reset-before", SubmitUnknown, "lost"),
        ("reset-after", SubmitUnknown, "lost"),
        ("strange-host", SubmitUnknown, "named no job"),
    ],
)
def test_refusals_and_lost_answers(
    fault: str, kind: type[ProviderError], words: str, server: FakeBfl, portrait: Path
) -> None:
    server.faults.plan("submit", fault)
    editor = editor_of(server)
    with pytest.raises(kind) as caught:
        editor.submit(ask(portrait))
    assert words in str(caught.value)
    assert KEY not in str(caught.value)
    assert editor.find(3) is None


def test_a_job_without_a_polling_address_is_polled_where_it_was_made(server: FakeBfl, portrait: Path) -> None:
    server.faults.plan("submit", "no-polling-url")
    editor = editor_of(server)
    assert finish(editor, editor.submit(ask(portrait))).state == "succeeded"


@pytest.mark.parametrize(
    ("fate", "code", "flagged", "billed"),
    [
        ("moderated-request", "request-moderated", True, False),
        ("moderated-content", "content-moderated", True, True),
        ("error", "error", False, None),
        ("no-output", "no-output", False, None),
    ],
)
def test_jobs_that_fail_say_why(
    fate: str, code: str, flagged: bool, billed: bool | None, server: FakeBfl, portrait: Path
) -> None:
    server.faults.plan("submit", fate)
    editor = editor_of(server)
    job = editor.submit(ask(portrait))
    status = finish(editor, job)
    assert (status.state, status.code, status.flagged, status.billed) == ("failed", code, flagged, billed)
    with pytest.raises(ProviderError):
        editor.fetch(job)


@pytest.mark.parametrize("fault", ["500", "reset", "odd"])
def test_a_poll_that_fails_may_be_repeated(fault: str, server: FakeBfl, portrait: Path) -> None:
    editor = editor_of(server)
    job = editor.submit(ask(portrait))
    server.faults.plan("poll", fault)
    with pytest.raises(ProviderUnreachable):
        editor.poll(job)
    assert finish(editor, job).state == "succeeded"


def test_a_job_that_is_gone_has_expired(server: FakeBfl, portrait: Path) -> None:
    editor = editor_of(server)
    job = editor.submit(ask(portrait))
    server.jobs.clear()
    with pytest.raises(ResultExpired, match="ten minutes"):
        editor.poll(job)


def test_a_download_that_fails_keeps_the_job(server: FakeBfl, portrait: Path) -> None:
    editor = editor_of(server)
    job = editor.submit(ask(portrait))
    finish(editor, job)
    server.faults.plan("download", "truncated")
    with pytest.raises(ProviderUnreachable):
        editor.fetch(job)
    assert picture_size(editor.fetch(job)) == (128, 64)


def test_jobs_of_other_hosts_are_never_asked_with_our_key(server: FakeBfl) -> None:
    editor = editor_of(server)
    for job in ("abc@elsewhere.example", "abc@api.bfl.ai.example", "../x@127.0.0.1", "abc"):
        for call in (editor.poll, editor.fetch, editor.cancel):
            with pytest.raises(ProviderError):
                call(job)
    assert not server.counts


def test_only_the_makers_own_regions_are_followed() -> None:
    editor = BflEditor(key=KEY)
    for host, ours in {
        "api.bfl.ai": True,
        "api.us1.bfl.ai": True,
        "api.eu.bfl.ai": True,
        "bfl.ai.example": False,
        "api.bfl.ai:8080": False,
        "evil-api.bfl.ai": False,
    }.items():
        assert editor._is_ours(host) is ours, host


def test_no_key_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BFL_API_KEY", raising=False)
    with pytest.raises(ProviderRefused, match="BFL_API_KEY is not set"):
        make_editor("bfl")
