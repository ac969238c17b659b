"""Actor sets through the Python interface: real loopback services, real stores, real files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cast_maker import BlockEditor, face, write_face
from pipeline_maker import SLOTS, write_recipe
from servers.loopback import Exchange, Faults, Loopback
from servers.replicate import TOKEN, Behaviour, FakeReplicate
from servers.s3 import ACCESS, BUCKET, SECRET, S3Server, moto_server
from talent_factory.core.errors import (
    ConfigError,
    PortraitError,
    ProviderError,
    ProviderRefused,
    StorageError,
    UsageError,
)
from talent_factory.datagen import (
    ActorTrainingDataGenerator,
    get_actor_descriptor,
    get_actor_training_prompts,
)
from talent_factory.datagen.access import BASE_VARIABLES, KEY_VARIABLES, base_url_of, key_of
from talent_factory.datagen.cast import load_cast
from talent_factory.datagen.portrait import normalise
from talent_factory.datagen.recipes import load_recipe
from talent_factory.datagen.setting import token_of
from talent_factory.storage.local import LocalStore

SOURCE = Path(__file__).resolve().parents[3] / "src"
KEY = "ada/custom-actors/kai-7/training_data/actor_kai-7_td_{:02d}.jpg"


def portrait_bytes(kind: str = "PNG") -> bytes:
    buffer = BytesIO()
    face().save(buffer, format=kind)
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    names = [name for names in KEY_VARIABLES.values() for name in names]
    aws = ("AWS_ACCESS_KEY", "AWS_ACCESS_SECRET", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    for name in (*names, *BASE_VARIABLES.values(), *aws, "AWS_USER_FILES_BUCKET", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)  # no `.env` of anyone's


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    write_recipe(tmp_path / "three.toml")
    return str(tmp_path / "three.toml")


@pytest.fixture
def extras(tmp_path: Path, recipe: str) -> dict[str, Any]:
    return {"workspace": tmp_path / "work", "recipe": recipe, "long_side": 128, "time_scale": 0.005}


@pytest.fixture
def service() -> Iterator[FakeReplicate]:
    with FakeReplicate(Behaviour(after_polls=1), faults=Faults()) as server:
        yield server


@pytest.fixture(scope="module")
def bucket() -> Iterator[S3Server]:
    with moto_server() as server:
        yield server


def test_a_buffer_becomes_delivered_images_in_the_order_of_the_slots(
    service: FakeReplicate, extras: dict[str, Any], tmp_path: Path
) -> None:
    generator = ActorTrainingDataGenerator(TOKEN, base_url=service.url, **extras)
    answer = generator.generate_training_data(
        None, "ada", "kai-7", actor_sex="female", portrait_buffer=portrait_bytes()
    )
    assert answer["total_training_images"] == answer["target_training_images"] == 3
    assert answer["failed"] == []
    assert answer["cost"] == pytest.approx(0.12)
    store = LocalStore(tmp_path / "work" / "user_files")
    assert answer["training_image_urls"] == [store.url(KEY.format(n)) for n in (1, 2, 3)]
    for number in (1, 2, 3):
        with Image.open(BytesIO(store.get(KEY.format(number)))) as image:
            assert image.format == "JPEG"
            assert not image.getexif()
    cast = load_cast(Path(answer["manifest_path"]).parent)
    assert (cast.token, cast.descriptor) == ("kai_7", "woman")
    assert [slot.url for slot in cast.slots] == answer["training_image_urls"]
    assert json.loads(json.dumps(answer)) == answer


def test_a_second_call_pays_nothing_and_says_the_same(service: FakeReplicate, extras: dict[str, Any]) -> None:
    generator = ActorTrainingDataGenerator(TOKEN, base_url=service.url, **extras)
    first, second = (
        generator.generate_training_data(None, "ada", 7, portrait_buffer=BytesIO(portrait_bytes()))
        for _ in range(2)
    )
    assert first == second
    assert len(service.jobs) == 3


def test_one_failed_image_is_named_and_the_rest_delivered(
    service: FakeReplicate, extras: dict[str, Any]
) -> None:
    generator = ActorTrainingDataGenerator(TOKEN, base_url=service.url, **extras)
    service.behaviour = Behaviour(after_polls=1, flagged=("looking straight",))
    answer = generator.generate_training_data(None, "ada", "kai-7", portrait_buffer=portrait_bytes())
    assert answer["total_training_images"] == len(answer["training_image_urls"]) < 3
    assert len(answer["failed"]) == 3 - answer["total_training_images"]
    assert all(item["code"] == "E005" for item in answer["failed"])


def test_debug_files_show_what_was_really_sent_and_never_the_token(
    service: FakeReplicate, extras: dict[str, Any], tmp_path: Path
) -> None:
    generator = ActorTrainingDataGenerator(TOKEN, tmp_path / "debug", base_url=service.url, **extras)
    generator.generate_training_data(None, "ada", "kai-7", portrait_buffer=portrait_bytes())
    names = {path.name for path in (tmp_path / "debug").iterdir()}
    assert names == {
        "training_data_grid.jpg",
        *(f"training_data_output_{n}.jpg" for n in (1, 2, 3)),
        *(f"request_payload_{n}.json" for n in (1, 2, 3)),
    }
    sent = {str(job.input["prompt"]): job.input for job in service.jobs.values()}
    for number, slot in enumerate(load_recipe(extras["recipe"]).slots, start=1):
        text = (tmp_path / "debug" / f"request_payload_{number}.json").read_text()
        assert TOKEN not in text
        payload = json.loads(text)
        real = sent[payload["body"]["input"]["prompt"]]
        assert {**real, "input_image": ...} == {**payload["body"]["input"], "input_image": ...}
        assert set(payload["body"]["input"]["input_image"]) == {"sha256", "bytes"}
        # six is asked for, two is what the model takes together with an image
        assert payload["clamped"]["safety_tolerance"] == {"requested": 6, "sent": 2}
        assert slot.name in SLOTS


def test_the_painter_works_without_any_key_and_is_named(extras: dict[str, Any], tmp_path: Path) -> None:
    generator = ActorTrainingDataGenerator(debug_dir=tmp_path / "debug", provider="embedded", **extras)
    answer = generator.generate_training_data(None, "ada", "kai-7", portrait_buffer=portrait_bytes())
    assert (answer["provider"], answer["cost"], answer["total_training_images"]) == ("embedded", 0.0, 3)
    assert answer["augmented"] == 1
    assert (tmp_path / "debug" / "request_payload_1.json").is_file()


def test_without_a_token_the_error_names_the_variable_and_the_painter(
    extras: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(ProviderRefused, match="REPLICATE_API_TOKEN") as caught:
        ActorTrainingDataGenerator(**extras).generate_training_data("https://x.example/a.png", "ada", "kai")
    assert 'provider="embedded"' in caught.value.remedy
    assert not (tmp_path / "work").exists()


def test_token_and_address_may_stand_in_a_dotenv_file(
    service: FakeReplicate, extras: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text(f"REPLICATE_API_TOKEN={TOKEN}\nREPLICATE_BASE_URL={service.url}/v1\n")
    generator = ActorTrainingDataGenerator(**extras)
    answer = generator.generate_training_data(None, "ada", "kai-7", portrait_buffer=portrait_bytes())
    assert answer["total_training_images"] == 3
    assert TOKEN not in repr(generator)


def test_the_environment_goes_before_the_dotenv_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("FAL_KEY=inner\nFAL_BASE_URL=https://inner.example\n")
    assert (key_of("fal"), base_url_of("fal")) == ("inner", "https://inner.example")
    monkeypatch.setenv("FAL_KEY", "outer")
    assert key_of("fal") == "outer"
    assert key_of("embedded") is None


def test_the_variables_are_those_of_the_providers() -> None:
    from talent_factory.providers import bfl, comfyui, fal, gemini_images, openai_images, replicate

    assert KEY_VARIABLES == {
        "replicate": (replicate.TOKEN_VARIABLE,),
        "fal": (fal.KEY_VARIABLE,),
        "bfl": (bfl.KEY_VARIABLE,),
        "openai": (openai_images.KEY_VARIABLE,),
        "gemini": gemini_images.KEY_VARIABLES,
    }
    modules = (replicate, fal, bfl, openai_images, gemini_images, comfyui)
    assert set(BASE_VARIABLES.values()) == {module.BASE_VARIABLE for module in modules}


def test_images_go_to_a_real_bucket_and_again_costs_nothing(
    service: FakeReplicate, bucket: S3Server, extras: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in bucket.environ().items():
        monkeypatch.setenv(name, value)
    generator = ActorTrainingDataGenerator(TOKEN, base_url=service.url, store="s3", **extras)
    answer = generator.generate_training_data(None, "ada", "kai-7", portrait_buffer=portrait_bytes())
    assert answer["training_image_urls"] == [
        f"{bucket.endpoint}/{BUCKET}/{KEY.format(number)}" for number in (1, 2, 3)
    ]
    assert ACCESS not in json.dumps(answer)
    assert SECRET not in json.dumps(answer)
    again = generator.generate_training_data(None, "ada", "kai-7", portrait_buffer=portrait_bytes())
    assert again == answer
    assert len(service.jobs) == 3


def test_a_bucket_that_does_not_exist_is_known_before_anything_is_paid(
    service: FakeReplicate, bucket: S3Server, extras: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in bucket.environ(AWS_USER_FILES_BUCKET="nobody-has-this").items():
        monkeypatch.setenv(name, value)
    generator = ActorTrainingDataGenerator(TOKEN, base_url=service.url, store="s3", **extras)
    with pytest.raises(StorageError, match="nobody-has-this"):
        generator.generate_training_data(None, "ada", "kai-7", portrait_buffer=portrait_bytes())
    assert not service.jobs


def test_a_store_without_settings_is_known_before_anything_is_paid(
    service: FakeReplicate, extras: dict[str, Any]
) -> None:
    generator = ActorTrainingDataGenerator(TOKEN, base_url=service.url, store="s3", **extras)
    with pytest.raises(ConfigError, match="AWS_"):
        generator.generate_training_data(None, "ada", "kai-7", portrait_buffer=portrait_bytes())
    assert not service.jobs


class _FailingStore(LocalStore):
    """A store whose images of the named numbers cannot be kept until it is mended."""

    def __init__(self, root: Path, *numbers: int) -> None:
        super().__init__(root)
        self.broken = set(numbers)

    def put(self, key: str, data: bytes, **options: Any) -> Any:
        if any(key.endswith(f"_{number:02d}.jpg") for number in self.broken):
            raise StorageError("the store is on fire", remedy="pour water")
        return super().put(key, data, **options)


def test_what_could_not_be_delivered_is_delivered_by_the_next_call_without_paying(
    service: FakeReplicate, extras: dict[str, Any], tmp_path: Path
) -> None:
    store = _FailingStore(tmp_path / "store", 2)
    generator = ActorTrainingDataGenerator(TOKEN, base_url=service.url, store=store, **extras)
    answer = generator.generate_training_data(None, "ada", "kai-7", portrait_buffer=portrait_bytes())
    assert answer["total_training_images"] == 2
    assert [(item["number"], item["code"]) for item in answer["failed"]] == [(2, "NOT_DELIVERED")]
    assert "on fire" in answer["failed"][0]["message"]
    store.broken = {1, 2, 3}
    store.delete(KEY.format(1))
    with pytest.raises(StorageError, match="3 images are made and kept"):
        generator.generate_training_data(None, "ada", "kai-7", portrait_buffer=portrait_bytes())
    store.broken = set()
    answer = generator.generate_training_data(None, "ada", "kai-7", portrait_buffer=portrait_bytes())
    assert answer["total_training_images"] == 3
    assert len(service.jobs) == 3


def test_another_store_gets_the_images_of_an_earlier_call(extras: dict[str, Any], tmp_path: Path) -> None:
    generator = ActorTrainingDataGenerator(provider=BlockEditor(), **extras)
    urls = [
        generator.generate_training_data(
            None, "ada", "kai-7", portrait_buffer=portrait_bytes(), store=tmp_path / name
        )["training_image_urls"]
        for name in ("one", "two", "one")
    ]
    assert urls[0] == urls[2] == [LocalStore(tmp_path / "one").url(KEY.format(n)) for n in (1, 2, 3)]
    assert len(LocalStore(tmp_path / "two").list()) == 3
    assert len(set(urls[0]) & set(urls[1])) == 0


def test_only_the_best_of_more_are_delivered_and_a_change_of_mind_is_followed(
    extras: dict[str, Any], tmp_path: Path
) -> None:
    generator = ActorTrainingDataGenerator(provider=BlockEditor(), count=5, **extras)
    some = generator.generate_training_data(None, "ada", "kai-7", portrait_buffer=portrait_bytes(), keep=3)
    store = LocalStore(tmp_path / "work" / "user_files")
    assert some["total_training_images"] == some["target_training_images"] == 3
    assert [store.url(entry.key) for entry in store.list()] == some["training_image_urls"]
    everything = generator.generate_training_data(None, "ada", "kai-7", portrait_buffer=portrait_bytes())
    assert everything["total_training_images"] == 5
    again = generator.generate_training_data(None, "ada", "kai-7", portrait_buffer=portrait_bytes(), keep=3)
    assert again["training_image_urls"] == some["training_image_urls"]
    assert [store.url(entry.key) for entry in store.list()] == some["training_image_urls"]


def test_another_portrait_of_the_same_actor_replaces_the_images(
    extras: dict[str, Any], tmp_path: Path
) -> None:
    generator = ActorTrainingDataGenerator(provider=BlockEditor(), **extras)
    before = generator.generate_training_data(None, "ada", "kai-7", portrait_buffer=portrait_bytes())
    after = generator.generate_training_data(
        write_face(tmp_path / "other.jpg", (400, 380)), "ada", "kai-7", seed=5
    )
    assert after["training_image_urls"] == before["training_image_urls"]
    assert after["run_id"] != before["run_id"]


@pytest.mark.parametrize("bad", ["../eve", "a/b", "", "a\nb", "a\0", "a b", "x" * 200, "..", True])
def test_ids_that_would_lead_elsewhere_are_refused_first(bad: Any, extras: dict[str, Any]) -> None:
    generator = ActorTrainingDataGenerator(provider="embedded", **extras)
    for ids in ((bad, "kai"), ("ada", bad)):
        with pytest.raises(UsageError):
            generator.generate_training_data(None, *ids, portrait_buffer=portrait_bytes())
    assert not Path(extras["workspace"]).exists()


def test_the_address_serves_when_the_buffer_cannot_be_read(extras: dict[str, Any]) -> None:
    def answer(ask: Exchange) -> None:
        ask.send(200, portrait_bytes("JPEG"), "image/jpeg")

    with Loopback(answer) as server:
        generator = ActorTrainingDataGenerator(provider=BlockEditor(), allow_local=True, **extras)
        made = generator.generate_training_data(
            f"{server.url}/pictures/ada%20b.jpg", "ada", "kai-7", portrait_buffer=b"no picture at all"
        )
    cast = load_cast(Path(made["manifest_path"]).parent)
    assert cast.portrait.source == "ada_20b.jpg"
    assert made["total_training_images"] == 3


def test_a_good_buffer_needs_no_address(extras: dict[str, Any]) -> None:
    generator = ActorTrainingDataGenerator(provider=BlockEditor(), **extras)
    made = generator.generate_training_data(
        "https://127.0.0.1:9/gone.png", "ada", "kai-7", portrait_buffer=portrait_bytes()
    )
    assert made["total_training_images"] == 3


@pytest.mark.parametrize("buffer", [b"", b"GIF89a", b"<html>", "text", BytesIO(b"")])
def test_a_useless_portrait_is_one_clear_line_without_temporary_paths(
    buffer: Any, service: FakeReplicate, extras: dict[str, Any]
) -> None:
    generator = ActorTrainingDataGenerator(TOKEN, base_url=service.url, **extras)
    with pytest.raises(PortraitError) as caught:
        generator.generate_training_data(
            None, "ada", "kai-7", portrait_buffer=buffer if not isinstance(buffer, str) else _Text()
        )
    assert caught.value.message.startswith("portrait_buffer")
    assert "\n" not in caught.value.message
    assert "/" not in caught.value.message
    assert not service.jobs


class _Text:
    def read(self, size: int = -1) -> str:
        return "text"


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/a.png", "https://127.0.0.1:9/a.png", "file:///etc/hosts"]
)
def test_addresses_of_this_network_are_not_fetched(url: str, extras: dict[str, Any]) -> None:
    generator = ActorTrainingDataGenerator(provider="embedded", **extras)
    with pytest.raises(PortraitError):
        generator.generate_training_data(url, "ada", "kai-7")
    with pytest.raises(PortraitError, match="neither a buffer nor an address"):
        generator.generate_training_data(None, "ada", "kai-7")


def test_credit_that_ends_keeps_what_was_made(service: FakeReplicate, extras: dict[str, Any]) -> None:
    service.faults.plan("submit", "ok", "402")
    generator = ActorTrainingDataGenerator(TOKEN, batch_size=1, base_url=service.url, **extras)
    with pytest.raises(ProviderRefused, match="1 of 3 images; 1 failed so far, and kept"):
        generator.generate_training_data(None, "ada", "kai-7", portrait_buffer=portrait_bytes())
    store = LocalStore(Path(extras["workspace"]) / "user_files")
    assert [entry.key for entry in store.list()] == [KEY.format(1)]
    answer = generator.generate_training_data(None, "ada", "kai-7", portrait_buffer=portrait_bytes())
    assert answer["total_training_images"] == 3
    assert len(service.jobs) == 3


_KILLED = """
import sys
from pathlib import Path
from talent_factory.datagen import ActorTrainingDataGenerator
url, work, recipe, portrait = sys.argv[1:]
ActorTrainingDataGenerator(
    base_url=url, workspace=work, recipe=recipe, long_side=128, time_scale=0.005
).generate_training_data(Path(portrait), "ada", "kai-7")
"""


@pytest.mark.slow
@pytest.mark.parametrize("by", ["python", "command line"])
def test_a_killed_call_is_finished_without_paying_twice(
    by: str, service: FakeReplicate, extras: dict[str, Any], tmp_path: Path
) -> None:
    portrait = write_face(tmp_path / "me.png")
    work = Path(extras["workspace"])
    # the second and third are accepted and paid, and nobody hears of it
    service.faults.plan("submit", "ok", "hang-after", "hang-after")
    environment = {**os.environ, "REPLICATE_API_TOKEN": TOKEN, "PYTHONPATH": str(SOURCE)}
    words = [service.url, str(work), extras["recipe"], str(portrait)]
    victim = subprocess.Popen([sys.executable, "-c", _KILLED, *words], env=environment)
    try:
        while len(service.jobs) < 3 and victim.poll() is None:
            time.sleep(0.02)
    finally:
        victim.kill()
        victim.wait()
    assert len(service.jobs) == 3
    if by == "python":
        generator = ActorTrainingDataGenerator(TOKEN, base_url=service.url, **extras)
        answer = generator.generate_training_data(portrait, "ada", "kai-7")
        assert answer["total_training_images"] == 3
        assert answer["cost"] == pytest.approx(0.12)
    else:
        command = [sys.executable, "-m", "talent_factory.cli.app", "cast", "resume", "--all", "--yes"]
        done = subprocess.run(
            [*command, "--workspace", str(work)],
            env=environment | {"REPLICATE_BASE_URL": service.url},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "ada/kai-7/actor: 3 of 3 images" in done.stdout + done.stderr
    assert len(service.jobs) == 3
    assert set(service.paid().values()) == {1}
    keys = [entry.key for entry in LocalStore(work / "user_files").list()]
    assert keys == [KEY.format(number) for number in (1, 2, 3)]


def test_unknown_words_and_arguments_are_refused(extras: dict[str, Any]) -> None:
    generator = ActorTrainingDataGenerator(provider="embedded", **extras)
    bytes_ = portrait_bytes()
    with pytest.raises(UsageError, match="actor_sex 'cat'"):
        generator.generate_training_data(None, "a", "b", actor_sex="cat", portrait_buffer=bytes_)
    with pytest.raises(UsageError, match="actor type"):
        generator.generate_training_data(None, "a", "b", actor_type="ghost", portrait_buffer=bytes_)
    with pytest.raises(UsageError, match="no argument 'provder'"):
        generator.generate_training_data(None, "a", "b", portrait_buffer=bytes_, provder="x")  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match="in_flight"):
        ActorTrainingDataGenerator(provider="embedded", batch_size=0, **extras).generate_training_data(
            None, "a", "b", portrait_buffer=bytes_
        )


def test_a_provider_that_makes_nothing_raises(extras: dict[str, Any]) -> None:
    editor = BlockEditor()
    editor.broken = {name: ProviderError("the lights went out") for name in SLOTS}
    with pytest.raises(ProviderError, match="not one of 3 images"):
        ActorTrainingDataGenerator(provider=editor, **extras).generate_training_data(
            None, "ada", "kai-7", portrait_buffer=portrait_bytes()
        )


def test_descriptors_and_prompts() -> None:
    assert get_actor_descriptor("human", "male") == "man"
    assert get_actor_descriptor("human", "woman") == "woman"
    assert get_actor_descriptor("human", None) == "person"
    assert get_actor_descriptor("Robotic", None) == "robotic character"
    assert get_actor_descriptor("anthropomorphic", "male") == "anthropomorphic character"
    assert get_actor_descriptor("mythical", None) == "mythical character"
    assert get_actor_descriptor("creature", None) == "creature"
    prompts = get_actor_training_prompts("robotic character")
    assert len(prompts) == len(set(prompts)) == 17
    assert all("robotic character" in prompt and "{" not in prompt for prompt in prompts)
    assert len(get_actor_training_prompts("woman", recipe="actor-12")) == 12
    with pytest.raises(UsageError):
        get_actor_training_prompts("two\nlines")


@pytest.mark.parametrize(
    ("actor", "token"), [("Kai-7", "kai_7"), (42, "actor_42"), ("x" * 90, "x" * 40), ("_a", "actor__a")]
)
def test_the_trigger_word_is_made_from_the_id(actor: str | int, token: str) -> None:
    assert token_of(actor) == token


def test_the_buffer_is_the_picture_itself(tmp_path: Path) -> None:
    write_face(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(portrait_bytes())
    assert normalise(tmp_path / "a.png").sha256 == normalise(tmp_path / "b.png").sha256
