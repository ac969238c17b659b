"""A base is found by its name: local first, the hub's cache next, the network only when allowed."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from talent_factory.core.errors import BaseError, ConfigError
from talent_factory.training import resolve
from talent_factory.training.base_check import check_base, list_bases
from talent_factory.training.families import load_base
from talent_factory.training.families.random_base import make_random_base
from talent_factory.training.resolve import check_version, needed_files, resolve_base

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty cache, and a hub that nobody answers for."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")


def test_mini_folder_and_file_are_told_apart(base_folder: Path, tmp_path: Path) -> None:
    file = make_random_base(tmp_path / "one.safetensors", "tiny-sdxl", form="checkpoint")
    forms = [resolve_base(str(name)).form for name in ("mini", base_folder, file)]
    assert forms == ["mini", "folder", "checkpoint"]
    found = resolve_base(str(file))
    assert (found.family, found.resolution()) == ("sdxl", 64)
    assert found.revision() == hashlib.sha256(file.read_bytes()).hexdigest()
    assert found.kit_folder == file
    assert resolve_base(str(base_folder)).kit_folder == base_folder
    assert not found.large


def test_a_changed_file_has_another_revision_in_the_same_process(tmp_path: Path) -> None:
    file = make_random_base(tmp_path / "one.safetensors", "tiny-sdxl", form="checkpoint")
    before = resolve_base(str(file)).revision()
    make_random_base(file, "tiny-sdxl", seed=1, form="checkpoint")
    assert resolve_base(str(file)).revision() != before


def test_the_wrong_generation_is_said() -> None:
    check_version("sdxl", "xl", name="a")
    check_version("mini", "1.5", name="mini")
    for family, version in (("sdxl", "1.5"), ("sd15", "xl")):
        with pytest.raises(ConfigError, match="sdx_version") as caught:
            check_version(family, version, name="a")
        assert 'sdx_version: "' in caught.value.remedy


def test_what_is_not_here_says_how_to_get_it() -> None:
    with pytest.raises(BaseError, match="not on this machine") as caught:
        resolve_base("runwayml/stable-diffusion-v1-5")
    assert "talent base fetch stable-diffusion-v1-5/stable-diffusion-v1-5" in caught.value.remedy
    with pytest.raises(BaseError, match="cannot be fetched") as caught:
        resolve_base("someone/model", fetch=True)
    assert "local folder" in caught.value.remedy


def test_a_folder_of_checkpoints_is_not_a_base(tmp_path: Path) -> None:
    (tmp_path / "v1-5.safetensors").write_bytes(b"")
    with pytest.raises(BaseError, match="no unet") as caught:
        resolve_base(str(tmp_path))
    assert "v1-5.safetensors" in caught.value.remedy


def test_of_all_that_a_repository_offers_only_the_needed_is_taken() -> None:
    parts = ("unet", "vae", "text_encoder")
    offered = ["README.md", "v1-5-pruned.safetensors", "v1-5-pruned.ckpt", "model_index.json"]
    offered += ["tokenizer/vocab.json", "tokenizer/merges.txt", "scheduler/scheduler_config.json"]
    offered += [f"{part}/config.json" for part in parts]
    plain = [f"{part}/model.safetensors" for part in parts]
    half = [f"{part}/model.fp16.safetensors" for part in parts]
    other = [f"{part}/model.bin" for part in parts] + ["unet/model.non_ema.safetensors"]
    other += ["safety_checker/model.safetensors", "vae/onnx/model.safetensors"]
    wanted = set(needed_files([*offered, *plain, *half, *other]))
    assert wanted == {*offered[3:], *plain}
    assert set(needed_files([*offered, *half, *other])) == {*offered[3:], *half}
    assert needed_files([*offered, *other]) == []


class _Hub(BaseHTTPRequestHandler):
    """The three questions that a download asks, answered from a folder."""

    folder: Path
    asked: list[str]

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        import json

        self.asked.append(self.path)
        headers = {"X-Repo-Commit": COMMIT}
        if self.path.startswith("/api/models/"):
            names = sorted(
                p.relative_to(self.folder).as_posix() for p in self.folder.rglob("*") if p.is_file()
            )
            names += ["unet/diffusion_pytorch_model.bin", "README.md"]
            siblings = [{"rfilename": name, "size": 1} for name in names]
            document: Any = {"id": "someone/model", "sha": COMMIT, "siblings": siblings}
            if "/tree/" in self.path:
                document = [{"type": "file", "path": name, "size": 1, "oid": name} for name in names]
            data = json.dumps(document).encode()
        else:
            file = self.folder / self.path.split(f"/resolve/{COMMIT}/")[-1].split("/resolve/main/")[-1]
            data = file.read_bytes() if file.is_file() else b""
            headers["ETag"] = f'"{hashlib.sha256(data).hexdigest()}"'
        self.send_response(200)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        del format, args


@pytest.fixture
def hub(base_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A hub on this machine that has the random base; yields what it was asked for."""
    from huggingface_hub import constants

    handler = type("Handler", (_Hub,), {"folder": base_folder, "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    # the other way of fetching speaks a protocol of its own
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(
        constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        constants.ENDPOINT + "/{repo_id}/resolve/{revision}/{filename}",
    )
    yield handler.asked  # type: ignore[attr-defined]
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_model_is_fetched_once_and_then_found_without_network(
    hub: list[str], base_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(resolve.MOVED, "old/model", "someone/model")
    with pytest.raises(BaseError, match="not on this machine"):
        resolve_base("old/model")
    assert hub == []
    found = resolve_base("old/model", fetch=True)
    assert "someone/model is the same model" in found.note
    assert found.revision() == resolve_base(str(base_folder)).revision()
    assert not any(".bin" in path or "README" in path for path in hub)
    hub.clear()
    again = load_base("old/model", fetch=True)
    assert hub == []
    assert (again.name, again.revision) == ("old/model", found.revision())
    # a download that was broken off is not taken for the model
    (found.path / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(BaseError, match="not on this machine"):
        resolve_base("old/model")


def test_check_and_list(base_folder: Path, tmp_path: Path) -> None:
    file = make_random_base(tmp_path / "bases" / "one.safetensors", "tiny-sdxl", form="checkpoint")
    (tmp_path / "bases" / "broken.safetensors").write_bytes(b"nothing")
    cards = list_bases(tmp_path / "bases")
    assert [card.name for card in cards] == ["mini", str(file)]
    card = check_base(str(base_folder))
    assert (card.family, card.form, card.prediction) == ("sd15", "folder", "epsilon")
    assert card.revision == load_base(base_folder).revision
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(BaseError, match="cut short"):
        check_base(str(file))
