"""OpenAI's image edits, spoken by a server on loopback."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from contract.image_editor import ImageEditorContract, picture_size
from servers.openai import KEY, FakeOpenAI
from talent_factory.core.errors import (
    ContentFlagged,
    ProviderBusy,
    ProviderError,
    ProviderRefused,
    SubmitUnknown,
)
from talent_factory.providers.catalog import make_editor
from talent_factory.providers.openai_images import OpenAIImages, free_size
from talent_factory.providers.port import EditRequest, ImageEditor
from unit.providers.portraits import character


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI() as server:
        yield server


@pytest.fixture
def portrait(tmp_path: Path) -> Path:
    path = tmp_path / "portrait.png"
    Image.fromarray(character(64)).save(path)
    return path


def editor_of(server: FakeOpenAI, **settings: str) -> OpenAIImages:
    return OpenAIImages(key=KEY, base_url=server.url, **settings)


def ask(portrait: Path, **changes: object) -> EditRequest:
    facts: dict[str, object] = {"portrait": portrait, "slot": "one", "medium": "manga", "seed": 3}
    return EditRequest.model_validate(facts | {"prompt": "manga, a street at night"} | changes)


class TestOpenAI(ImageEditorContract):
    keys = (KEY,)

    @pytest.fixture
    def editor(self, server: FakeOpenAI) -> ImageEditor:
        return editor_of(server)

    @pytest.fixture
    def portrait(self, portrait: Path) -> Path:
        return portrait


class TestFixedSizes(TestOpenAI):
    @pytest.fixture
    def editor(self, server: FakeOpenAI) -> ImageEditor:
        return editor_of(server, model="gpt-image-1.5")


def test_models_with_three_sizes_are_cut_to_the_aspect(server: FakeOpenAI, portrait: Path) -> None:
    editor = editor_of(server, model="gpt-image-1.5")
    assert picture_size(editor.fetch(editor.submit(ask(portrait, aspect="16:9")))) == (1536, 864)
    assert server.forms[0]["size"] == "1536x1024"
    assert server.forms[0]["input_fidelity"] == "high"
    with pytest.raises(ProviderRefused, match="21:9"):
        editor.submit(ask(portrait, aspect="21:9"))


def test_models_with_free_sizes_are_asked_for_the_aspect(server: FakeOpenAI, portrait: Path) -> None:
    editor = editor_of(server)
    request = ask(portrait, aspect="16:9", long_side=1536, options={"quality": "high"})
    assert picture_size(editor.fetch(editor.submit(request))) == (1536, 864)
    payload = editor.payload(request)["form"]
    assert isinstance(payload, dict)
    assert {name: payload[name] for name in server.forms[0]} == server.forms[0]
    assert server.forms[0]["quality"] == "high"
    assert "input_fidelity" not in server.forms[0]


@pytest.mark.parametrize(
    ("aspect", "long_side", "size"),
    [
        ("16:9", 160, (1088, 624)),  # raised to the least number of pixels
        ("1:1", 4096, (2880, 2880)),  # lowered to the greatest
        ("3:1", 4096, (3840, 1280)),
        ("9:16", 1360, (768, 1360)),
    ],
)
def test_free_sizes_stay_within_the_rules(aspect: str, long_side: int, size: tuple[int, int]) -> None:
    width, height = free_size(aspect, long_side)
    assert (width, height) == size
    assert 655_360 <= width * height <= 8_294_400


def test_too_narrow_pictures_are_refused_before_anything_is_sent(server: FakeOpenAI, portrait: Path) -> None:
    editor = editor_of(server)
    for changes in ({"aspect": "4:1"}, {"options": {"quality": "best"}}, {"options": {"x": "1"}}):
        with pytest.raises(ProviderRefused):
            editor.submit(ask(portrait, **changes))
    assert not server.counts


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        ("401", ProviderRefused, "OPENAI_API_KEY"),
        ("429", ProviderBusy, "Rate limit"),
        ("429-quota", ProviderRefused, "no credit"),
        ("503", ProviderBusy, "overloaded"),
        ("html", SubmitUnknown, "lost"),
        ("reset-before", SubmitUnknown, "lost"),
        ("reset-after", SubmitUnknown, "lost"),
        ("moderation", ContentFlagged, "safety system"),
    ],
)
def test_what_goes_wrong_says_what_is_safe_next(
    fault: str, kind: type[ProviderError], words: str, server: FakeOpenAI, portrait: Path
) -> None:
    server.faults.plan("submit", fault)
    editor = editor_of(server)
    with pytest.raises(kind) as caught:
        editor.submit(ask(portrait))
    assert words in str(caught.value)
    assert KEY not in str(caught.value)
    assert editor.find(3) is None
    assert server.counts["paid"] == (fault == "reset-after")


def test_a_busy_service_says_how_long_in_words(server: FakeOpenAI, portrait: Path) -> None:
    server.faults.plan("submit", "429")
    with pytest.raises(ProviderBusy) as caught:
        editor_of(server).submit(ask(portrait))
    assert caught.value.retry_after_s == 12


def test_a_failure_that_the_service_admits_may_be_tried_again(server: FakeOpenAI, portrait: Path) -> None:
    server.faults.plan("submit", "500")
    editor = editor_of(server)
    status = editor.poll(editor.submit(ask(portrait)))
    assert (status.state, status.code, status.transient) == ("failed", "server-error", True)
    assert editor.poll(editor.submit(ask(portrait))).state == "succeeded"


@pytest.mark.parametrize("fault", ["no-image", "not-image", "truncated"])
def test_an_answer_without_a_whole_picture_is_a_failed_job_that_was_paid(
    fault: str, server: FakeOpenAI, portrait: Path
) -> None:
    server.faults.plan("submit", fault)
    editor = editor_of(server)
    job = editor.submit(ask(portrait))
    status = editor.poll(job)
    assert (status.state, status.billed, status.transient) == ("failed", True, True)
    with pytest.raises(ProviderError, match="no image"):
        editor.fetch(job)


def test_pictures_wait_on_disk_and_go_with_the_editor(
    server: FakeOpenAI, portrait: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    editor = editor_of(server)
    job = editor.submit(ask(portrait))
    held = list(tmp_path.glob("talent-held-*/*"))
    assert [path.read_bytes() for path in held] == [editor.fetch(job)]
    editor.cancel(job)
    assert not list(tmp_path.glob("talent-held-*/*"))
    editor.submit(ask(portrait))
    del editor
    gc.collect()
    assert not list(tmp_path.glob("talent-held-*"))


def test_the_address_is_taken_with_and_without_its_version(
    server: FakeOpenAI, portrait: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    for base in (server.url, server.url + "/v1", server.url + "/v1/"):
        monkeypatch.setenv("OPENAI_BASE_URL", base)
        editor = make_editor("openai")
        assert editor.poll(editor.submit(ask(portrait))).state == "succeeded"


def test_it_does_not_claim_what_the_api_cannot_do(server: FakeOpenAI) -> None:
    can = editor_of(server).capabilities()
    assert not can.recoverable
    assert not can.seed
    assert can.safety is None


def test_no_key_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ProviderRefused, match="OPENAI_API_KEY is not set"):
        make_editor("openai")
