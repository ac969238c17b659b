"""Local diffusers pipelines as image providers: real pipeline classes with tiny random weights."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tiny_pipelines
from contract.image_editor import ImageEditorContract, picture_size
from talent_factory.core.errors import ProviderError, ProviderRefused, UsageError
from talent_factory.providers.diffusers_local import LocalDiffusers
from talent_factory.providers.port import EditRequest, ImageEditor
from unit.providers.portraits import character

pytestmark = pytest.mark.filterwarnings(
    # transformers announces its own fallbacks without torchvision when classes are looked up
    "ignore:.*torchvision.*"
)


@pytest.fixture
def portrait(tmp_path: Path) -> Path:
    path = tmp_path / "portrait.png"
    Image.fromarray(character(96)).save(path)
    return path


@pytest.fixture(scope="module")
def klein(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pipelines.klein(tmp_path_factory.mktemp("models") / "tiny-klein")


def ask(portrait: Path, **changes: object) -> EditRequest:
    facts: dict[str, object] = {"portrait": portrait, "slot": "one", "medium": "charcoal", "seed": 3}
    return EditRequest.model_validate(facts | {"prompt": "a charcoal drawing", "long_side": 96} | changes)


@pytest.mark.slow
class TestLocalDiffusers(ImageEditorContract):
    @pytest.fixture
    def editor(self, klein: Path) -> ImageEditor:
        return LocalDiffusers(klein, steps=2, device="cpu")

    @pytest.fixture
    def portrait(self, portrait: Path) -> Path:
        return portrait


def qwen_plus(folder: Path) -> Path:
    return tiny_pipelines.qwen(folder, plus=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "pipeline", "steps"),
    [
        (tiny_pipelines.kontext, "FluxKontextPipeline", 28),
        (tiny_pipelines.qwen, "QwenImageEditPipeline", 50),
        (qwen_plus, "QwenImageEditPlusPipeline", 40),
    ],
)
def test_every_family_edits(
    make: Callable[[Path], Path], pipeline: str, steps: int, tmp_path: Path, portrait: Path
) -> None:
    folder = make(tmp_path / "model")
    assert LocalDiffusers(folder).payload(ask(portrait))["num_inference_steps"] == steps
    editor = LocalDiffusers(folder, steps=1, device="cpu")
    assert editor.payload(ask(portrait))["pipeline"] == pipeline
    pictures = {}
    for slot, changes in {"a": {}, "b": {"prompt": "a bright gouache"}, "c": {"seed": 4}}.items():
        job = editor.submit(ask(portrait, slot=slot, aspect="4:3", **changes))
        pictures[slot] = editor.fetch(job)
    assert picture_size(pictures["a"]) == (96, 72)
    # the words and the noise both reach the picture
    assert len(set(pictures.values())) == 3


@pytest.mark.slow
def test_the_portrait_reaches_the_picture(klein: Path, portrait: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.png"
    Image.fromarray(255 - np.asarray(Image.open(portrait).convert("RGB"))).save(other)
    editor = LocalDiffusers(klein, steps=1, device="cpu")
    assert editor.fetch(editor.submit(ask(portrait))) != editor.fetch(editor.submit(ask(other)))


@pytest.mark.slow
def test_pictures_that_are_no_longer_kept_come_out_the_same_again(klein: Path, portrait: Path) -> None:
    editor = LocalDiffusers(klein, steps=1, device="cpu")
    jobs = [editor.submit(ask(portrait, slot=f"s{n}", seed=n)) for n in range(6)]
    first = editor.fetch(jobs[0])
    for job in jobs[1:]:
        editor.fetch(job)
    assert editor.fetch(jobs[0]) == first


@pytest.mark.slow
def test_a_picture_in_the_making_stops_when_it_is_cancelled(klein: Path, portrait: Path) -> None:
    editor = LocalDiffusers(klein, steps=5_000, device="cpu")
    job = editor.submit(ask(portrait))
    errors: list[ProviderError] = []

    def make() -> None:
        with pytest.raises(ProviderError, match="cancelled") as caught:
            editor.fetch(job)
        errors.append(caught.value)

    thread = threading.Thread(target=make)
    thread.start()
    editor.cancel(job)
    thread.join(60)
    assert not thread.is_alive()
    assert errors
    assert editor.poll(job).state == "cancelled"


@pytest.mark.slow
def test_numbers_that_are_no_picture_are_an_error(klein: Path, portrait: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "broken"
    for path in klein.rglob("*"):
        if path.is_file():
            target = folder / path.relative_to(klein)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    weights = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    save_file({name: tensor * float("nan") for name, tensor in load_file(weights).items()}, weights)
    editor = LocalDiffusers(folder, steps=1, device="cpu")
    job = editor.submit(ask(portrait))
    with pytest.raises(ProviderError, match="no picture"):
        editor.fetch(job)
    assert editor.poll(job).state == "failed"


@pytest.mark.slow
def test_a_model_with_a_part_missing_is_refused_without_its_path(
    klein: Path, portrait: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "partial"
    folder.mkdir()
    (folder / "model_index.json").write_bytes((klein / "model_index.json").read_bytes())
    editor = LocalDiffusers(folder, steps=1, device="cpu")
    with pytest.raises(ProviderRefused, match="partial cannot be loaded"):
        editor.fetch(editor.submit(ask(portrait)))


def index(folder: Path, pipeline: str = "Flux2KleinPipeline") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "model_index.json").write_text(json.dumps({"_class_name": pipeline}), "utf-8")
    return folder


def test_a_model_that_is_not_there_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(ProviderRefused, match="no model"):
        LocalDiffusers(tmp_path / "nowhere")
    with pytest.raises(ProviderRefused, match="hf download"):
        LocalDiffusers("nobody/no-such-model")


def test_a_model_that_cannot_edit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProviderRefused, match=r"StableDiffusionPipeline that cannot edit"):
        LocalDiffusers(index(tmp_path / "sd", "StableDiffusionPipeline"))


def test_names_in_records_hold_no_path(tmp_path: Path, portrait: Path) -> None:
    editor = LocalDiffusers(index(tmp_path / "my-klein"))
    assert editor.capabilities().model == "my-klein"
    assert str(tmp_path) not in json.dumps(editor.payload(ask(portrait)))
    assert not editor.capabilities().network
    assert editor.capabilities().price_usd == 0


def test_sizes_are_what_the_model_can_make(tmp_path: Path, portrait: Path) -> None:
    payload = LocalDiffusers(index(tmp_path / "m")).payload(ask(portrait, aspect="16:9", long_side=1360))
    assert (payload["width"], payload["height"]) == (1360, 768)


@pytest.mark.parametrize("changes", [{"prompt": " "}, {"aspect": "9:1"}])
def test_requests_that_cannot_work_are_refused(
    changes: dict[str, object], tmp_path: Path, portrait: Path
) -> None:
    editor = LocalDiffusers(index(tmp_path / "m"))
    with pytest.raises(ProviderError):
        editor.submit(ask(portrait, **changes))
    assert editor.find(3) is None


def test_a_portrait_that_is_no_picture_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "text.png"
    text.write_text("not a picture", "utf-8")
    with pytest.raises(ProviderError, match=r"text\.png is no readable picture"):
        LocalDiffusers(index(tmp_path / "m")).submit(ask(text))


def test_no_steps_are_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        LocalDiffusers(index(tmp_path / "m"), steps=0)


@pytest.mark.gpu
@pytest.mark.parametrize("offload", [False, True])
def test_a_seed_means_the_same_picture_on_an_accelerator(klein: Path, portrait: Path, offload: bool) -> None:
    first, second = (LocalDiffusers(klein, steps=2, device="cuda", offload=offload) for _ in range(2))
    pictures = [editor.fetch(editor.submit(ask(portrait))) for editor in (first, second)]
    assert picture_size(pictures[0]) == (96, 54)
    assert pictures[0] == pictures[1]
    assert pictures[0] != first.fetch(first.submit(ask(portrait, seed=4)))
