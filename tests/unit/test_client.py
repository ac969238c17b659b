"""From the addresses of training images to a kit: casts of this workspace, a store, foreign images."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import talent_factory
import talent_factory.datagen
from cast_maker import BlockEditor, write_face
from pipeline_maker import Small, make_small, small_dials
from talent_factory.core.errors import DatasetError, PortraitError, UsageError
from talent_factory.datagen import ActorTrainingDataGenerator, TrainingClient
from talent_factory.dataset.manifest import load_dataset
from talent_factory.kits.validate import validate_kit
from talent_factory.storage.local import LocalStore


@pytest.fixture
def client(tmp_path: Path) -> TrainingClient:
    return TrainingClient(tmp_path / "work")


def test_the_names_are_public_and_load_late() -> None:
    for name in ("TrainingClient", "ActorTrainingDataGenerator", "TrainingDataGenerator"):
        assert getattr(talent_factory, name) is getattr(talent_factory.datagen, name)
        assert name in dir(talent_factory)
        assert name in dir(talent_factory.datagen)
    with pytest.raises(AttributeError):
        talent_factory.datagen.TrainingKlient  # type: ignore[attr-defined]  # noqa: B018


def test_what_cannot_be_trained_on_is_refused_first(client: TrainingClient, tmp_path: Path) -> None:
    good = write_face(tmp_path / "a.png")
    for ids in ("../eve", "a/b", ""):
        with pytest.raises(UsageError, match="actor id"):
            client.train_actor(actor_id=ids, training_image_urls=[good])
    with pytest.raises(UsageError, match="no training images"):
        client.train_actor(actor_id="kai", training_image_urls=[])
    with pytest.raises(UsageError, match="2 captions for 1 images"):
        client.train_actor(actor_id="kai", training_image_urls=[good], captions=["a", "b"])
    for url in ("http://127.0.0.1:9/a.png", "https://127.0.0.1:9/a.png", good.as_uri()):
        with pytest.raises(PortraitError):
            client.train_actor(actor_id="kai", training_image_urls=[url])
    with pytest.raises(PortraitError, match=r"gone\.png cannot be read"):
        client.train_actor(actor_id="kai", training_image_urls=[tmp_path / "gone.png"])
    (tmp_path / "words.png").write_text("no picture")
    with pytest.raises(DatasetError, match="training image 2: not an image"):
        client.train_actor(actor_id="kai", training_image_urls=[good, tmp_path / "words.png"])
    assert not (tmp_path / "work" / "talents").exists()
    assert list((tmp_path / "work" / "cache" / "gathered").iterdir()) == []


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    return make_small(tmp_path_factory.mktemp("small"))


def _client(small: Small, **given: Any) -> TrainingClient:
    return TrainingClient(small.place, base=str(small.base), dials=small_dials(), **given)


@pytest.mark.slow
def test_images_of_a_cast_become_a_kit_with_the_captions_of_their_slots(small: Small) -> None:
    made = ActorTrainingDataGenerator(
        provider=BlockEditor(),
        workspace=small.place,
        recipe=str(small.root / "three.toml"),
        long_side=128,
    ).generate_training_data(small.portrait, "ada", "Kai-7", actor_sex="woman")
    urls = made["training_image_urls"]
    client = _client(small)
    answer = client.train_actor(actor_id="Kai-7", training_image_urls=urls)
    assert answer["from_cast"]
    assert (answer["talent_id"], answer["token"]) == ("avatar.identity.kai_7", "kai_7")
    assert validate_kit(Path(answer["kit_path"]), base_folder=small.base).valid
    dataset = load_dataset(small.place.datasets / answer["talent_id"])
    assert len(dataset.items) == 4  # three images and the portrait
    assert all("kai_7 woman" in item.caption for item in dataset.items)
    assert len({item.caption for item in dataset.items}) > 2
    before = (Path(answer["kit_path"]) / "talent.json").read_bytes()
    assert client.train_actor(actor_id="Kai-7", training_image_urls=urls) == answer
    assert (Path(answer["kit_path"]) / "talent.json").read_bytes() == before

    fewer = client.train_actor(actor_id="Kai-7", user_id="ada", training_image_urls=urls[:2], token="kai_two")
    assert fewer["from_cast"]
    items = load_dataset(small.place.datasets / fewer["talent_id"]).items
    assert len(items) == 3
    assert all("kai_two woman" in item.caption for item in items)


@pytest.mark.slow
def test_images_of_a_store_and_of_files_become_a_kit_with_given_captions(small: Small) -> None:
    store = LocalStore(small.root / "store")
    key = "ada/custom-actors/mo+1/training_data/actor_mo+1_td_01.jpg"
    data = write_face(small.root / "one.jpg").read_bytes()
    url = store.put(key, data).url
    other = write_face(small.root / "two.png", (200, 300))
    answer = _client(small, store=store).train_actor(
        actor_id="mo+1",
        training_image_urls=[url, other],
        actor_type="robotic",
        captions=["mo_1 robot before a plain wall", "mo_1 robot in soft light"],
    )
    assert not answer["from_cast"]
    assert answer["class_noun"] == "robot"
    captions = [item.caption for item in load_dataset(small.place.datasets / answer["talent_id"]).items]
    assert captions == ["mo_1 robot before a plain wall", "mo_1 robot in soft light"]
    assert validate_kit(Path(answer["kit_path"]), base_folder=small.base).valid
    shutil.rmtree(small.root / "store")
