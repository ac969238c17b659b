"""Replicate against a server that speaks its API on loopback and misbehaves as the real one can."""

from __future__ import annotations

import base64
import json
import logging
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import TypeVar

import pytest
from PIL import Image

from contract.image_editor import ImageEditorContract, picture_size
from servers.loopback import Faults
from servers.replicate import TOKEN, Behaviour, FakeReplicate
from talent_factory.core.errors import (
    ProviderBusy,
    ProviderError,
    ProviderRefused,
    ProviderUnreachable,
    ResultExpired,
    SubmitUnknown,
)
from talent_factory.providers.catalog import make_editor
from talent_factory.providers.port import EditRequest, ImageEditor, JobStatus
from talent_factory.providers.replicate import ReplicateEditor

T = TypeVar("T")
NOW = datetime.now(UTC)


@pytest.fixture
def portrait(tmp_path: Path) -> Path:
    path = tmp_path / "portrait.png"
    Image.effect_noise((160, 200), 60).convert("RGB").save(path)
    return path


@pytest.fixture
def server() -> Iterator[FakeReplicate]:
    with FakeReplicate(Behaviour(after_polls=2)) as server:
        yield server


def editor_of(server: FakeReplicate, **settings: object) -> ReplicateEditor:
    facts: dict[str, object] = {"token": TOKEN, "base_url": server.url}
    return ReplicateEditor(**(facts | settings))  # type: ignore[arg-type]


@pytest.fixture
def editor(server: FakeReplicate) -> ReplicateEditor:
    return editor_of(server)


def ask(portrait: Path, **changes: object) -> EditRequest:
    facts: dict[str, object] = {"portrait": portrait, "slot": "one", "medium": "manga", "seed": 3}
    return EditRequest.model_validate(facts | {"prompt": "manga, a street at night"} | changes)


def finish(editor: ImageEditor, job: str) -> JobStatus:
    while (status := editor.poll(job)).state in ("queued", "running"):
        pass
    return status


class TestReplicate(ImageEditorContract):
    keys = (TOKEN,)

    @pytest.fixture
    def editor(self, server: FakeReplicate) -> ImageEditor:
        return editor_of(server)

    @pytest.fixture
    def portrait(self, portrait: Path) -> Path:
        return portrait


class TestReplicateWithUploads(TestReplicate):
    @pytest.fixture
    def editor(self, server: FakeReplicate) -> ImageEditor:
        return editor_of(server, upload=True)


class TestFlux2OnReplicate(TestReplicate):
    @pytest.fixture
    def editor(self, server: FakeReplicate) -> ImageEditor:
        return editor_of(server, model="flux-2-pro")


# ---------------------------------------------------------------- what is sent


def test_safety_is_asked_at_six_and_sent_as_the_model_takes_it(server: FakeReplicate, portrait: Path) -> None:
    for model, taken in (("flux-kontext-pro", 2), ("flux-2-pro", 5)):
        editor = editor_of(server, model=model)
        request = ask(portrait)
        sent = server.jobs[editor.submit(request)].input
        assert sent["safety_tolerance"] == taken
        payload = editor.payload(request)
        assert payload["clamped"] == {"safety_tolerance": {"requested": 6, "sent": taken}}
    calm = ask(portrait, options={"safety_tolerance": "1"})
    assert server.jobs[editor.submit(calm)].input["safety_tolerance"] == 1
    assert editor.payload(calm)["clamped"] == {}


def test_the_payload_is_what_the_server_got(
    server: FakeReplicate, editor: ReplicateEditor, portrait: Path
) -> None:
    request = ask(portrait, aspect="4:3", options={"output_format": "png", "prompt_upsampling": "true"})
    got = server.jobs[editor.submit(request)].input
    body = editor.payload(request)["body"]
    assert isinstance(body, dict)
    sent = dict(body["input"])
    digest = sent.pop("input_image")
    assert set(digest) == {"sha256", "bytes"}
    assert str(got.pop("input_image")).startswith("data:image/png;base64,")
    assert got == sent
    assert got["prompt_upsampling"] is True
    assert got["output_format"] == "png"


def test_a_large_portrait_is_made_to_fit_once(
    server: FakeReplicate, editor: ReplicateEditor, tmp_path: Path
) -> None:
    path = tmp_path / "large.png"
    Image.effect_noise((1200, 1200), 90).convert("RGB").save(path)
    assert path.stat().st_size > 1_000_000
    first, second = (editor.submit(ask(path, seed=seed)) for seed in (1, 2))
    url = str(server.jobs[first].input["input_image"])
    assert len(url) <= 256 * 1024
    assert url == server.jobs[second].input["input_image"]
    with Image.open(BytesIO(base64.b64decode(url.partition(",")[2]))) as image:
        assert image.format == "JPEG"
        assert image.width == image.height


def test_many_threads_upload_a_portrait_once(server: FakeReplicate, portrait: Path) -> None:
    editor = editor_of(server, upload=True)
    with ThreadPoolExecutor(8) as pool:
        jobs = list(pool.map(editor.submit, [ask(portrait, seed=seed) for seed in range(16)]))
    assert len(set(jobs)) == 16
    assert list(server.files.values()) == [portrait.read_bytes()]
    assert {str(server.jobs[job].input["input_image"])[:8] for job in jobs} == {"https://"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"aspect": "7:5"}, "7:5"),
        ({"seed": 2**31}, "seeds up to 2147483647"),
        ({"prompt": " "}, "no prompt"),
        ({"options": {"steps": "4"}}, "steps"),
        ({"options": {"safety_tolerance": "many"}}, "safety_tolerance"),
    ],
)
def test_what_the_model_cannot_do_is_refused_before_anything_is_sent(
    server: FakeReplicate, portrait: Path, changes: dict[str, object], said: str
) -> None:
    editor = editor_of(server, upload=True)
    with pytest.raises(ProviderRefused, match=said):
        editor.submit(ask(portrait, **changes))
    assert not server.counts
    assert not server.files


def test_the_address_is_taken_with_and_without_its_version(
    server: FakeReplicate, portrait: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPLICATE_API_TOKEN", TOKEN)
    for tail in ("", "/", "/v1", "/v1/"):
        monkeypatch.setenv("REPLICATE_BASE_URL", server.url + tail)
        assert make_editor("replicate").submit(ask(portrait))
    assert len(server.jobs) == 4


def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(
    server: FakeReplicate, portrait: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    assert editor_of(server).submit(ask(portrait))


# ---------------------------------------------------------------- submissions that fail


@pytest.mark.parametrize("fault", ["500-before", "503-before", "reset-before", "hang-before"])
def test_a_lost_answer_without_a_job_is_unknown_and_nothing_is_found(
    server: FakeReplicate, portrait: Path, fault: str
) -> None:
    editor = impatient(server)
    server.faults.plan("submit", fault)
    with pytest.raises(SubmitUnknown, match="lost"):
        editor.submit(ask(portrait))
    assert server.counts["submit"] == 1  # never sent again by itself
    assert editor.find(3) is None
    assert not server.paid()


@pytest.mark.parametrize("fault", ["500-after", "reset-after", "hang-after", "garbage"])
def test_a_lost_answer_with_a_job_is_unknown_and_the_job_is_found(
    server: FakeReplicate, portrait: Path, fault: str
) -> None:
    editor = impatient(server)
    server.faults.plan("submit", fault)
    with pytest.raises(SubmitUnknown):
        editor.submit(ask(portrait, seed=41))
    assert server.counts["submit"] == 1
    other = editor_of(server)  # as after a restart
    job = other.find(41, since=NOW)
    assert job is not None
    assert finish(other, job).state == "succeeded"
    assert picture_size(other.fetch(job))
    assert server.paid() == {41: 1}


def impatient(server: FakeReplicate) -> ReplicateEditor:
    """An editor that gives a silent server up soon."""
    editor = editor_of(server)
    editor._http._client.timeout = 0.5
    return editor


@pytest.mark.parametrize(("fault", "wait_s"), [("429", 2.0), ("429-header", 1.0)])
def test_a_busy_server_says_how_long_to_wait(
    server: FakeReplicate, editor: ReplicateEditor, portrait: Path, fault: str, wait_s: float
) -> None:
    server.faults.plan("submit", fault)
    with pytest.raises(ProviderBusy) as caught:
        editor.submit(ask(portrait))
    assert caught.value.retry_after_s == wait_s
    assert not server.jobs
    assert editor.submit(ask(portrait))


def test_low_credit_throttles_to_six_a_minute(portrait: Path) -> None:
    with FakeReplicate(Behaviour(per_minute=6, burst=1)) as server:
        editor = editor_of(server)
        editor.submit(ask(portrait))
        with pytest.raises(ProviderBusy, match="resets in") as caught:
            editor.submit(ask(portrait, seed=4))
    assert 0 < caught.value.retry_after_s <= 10


@pytest.mark.parametrize(
    ("fault", "said", "remedy"),
    [
        ("401", "401", "REPLICATE_API_TOKEN"),
        ("402", "insufficient credit", "add credit"),
        ("422", "too strange", "change the input"),
    ],
)
def test_refusals_stop_the_cast_with_a_remedy(
    server: FakeReplicate, editor: ReplicateEditor, portrait: Path, fault: str, said: str, remedy: str
) -> None:
    server.faults.plan("submit", fault)
    with pytest.raises(ProviderRefused, match=said) as caught:
        editor.submit(ask(portrait))
    assert remedy in caught.value.remedy
    assert caught.value.exit_code == 3
    assert not server.paid()


def test_a_web_page_instead_of_json_is_said_in_one_line(
    server: FakeReplicate, editor: ReplicateEditor, portrait: Path
) -> None:
    server.faults.plan("submit", "html")
    with pytest.raises(ProviderError, match="web page instead of JSON") as caught:
        editor.submit(ask(portrait))
    assert "\n" not in caught.value.message
    assert not isinstance(caught.value, SubmitUnknown)


def test_a_server_that_is_not_there_is_unreachable(portrait: Path) -> None:
    with FakeReplicate() as gone:
        url = gone.url
    editor = ReplicateEditor(token=TOKEN, base_url=url)
    with pytest.raises(ProviderUnreachable, match=r"cannot reach Replicate at 127\.0\.0\.1"):
        editor.submit(ask(portrait))


def test_a_token_that_is_wrong_is_never_shown(
    server: FakeReplicate, portrait: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    editor = editor_of(server, token="r8_wrong_and_secret_token")
    with pytest.raises(ProviderRefused) as caught:
        editor.submit(ask(portrait))
    shown = (
        "".join(traceback.format_exception(caught.value)) + caplog.text + repr(editor) + repr(vars(editor))
    )
    assert "r8_wrong" not in shown
    assert "REPLICATE_API_TOKEN" in caught.value.remedy


def test_no_token_names_the_variable_and_the_way_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REPLICATE_API_TOKEN", raising=False)
    with pytest.raises(ProviderRefused, match="REPLICATE_API_TOKEN is not set") as caught:
        ReplicateEditor()
    assert "--provider embedded" in caught.value.remedy
    assert "replicate.com/account/api-tokens" in caught.value.remedy


# ---------------------------------------------------------------- jobs that fail


@pytest.mark.parametrize(
    ("fate", "flagged", "transient", "billed"),
    [
        ("E005", True, False, None),
        ("E1000", False, True, None),
        ("E6716", False, True, None),
        ("aborted", False, True, False),
        ("no-output", False, True, None),
    ],
)
def test_failed_jobs_say_what_may_be_done(
    server: FakeReplicate,
    editor: ReplicateEditor,
    portrait: Path,
    fate: str,
    flagged: bool,
    transient: bool,
    billed: bool | None,
) -> None:
    server.faults.plan("submit", fate)
    job = editor.submit(ask(portrait))
    status = finish(editor, job)
    assert status.state == "failed"
    assert status.code == fate
    assert (status.flagged, status.transient, status.billed) == (flagged, transient, billed)
    with pytest.raises(ProviderError):
        editor.fetch(job)


def test_a_prompt_that_is_flagged_stays_so(portrait: Path) -> None:
    with FakeReplicate(Behaviour(flagged=("forbidden",))) as server:
        editor = editor_of(server)
        for seed in (1, 2):
            assert finish(editor, editor.submit(ask(portrait, prompt="forbidden", seed=seed))).flagged
        assert finish(editor, editor.submit(ask(portrait, prompt="mild", seed=3))).state == "succeeded"


@pytest.mark.parametrize("fault", ["500", "reset"])
def test_a_poll_that_fails_may_be_repeated(
    server: FakeReplicate, editor: ReplicateEditor, portrait: Path, fault: str
) -> None:
    job = editor.submit(ask(portrait))
    server.faults.plan("poll", fault)
    with pytest.raises(ProviderUnreachable):
        editor.poll(job)
    assert finish(editor, job).state == "succeeded"


def test_a_poll_that_is_throttled_says_so(
    server: FakeReplicate, editor: ReplicateEditor, portrait: Path
) -> None:
    job = editor.submit(ask(portrait))
    server.faults.plan("poll", "429")
    with pytest.raises(ProviderBusy):
        editor.poll(job)


@pytest.mark.parametrize("job_id", ["../../account", "a/b", "", "x?y=1", "a" * 200])
def test_ids_are_checked_before_they_become_addresses(
    server: FakeReplicate, editor: ReplicateEditor, job_id: str
) -> None:
    for call in (editor.poll, editor.fetch, editor.cancel):
        with pytest.raises(ProviderError, match="is no id"):
            call(job_id)
    assert not server.counts


# ---------------------------------------------------------------- images


@pytest.mark.parametrize("fault", ["truncated", "truncated-open", "reset", "500"])
def test_an_image_cut_short_is_never_taken_for_whole(
    server: FakeReplicate, editor: ReplicateEditor, portrait: Path, fault: str
) -> None:
    job = editor.submit(ask(portrait))
    finish(editor, job)
    server.faults.plan("download", fault)
    with pytest.raises(ProviderUnreachable):
        editor.fetch(job)
    assert picture_size(editor.fetch(job)) == (192, 108)


def test_a_page_in_place_of_the_image_is_an_error(
    server: FakeReplicate, editor: ReplicateEditor, portrait: Path
) -> None:
    job = editor.submit(ask(portrait))
    finish(editor, job)
    server.faults.plan("download", "not-image")
    with pytest.raises(ProviderError, match="no PNG, JPEG or WebP"):
        editor.fetch(job)


def test_an_address_that_ran_out_is_asked_for_anew(
    server: FakeReplicate, editor: ReplicateEditor, portrait: Path
) -> None:
    job = editor.submit(ask(portrait))
    finish(editor, job)
    server.faults.plan("download", "404")
    assert picture_size(editor.fetch(job))
    server.faults.plan("download", "404", "404")
    with pytest.raises(ResultExpired):
        editor.fetch(job)


def test_an_image_that_was_removed_is_expired(portrait: Path) -> None:
    with FakeReplicate(Behaviour(retention_s=60)) as server:
        editor = editor_of(server)
        job = editor.submit(ask(portrait))
        assert finish(editor, job).state == "succeeded"
        server.skew_s = 120
        with pytest.raises(ResultExpired):
            editor.fetch(job)
        with pytest.raises(ResultExpired, match="removed"):
            editor_of(server).fetch(job)


# ---------------------------------------------------------------- jobs found again


def test_a_job_is_found_behind_many_pages_of_others(portrait: Path) -> None:
    with FakeReplicate(Behaviour(page_size=3)) as server:
        editor = editor_of(server)
        jobs = {seed: editor.submit(ask(portrait, seed=seed)) for seed in range(20)}
        assert all(editor.find(seed, since=NOW) == job for seed, job in jobs.items())
        server.counts.clear()
        assert editor.find(99, since=NOW) is None
        assert server.counts["list"] == 7


def test_a_search_stops_where_it_cannot_be_any_more(portrait: Path) -> None:
    with FakeReplicate(Behaviour(page_size=3), skew_s=-7200) as server:
        editor = editor_of(server)
        for seed in range(9):
            editor.submit(ask(portrait, seed=seed))
        server.skew_s = 0  # those are two hours old now
        editor.submit(ask(portrait, seed=9))
        assert editor.find(0) is None
        assert server.counts["list"] == 1


@pytest.mark.parametrize("skew_s", [-5400.0, 5400.0])
def test_clocks_that_differ_hide_nothing(portrait: Path, skew_s: float) -> None:
    with FakeReplicate(skew_s=skew_s) as server:
        editor = editor_of(server)
        job = editor.submit(ask(portrait))
        assert editor.find(3, since=datetime.now(UTC) - timedelta(seconds=30)) == job
        assert editor.find(3) == job


def test_another_models_job_with_the_seed_is_not_ours(server: FakeReplicate, portrait: Path) -> None:
    editor_of(server, model="flux-kontext-max").submit(ask(portrait))
    assert editor_of(server).find(3) is None


def test_a_list_that_fails_is_not_an_empty_one(
    server: FakeReplicate, editor: ReplicateEditor, portrait: Path
) -> None:
    editor.submit(ask(portrait))
    for fault in ("500", "reset"):
        server.faults.plan("list", fault)
        with pytest.raises(ProviderUnreachable):
            editor.find(3)


def test_a_list_that_lags_shows_the_job_later(portrait: Path) -> None:
    with FakeReplicate(Behaviour(listing_lag_s=30)) as server:
        editor = editor_of(server)
        job = editor.submit(ask(portrait))
        assert editor.find(3) is None
        server.skew_s = 31
        assert editor.find(3) == job


# ---------------------------------------------------------------- many at once, another process


def test_forty_threads_get_forty_images(portrait: Path) -> None:
    with FakeReplicate(Behaviour(median_s=0.05)) as server:
        editor = editor_of(server)

        def one(seed: int) -> bytes:
            job = editor.submit(ask(portrait, seed=seed))
            assert finish(editor, job).state == "succeeded"
            return editor.fetch(job)

        with ThreadPoolExecutor(40) as pool:
            images = list(pool.map(one, range(40)))
        assert len(set(images)) == 40
        assert server.paid() == dict.fromkeys(range(40), 1)
        assert server.delivered() == dict.fromkeys(range(40), 1)
        assert server.most_in_flight > 1


def test_who_does_what_the_errors_say_pays_once_for_each_image(portrait: Path) -> None:
    rates = {f"submit:{fault}": 0.08 for fault in ("reset-before", "reset-after", "500-before", "500-after")}
    rates |= {"submit:garbage": 0.08, "submit:429": 0.08, "poll:500": 0.1, "poll:reset": 0.1}
    rates |= {"list:500": 0.1, "list:reset": 0.1, "download:truncated": 0.2, "download:reset": 0.1}
    behaviour = Behaviour(after_polls=2, page_size=10, time_scale=0.001, retention_s=3_600_000)
    with FakeReplicate(behaviour, faults=Faults(seed=5, rates=rates)) as server:
        editor = editor_of(server)

        def submit(request: EditRequest) -> str:
            while True:
                try:
                    return editor.submit(request)
                except (ProviderBusy, ProviderUnreachable):
                    continue
                except SubmitUnknown:
                    job = patient(lambda: editor.find(request.seed))
                    if job is not None:
                        return job

        def one(seed: int) -> bytes:
            job = submit(ask(portrait, seed=seed))
            while patient(lambda: editor.poll(job)).state != "succeeded":
                pass
            return patient(lambda: editor.fetch(job))

        with ThreadPoolExecutor(12) as pool:
            images = list(pool.map(one, range(80)))
        assert server.paid() == dict.fromkeys(range(80), 1)
        assert len(set(images)) == 80
        assert all(picture_size(image) == (192, 108) for image in images)
        # the faults did happen: many more requests than a quiet day needs
        assert server.counts["submit"] > 90
        assert server.counts["download"] > 90


def patient(call: Callable[[], T]) -> T:
    """The outcome of what may be asked again."""
    while True:
        try:
            return call()
        except (ProviderBusy, ProviderUnreachable):
            continue


def test_the_server_outlives_its_client_in_a_process_of_its_own(portrait: Path, tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    script = Path(__file__).resolve().parents[2] / "servers" / "replicate.py"
    command = [sys.executable, str(script), "--journal", str(journal), "--median", "0"]
    command += ["--rate", "submit:reset-after=1.0", "--life", "60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            editor = ReplicateEditor(token=TOKEN, base_url=process.stdout.readline().strip())
            with pytest.raises(SubmitUnknown):
                editor.submit(ask(portrait, seed=77))
            job = editor.find(77)
            assert job is not None
            assert picture_size(editor.fetch(job))
        finally:
            process.terminate()
            assert process.wait(30) == 0
    events = [json.loads(line) for line in journal.read_text("utf-8").splitlines()]
    kept = [(event["event"], event["seed"]) for event in events if "seed" in event]
    assert kept == [("accepted", 77), ("delivered", 77)]
