"""ComfyUI as an image provider, against a server on loopback that checks workflows as ComfyUI does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from contract.image_editor import ImageEditorContract, picture_size
from servers.comfyui import FakeComfyUI
from talent_factory.core.errors import (
    ConfigError,
    ProviderError,
    ProviderRefused,
    ProviderUnreachable,
    ResultExpired,
    SubmitUnknown,
    UsageError,
)
from talent_factory.providers.comfyui import ComfyUI
from talent_factory.providers.port import EditRequest, ImageEditor
from unit.providers.portraits import character


@pytest.fixture
def server() -> Iterator[FakeComfyUI]:
    with FakeComfyUI() as server:
        yield server


@pytest.fixture
def portrait(tmp_path: Path) -> Path:
    path = tmp_path / "portrait.png"
    Image.fromarray(character(64)).save(path)
    return path


@pytest.fixture
def editor(server: FakeComfyUI) -> Iterator[ComfyUI]:
    made = ComfyUI(base_url=server.url)
    yield made
    made.close()


def ask(portrait: Path, **changes: object) -> EditRequest:
    facts: dict[str, object] = {"portrait": portrait, "slot": "one", "medium": "charcoal", "seed": 3}
    return EditRequest.model_validate(facts | {"prompt": "a charcoal drawing", "long_side": 96} | changes)


def finish(editor: ComfyUI, job: str) -> str:
    for _ in range(20):
        status = editor.poll(job)
        if status.state not in ("queued", "running"):
            return status.state
    pytest.fail("the job does not end")


class TestComfyUI(ImageEditorContract):
    @pytest.fixture
    def editor(self, editor: ComfyUI) -> ImageEditor:
        return editor

    @pytest.fixture
    def portrait(self, portrait: Path) -> Path:
        return portrait


class TestKontext(TestComfyUI):
    @pytest.fixture
    def editor(self, server: FakeComfyUI) -> Iterator[ImageEditor]:
        made = ComfyUI(base_url=server.url, model="flux-kontext-dev")
        yield made
        made.close()


def test_a_job_is_seen_waiting_running_and_done(editor: ComfyUI, portrait: Path) -> None:
    job = editor.submit(ask(portrait))
    states = [editor.poll(job).state for _ in range(3)]
    assert states == ["queued", "running", "succeeded"]


def test_the_portrait_is_uploaded_once_whoever_asks(
    editor: ComfyUI, server: FakeComfyUI, portrait: Path
) -> None:
    requests = [ask(portrait, slot=f"s{n}", seed=n) for n in range(8)]
    with ThreadPoolExecutor(8) as pool:
        jobs = set(pool.map(editor.submit, requests))
    assert len(jobs) == 8
    assert server.counts["upload"] == 1
    assert next(iter(server.inputs.values())) == portrait.read_bytes()


def test_what_is_sent_is_what_the_payload_says(editor: ComfyUI, server: FakeComfyUI, portrait: Path) -> None:
    request = ask(portrait, prompt='a "quoted" {{seed}} line', seed=2**62, aspect="3:4", long_side=1024)
    body = editor.payload(request)["body"]
    editor.submit(request)
    assert isinstance(body, dict)
    sent = next(iter(server.jobs.values())).graph
    assert sent == body["prompt"]
    texts = [node["inputs"].get("text") for node in body["prompt"].values()]
    assert 'a "quoted" {{seed}} line' in texts
    assert sent["noise"]["inputs"] == {"noise_seed": 2**62}
    assert (sent["canvas"]["inputs"]["width"], sent["canvas"]["inputs"]["height"]) == (768, 1024)


def test_a_picture_is_cut_to_its_aspect_by_another_process_too(
    editor: ComfyUI, server: FakeComfyUI, portrait: Path
) -> None:
    job = editor.submit(ask(portrait, aspect="16:9", long_side=160))
    other = ComfyUI(base_url=server.url)
    assert finish(other, job) == "succeeded"
    assert picture_size(other.fetch(job)) == (160, 90)
    other.close()


@pytest.mark.parametrize("fault", ["reset-after", "500-after", "garbage"])
def test_a_job_whose_answer_was_lost_is_found_from_another_process(
    fault: str, editor: ComfyUI, server: FakeComfyUI, portrait: Path
) -> None:
    server.faults.plan("submit", "ok", fault)
    editor.submit(ask(portrait, seed=5))
    with pytest.raises(SubmitUnknown):
        editor.submit(ask(portrait, seed=6))
    other = ComfyUI(base_url=server.url)
    job = other.find(6)
    assert job in server.jobs
    assert finish(other, str(job)) == "succeeded"
    assert other.find(6) == job  # in the history as well as in the queue
    other.close()


def test_weights_that_the_server_lacks_are_named(server: FakeComfyUI, portrait: Path, tmp_path: Path) -> None:
    workflow = tmp_path / "mine.json"
    graph = {
        "1": {
            "class_type": "UNETLoader",
            "inputs": {"unet_name": "no.safetensors", "weight_dtype": "default"},
        },
        "2": {"class_type": "LoadImage", "inputs": {"image": "{{portrait}}"}},
        "3": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 0], "text": "{{prompt}}, {{seed}}"}},
    }
    workflow.write_text(json.dumps(graph), "utf-8")
    editor = ComfyUI(base_url=server.url, workflow=workflow)
    assert editor.capabilities().model == "mine"
    with pytest.raises(ProviderRefused, match=r"UNETLoader: Value not in list: unet_name: 'no\.safetensors'"):
        editor.submit(ask(portrait))
    assert not server.jobs
    editor.close()


@pytest.mark.parametrize(
    ("fate", "code"), [("error", "RuntimeError"), ("oom", "OutOfMemoryError"), ("no-output", "no-output")]
)
def test_a_job_that_fails_says_why(
    fate: str, code: str, editor: ComfyUI, server: FakeComfyUI, portrait: Path
) -> None:
    server.faults.plan("submit", fate)
    job = editor.submit(ask(portrait))
    assert finish(editor, job) == "failed"
    assert editor.poll(job).code == code
    with pytest.raises(ProviderError, match="failed"):
        editor.fetch(job)


def test_a_running_job_is_interrupted_alone(editor: ComfyUI, server: FakeComfyUI, portrait: Path) -> None:
    server.after_polls = 6
    first, second = editor.submit(ask(portrait)), editor.submit(ask(portrait, slot="two", seed=4))
    for job in (first, second):
        editor.poll(job)
        editor.poll(job)
    editor.cancel(first)
    assert server.jobs[first].interrupted
    assert not server.jobs[second].interrupted
    assert finish(editor, second) == "succeeded"
    other = ComfyUI(base_url=server.url)
    assert other.poll(first).state == "cancelled"
    other.close()


def test_a_server_that_restarted_has_forgotten_the_job(
    editor: ComfyUI, server: FakeComfyUI, portrait: Path
) -> None:
    job = editor.submit(ask(portrait))
    server.forget()
    status = editor.poll(job)
    assert (status.state, status.code, status.transient) == ("failed", "forgotten", True)
    with pytest.raises(ProviderError, match=job):
        editor.fetch(job)


@pytest.mark.parametrize("fault", ["500", "reset"])
def test_a_question_that_got_no_answer_may_be_asked_again(
    fault: str, editor: ComfyUI, server: FakeComfyUI, portrait: Path
) -> None:
    job = editor.submit(ask(portrait))
    server.faults.plan("poll", fault)
    with pytest.raises(ProviderUnreachable):
        editor.poll(job)
    assert finish(editor, job) == "succeeded"


@pytest.mark.parametrize(
    ("fault", "kind"),
    [("truncated", ProviderUnreachable), ("reset", ProviderUnreachable), ("404", ResultExpired)],
)
def test_a_download_that_fails_keeps_the_job(
    fault: str, kind: type[ProviderError], editor: ComfyUI, server: FakeComfyUI, portrait: Path
) -> None:
    job = editor.submit(ask(portrait))
    finish(editor, job)
    server.faults.plan("download", fault)
    with pytest.raises(kind):
        editor.fetch(job)
    assert picture_size(editor.fetch(job)) == (96, 54)


def test_no_server_is_no_payment(portrait: Path) -> None:
    with FakeComfyUI() as server:
        url = server.url
    editor = ComfyUI(base_url=url)
    with pytest.raises(ProviderUnreachable, match="ComfyUI"):
        editor.submit(ask(portrait))
    editor.close()


def test_the_address_may_come_from_the_environment(
    server: FakeComfyUI, portrait: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMFYUI_URL", server.url + "/")
    editor = ComfyUI()
    assert editor.submit(ask(portrait)) in server.jobs
    editor.close()
    monkeypatch.setenv("COMFYUI_URL", "http://192.0.2.1:8188")
    with pytest.raises(UsageError, match="COMFYUI_URL"):
        ComfyUI()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("not json", "not JSON"),
        ("[]", "not JSON"),
        ('{"nodes": [], "links": []}', "API format"),
        (
            '{"1": {"class_type": "LoadImage", "inputs": {"image": "{{portrait}}"}}}',
            r"\{\{prompt\}\}, \{\{seed\}\}",
        ),
    ],
)
def test_workflows_that_cannot_work_are_refused_at_once(text: str, why: str, tmp_path: Path) -> None:
    path = tmp_path / "flow.json"
    path.write_text(text, "utf-8")
    with pytest.raises(ConfigError, match=why):
        ComfyUI(workflow=path)


def test_a_missing_workflow_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.json"):
        ComfyUI(model=str(tmp_path / "gone.json"))
