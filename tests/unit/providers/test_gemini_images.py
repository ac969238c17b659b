"""Gemini's image models, spoken by a server on loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from contract.image_editor import ImageEditorContract, picture_size
from servers.gemini import KEY, FakeGemini
from talent_factory.core.errors import ProviderBusy, ProviderError, ProviderRefused, SubmitUnknown
from talent_factory.providers.catalog import make_editor
from talent_factory.providers.gemini_images import GeminiImages
from talent_factory.providers.port import EditRequest, ImageEditor
from unit.providers.portraits import character


@pytest.fixture
def server() -> Iterator[FakeGemini]:
    with FakeGemini() as server:
        yield server


@pytest.fixture
def portrait(tmp_path: Path) -> Path:
    path = tmp_path / "portrait.png"
    Image.fromarray(character(64)).save(path)
    return path


def editor_of(server: FakeGemini, **settings: str) -> GeminiImages:
    return GeminiImages(key=KEY, base_url=server.url, **settings)


def ask(portrait: Path, **changes: object) -> EditRequest:
    facts: dict[str, object] = {"portrait": portrait, "slot": "one", "medium": "manga", "seed": 3}
    return EditRequest.model_validate(facts | {"prompt": "manga, a street at night"} | changes)


class TestGemini(ImageEditorContract):
    keys = (KEY,)

    @pytest.fixture
    def editor(self, server: FakeGemini) -> ImageEditor:
        return editor_of(server)

    @pytest.fixture
    def portrait(self, portrait: Path) -> Path:
        return portrait


def test_what_is_sent_is_what_the_payload_says(server: FakeGemini, portrait: Path) -> None:
    editor = editor_of(server)
    request = ask(portrait, aspect="3:4", options={"image_size": "2K"})
    job = editor.submit(request)
    assert picture_size(editor.fetch(job)) == (144, 192)
    body = editor.payload(request)["body"]
    assert isinstance(body, dict)
    sent = json.loads(json.dumps(server.bodies[0]))
    digest = body["contents"][0]["parts"].pop()["inlineData"]
    picture = sent["contents"][0]["parts"].pop()["inlineData"]
    assert sent == body
    assert picture["mimeType"] == "image/png"
    assert digest["bytes"] == len(portrait.read_bytes())


@pytest.mark.parametrize(
    "changes",
    [{"aspect": "9:21"}, {"prompt": ""}, {"options": {"image_size": "8K"}}, {"options": {"x": "1"}}],
)
def test_what_the_model_cannot_do_is_refused_before_anything_is_sent(
    changes: dict[str, object], server: FakeGemini, portrait: Path
) -> None:
    with pytest.raises(ProviderRefused):
        editor_of(server).submit(ask(portrait, **changes))
    assert not server.counts


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        ("key", ProviderRefused, "GEMINI_API_KEY"),
        ("404", ProviderRefused, "not found"),
        ("429", ProviderBusy, "quota"),
        ("503", ProviderBusy, "overloaded"),
        ("html", SubmitUnknown, "lost"),
        ("reset-before", SubmitUnknown, "lost"),
        ("reset-after", SubmitUnknown, "lost"),
    ],
)
def test_what_goes_wrong_says_what_is_safe_next(
    fault: str, kind: type[ProviderError], words: str, server: FakeGemini, portrait: Path
) -> None:
    server.faults.plan("submit", fault)
    editor = editor_of(server)
    with pytest.raises(kind) as caught:
        editor.submit(ask(portrait))
    assert words in str(caught.value)
    assert KEY not in str(caught.value)
    assert editor.find(3) is None
    assert server.counts["paid"] == (fault == "reset-after")


def test_a_busy_service_says_how_long(server: FakeGemini, portrait: Path) -> None:
    server.faults.plan("submit", "429")
    with pytest.raises(ProviderBusy) as caught:
        editor_of(server).submit(ask(portrait))
    assert caught.value.retry_after_s == 34


@pytest.mark.parametrize(
    ("fault", "code", "flagged", "words"),
    [
        ("blocked", "prohibited_content", True, "without a picture"),
        ("safety", "image_safety", True, "Unable to show it"),
        ("500", "internal", False, "internal error"),
        ("text", "no-image", False, "rather describe it"),
        ("truncated", "no-image", False, ""),
    ],
)
def test_an_answer_without_a_picture_is_a_failed_job_that_says_why(
    fault: str, code: str, flagged: bool, words: str, server: FakeGemini, portrait: Path
) -> None:
    server.faults.plan("submit", fault)
    editor = editor_of(server)
    job = editor.submit(ask(portrait))
    status = editor.poll(job)
    assert (status.state, status.code, status.flagged) == ("failed", code, flagged)
    assert status.transient is not flagged
    assert words in status.message
    with pytest.raises(ProviderError):
        editor.fetch(job)


def test_a_wrong_key_is_never_shown(server: FakeGemini, portrait: Path) -> None:
    wrong = "AIzaWrong0123456789"
    editor = GeminiImages(key=wrong, base_url=server.url)
    with pytest.raises(ProviderRefused) as caught:
        editor.submit(ask(portrait))
    assert wrong not in str(caught.value)


def test_models_that_are_gone_name_the_one_that_came_after() -> None:
    with pytest.raises(ProviderRefused, match="retired gemini-3") as caught:
        make_editor("gemini", model="gemini-3.1-flash-image", key=KEY)
    assert "gemini-nano-banana-2.1" in str(caught.value)


def test_either_variable_gives_the_key(
    server: FakeGemini, portrait: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GEMINI_API_KEY", raising=False)
    monkeypatch.delenv("GOOGLE_API_KEY", raising=False)
    with pytest.raises(ProviderRefused, match="GEMINI_API_KEY is not set"):
        make_editor("gemini")
    monkeypatch.setenv("GOOGLE_API_KEY", KEY)
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", server.url + "/v1beta")
    editor = make_editor("gemini", model="gemini-3-pro-image")
    assert editor.poll(editor.submit(ask(portrait))).state == "succeeded"
    assert not editor.capabilities().recoverable
