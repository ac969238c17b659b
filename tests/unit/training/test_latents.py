"""The cache of latents is keyed by content, verified on reading, and changes no number."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from talent_factory.core.events import SilentReporter
from talent_factory.dataset.manifest import load_dataset
from talent_factory.training.bank import build_banks
from talent_factory.training.families import Base
from talent_factory.training.latents import LatentSet, Source, cache_key, encode_images, read_image


def _sources(dataset: Path) -> list[Source]:
    return [Source(dataset / item.file, item.sha256) for item in load_dataset(dataset).items]


def _encode(base: Base, dataset: Path, cache: Path, *, mirrored: bool = False) -> LatentSet:
    return encode_images(base, _sources(dataset), mirrored=mirrored, cache=cache, reporter=SilentReporter())


def _draw(latents: LatentSet, *, flip: bool = False) -> torch.Tensor:
    return _pick(latents, [0, 3], torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(0)), flip)


def _pick(latents: LatentSet, items: list[int], noise: torch.Tensor, flip: bool = False) -> torch.Tensor:
    (bank,) = build_banks(latents, None, device=torch.device("cpu")).values()
    rows = [bank.places[item] + (bank.images if flip else 0) for item in items]
    return bank.latents(torch.tensor(rows), noise)


def test_cached_is_fresh(base: Base, dataset: Path, tmp_path: Path) -> None:
    fresh = _draw(_encode(base, dataset, tmp_path / "cache"))
    assert torch.equal(fresh, _draw(_encode(base, dataset, tmp_path / "cache")))
    assert torch.equal(fresh, _draw(_encode(base, dataset, tmp_path / "other")))


def test_a_cached_image_is_not_opened(base: Base, dataset: Path, tmp_path: Path) -> None:
    before = _draw(_encode(base, dataset, tmp_path / "cache"))
    sources = [replace(source, path=Path("gone.png")) for source in _sources(dataset)]
    again = encode_images(base, sources, mirrored=False, cache=tmp_path / "cache", reporter=SilentReporter())
    assert torch.equal(before, _draw(again))


def test_a_cache_that_holds_all_is_told_of_in_one_line(base: Base, dataset: Path, tmp_path: Path) -> None:
    seen: list[int] = []

    class Teller(SilentReporter):
        def progress(self, stage: str, done: int, total: int, *, unit: str = "step", note: str = "") -> None:
            seen.append(done)

    for _ in range(2):
        encode_images(base, _sources(dataset), mirrored=False, cache=tmp_path / "cache", reporter=Teller())
    count = len(_sources(dataset))
    assert seen == [*range(1, count + 1), count]


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty"])
def test_a_damaged_entry_is_made_again(base: Base, dataset: Path, tmp_path: Path, damage: str) -> None:
    cache = tmp_path / "cache"
    before = _draw(_encode(base, dataset, cache))
    for path in cache.iterdir():
        data = bytearray(path.read_bytes())
        data[-3] ^= 0x10
        path.write_bytes({"flip": bytes(data), "truncate": bytes(data[:-40]), "empty": b""}[damage])
    assert torch.equal(before, _draw(_encode(base, dataset, cache)))


def test_the_mean_and_spread_are_the_posterior(base: Base, dataset: Path, tmp_path: Path) -> None:
    latents = _encode(base, dataset, tmp_path / "cache")
    mean, std = base.encode_images(read_image(_sources(dataset)[0].path))
    zero, one = torch.zeros(1, 4, 4, 4), torch.ones(1, 4, 4, 4)
    assert torch.equal(_pick(latents, [0], zero), mean)
    assert torch.equal(_pick(latents, [0], one), mean + std)


def test_mirrored_images_are_encoded_mirrored(base: Base, dataset: Path, tmp_path: Path) -> None:
    latents = _encode(base, dataset, tmp_path / "cache", mirrored=True)
    mean, _ = base.encode_images(read_image(_sources(dataset)[0].path).flip(3))
    assert torch.equal(_pick(latents, [0], torch.zeros(1, 4, 4, 4), True), mean)
    assert not torch.equal(_draw(latents), _draw(latents, flip=True))


def test_the_key_is_made_of_all_that_matters() -> None:
    keys = {cache_key(image, vae, flip=flip) for image in "ab" for vae in "cd" for flip in (True, False)}
    assert len(keys) == 8


def test_a_moved_dataset_uses_the_same_entries(base: Base, dataset: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    _encode(base, dataset, cache)
    names = {path.name for path in cache.iterdir()}
    moved = Path(shutil.move(dataset, tmp_path / "moved"))
    _encode(base, moved, cache)
    assert {path.name for path in cache.iterdir()} == names
