"""Style sets through the Python interface: the embedded painter, real loopback services, real files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from servers.openai_chat import KEY as OPENAI_KEY
from servers.openai_chat import FakeChat
from servers.replicate import TOKEN, Behaviour, FakeReplicate
from talent_factory.core.errors import PortraitError, ProviderRefused, StorageError, UsageError
from talent_factory.datagen import TrainingDataGenerator
from talent_factory.datagen.access import BASE_VARIABLES, KEY_VARIABLES
from talent_factory.datagen.style_cast import load_style
from talent_factory.providers.vision import StyleCard, TileVerdict, Verdict, make_vision
from talent_factory.providers.vision.port import U8
from talent_factory.storage.local import LocalStore
from talent_factory.world.samples import kairo_portrait

KEY = "ada/custom-actors/ink/training_data/style_ink_td_{:02d}.jpg"


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [*(name for names in KEY_VARIABLES.values() for name in names), *BASE_VARIABLES.values()]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def extras(tmp_path: Path) -> dict[str, Any]:
    return {"workspace": tmp_path / "work", "long_side": 512, "time_scale": 0.005}


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.fromarray(kairo_portrait(zoom=1)).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


@pytest.fixture
def service() -> Iterator[FakeReplicate]:
    with FakeReplicate(Behaviour(after_polls=1)) as server:
        yield server


@pytest.mark.slow
def test_offline_a_picture_becomes_a_delivered_style_set(
    extras: dict[str, Any], picture: Path, tmp_path: Path
) -> None:
    generator = TrainingDataGenerator(debug_dir=tmp_path / "debug", provider="embedded", **extras)
    generator.target_training_images = 6
    answer = generator.generate_training_data(picture, "ada", "ink")
    assert answer["total_training_images"] == answer["target_training_images"] == 6
    assert answer["total_grids_generated"] >= 1
    store = LocalStore(tmp_path / "work" / "user_files")
    assert answer["training_image_urls"] == [store.url(KEY.format(n)) for n in range(1, 7)]
    with Image.open(BytesIO(store.get(KEY.format(1)))) as image:
        assert image.format == "JPEG"
        assert image.width == image.height
    assert (answer["provider"], answer["vision"], answer["cost"]) == ("embedded", "embedded", 0.0)
    names = {path.name for path in (tmp_path / "debug").iterdir()}
    assert {"grid1.jpg", *(f"training-image{n}.jpg" for n in range(1, 7))} <= names
    assert json.loads(json.dumps(answer)) == answer
    assert load_style(Path(answer["manifest_path"]).parent).token == "ink"
    assert generator.generate_training_data(picture, "ada", "ink") == answer


class _Lenient:
    """A vision that likes every tile."""

    name = "lenient"

    def __init__(self) -> None:
        self._eye = make_vision()

    def style_card(self, image: Path) -> StyleCard:
        return self._eye.style_card(image)

    def check_tiles(self, tiles: Sequence[U8], *, subjects: Sequence[str], style: Path) -> list[TileVerdict]:
        return [TileVerdict(ok=True, style_match=4) for _ in tiles]

    def follows(self, image: Path, expectation: str) -> Verdict:
        return self._eye.follows(image, expectation)


def test_sheets_are_paid_once_and_shown_as_they_were_asked_for(
    service: FakeReplicate, extras: dict[str, Any], picture: Path, tmp_path: Path
) -> None:
    generator = TrainingDataGenerator(
        TOKEN, debug_dir=tmp_path / "debug", base_url=service.url, mode="direct", vision=_Lenient(), **extras
    )
    generator.target_training_images = 2
    generator.max_generation_attempts = 1
    answer = generator.generate_training_data(None, "ada", "ink", source_buffer=picture.read_bytes())
    made = len(service.jobs)
    assert answer["total_training_images"] == 2
    assert answer["cost"] == pytest.approx(0.04 * made)
    assert generator.generate_training_data(None, "ada", "ink", source_buffer=picture.read_bytes()) == answer
    assert len(service.jobs) == made
    payload = (tmp_path / "debug" / "request_payload_1.json").read_text()
    assert TOKEN not in payload
    assert set(json.loads(payload)["body"]["input"]["input_image"]) == {"sha256", "bytes"}


@pytest.mark.slow
def test_with_a_key_a_model_looks_at_the_style(
    extras: dict[str, Any], picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeChat("that is no JSON") as chat:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{chat.url}/v1")
        generator = TrainingDataGenerator(openai_api_key=OPENAI_KEY, provider="embedded", **extras)
        generator.target_training_images = 2
        answer = generator.generate_training_data(picture, "ada", "ink")
    assert answer["vision"].startswith("openai")
    assert answer["total_training_images"] == 2


@pytest.mark.slow
def test_a_painter_offline_asks_no_model_unless_told(
    extras: dict[str, Any], picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", OPENAI_KEY)
    generator = TrainingDataGenerator(provider="embedded", **extras)
    generator.target_training_images = 1
    assert generator.generate_training_data(picture, "ada", "ink")["vision"] == "embedded"


def test_what_cannot_work_is_known_before_anything_is_paid(
    service: FakeReplicate, extras: dict[str, Any], picture: Path, tmp_path: Path
) -> None:
    with pytest.raises(ProviderRefused, match="REPLICATE_API_TOKEN"):
        TrainingDataGenerator(**extras).generate_training_data(picture, "ada", "ink")
    generator = TrainingDataGenerator(TOKEN, base_url=service.url, **extras)
    with pytest.raises(PortraitError):
        generator.generate_training_data("https://127.0.0.1:9/x.png", "ada", "ink")
    with pytest.raises(UsageError):
        generator.generate_training_data(picture, "ada/../eve", "ink")
    with pytest.raises(UsageError, match="no argument 'moed'"):
        generator.generate_training_data(picture, "ada", "ink", moed="grid")  # type: ignore[call-arg]
    (tmp_path / "blocked").write_text("a file")
    with pytest.raises(StorageError):
        generator.generate_training_data(picture, "ada", "ink", store=tmp_path / "blocked" / "store")
    assert not service.jobs
