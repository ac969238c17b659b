"""Search by meaning: what is encoded, when again, and how words, texts and pictures find together."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kit_maker import make_spec, make_tensors, write_lora
from talent_factory.core.errors import FileError
from talent_factory.kits import keys
from talent_factory.kits.catalog import matrix, stamps
from talent_factory.kits.catalog.catalog import Catalog
from talent_factory.kits.catalog.choice import Wish
from talent_factory.kits.catalog.database import discard
from talent_factory.kits.catalog.encoder import ColourEncoder, Pictures, Vectors
from talent_factory.kits.catalog.meaning import Meaning
from talent_factory.kits.catalog.vectors import read_picture
from talent_factory.kits.pack import pack_kit

ROSE, SEA, MOSS = "avatar.style.rose", "avatar.style.sea", "avatar.style.moss"
COLOURS = {ROSE: (200, 30, 40), SEA: (40, 80, 200), MOSS: (50, 150, 60)}


class Counting(ColourEncoder):
    """Counts what it is asked to look at."""

    def __init__(self, revision: str = "1") -> None:
        self.revision = revision
        self.pictures = 0
        self.read: list[str] = []

    def embed(self, pictures: Pictures) -> Vectors:
        self.pictures += len(pictures)
        return super().embed(pictures)

    def texts(self, texts: Sequence[str]) -> Vectors:
        self.read += texts
        return super().texts(texts)


def made(root: Path, base: Path, name: str, *, shades: int = 3, **fields: Any) -> None:
    """A style kit whose examples all show its colour, each a little otherwise."""
    work = root.parent / "work"
    lora = write_lora(work / "lora.safetensors", make_tensors(base))
    pictures = []
    for number in range(shades):
        colour = tuple(min(255, part + 3 * number) for part in COLOURS[name])
        pictures.append(work / f"{number}.png")
        Image.new("RGB", (40, 24), colour).save(pictures[-1])
    spec = make_spec(id=name, token=None, **{"description": "", "tags": (), **fields})
    pack_kit(spec, lora=lora, examples=pictures, root=root, base_folder=base)


@pytest.fixture
def root(tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(keys, "MINI_FOLDER", base)
    monkeypatch.setattr(stamps, "SETTLED_NS", 0)
    root = tmp_path / "talents" / "avatar"
    made(root, base, ROSE, description="velvet")
    made(root, base, SEA, description="storms at night")
    made(root, base, MOSS, description="a crimson king")
    return root


def test_pictures_answer_words_that_no_text_holds(root: Path) -> None:
    with Catalog(root) as catalog:
        catalog.update()
        meaning = Meaning(catalog, Counting())
        assert meaning.update() == 3
        assert catalog.search("blue") == []
        found = meaning.search("blue")
        assert [(hit.id, hit.by) for hit in found] == [(SEA, ("pictures",))]


def test_what_words_texts_and_pictures_agree_on_stands_first(root: Path) -> None:
    with Catalog(root) as catalog:
        catalog.update()
        meaning = Meaning(catalog, Counting())
        meaning.update()
        found = meaning.search("crimson")
        assert [(hit.id, hit.by) for hit in found] == [(MOSS, ("words", "texts")), (ROSE, ("pictures",))]
        assert [hit.id for hit in meaning.search("crimson", limit=1)] == [MOSS]
        assert [hit.id for hit in meaning.search("velvet")] == [ROSE]
        assert meaning.search("zzzzz") == []


def test_a_picture_finds_kits_that_look_like_it(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "meadow.jpg"
    Image.new("RGB", (900, 700), (60, 140, 70)).save(path)
    picture = read_picture(path)
    assert max(picture.shape) == 512
    with Catalog(root) as catalog:
        catalog.update()
        meaning = Meaning(catalog, Counting())
        meaning.update()
        assert [hit.id for hit in meaning.search("", picture=picture)] == [MOSS]
        assert meaning.search("", picture=picture, wish=Wish(valid=True, kind="identity")) == []
    path.write_text("no picture")
    with pytest.raises(FileError, match="no readable picture"):
        read_picture(path)


def test_only_what_changed_is_encoded_again(root: Path, base: Path) -> None:
    eye = Counting()
    with Catalog(root) as catalog:
        catalog.update()
        assert Meaning(catalog, eye).update() == 3
        assert eye.pictures == 9  # the preview is the first example
        assert Meaning(catalog, eye).update() == 0
        eye.read.clear()
        made(root, base, SEA, description="calm water")
        catalog.update()
        assert Meaning(catalog, eye).update() == 1
        assert (eye.pictures, eye.read) == (9, ["calm water"])
        made(root, base, SEA, shades=2, description="calm water")
        shutil.rmtree(root / MOSS)
        catalog.update()
        Meaning(catalog, eye).update()
        assert eye.pictures == 9
        kept = catalog.connection().execute("SELECT count(*) FROM vectors WHERE source LIKE 'pictures:%'")
        assert kept.fetchone() == (5,)


def test_other_weights_look_for_themselves(root: Path) -> None:
    with Catalog(root) as catalog:
        catalog.update()
        Meaning(catalog, Counting()).update()
        other = Counting(revision="2")
        assert Meaning(catalog, other).search("blue") == []
        assert Meaning(catalog, other).update() == 3
        assert [hit.id for hit in Meaning(catalog, other).search("blue")] == [SEA]


def test_the_nearest_of_all_rows_is_found_exactly(root: Path) -> None:
    with Catalog(root) as catalog:
        catalog.update()
        meaning = Meaning(catalog, Counting())
        meaning.update()
        shown = meaning._matrix("pictures")
        question = ColourEncoder().texts(["green and blue"])[0]
        slow = [max(float(row @ question) for row in part) for part in np.split(shown.rows, shown.starts[1:])]
        assert shown.best(question).tolist() == pytest.approx(slow)


def test_vectors_are_mapped_from_a_file_while_nothing_changed(
    root: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matrix, "WORTH_A_FILE", 1)
    cache = root.parents[1] / "cache"

    def files() -> set[str]:
        return {path.name for path in cache.glob("*.npy")}

    with Catalog(root) as catalog:
        catalog.update()
        Meaning(catalog, Counting()).update()
        before = files()
        assert len(before) == 2  # texts and pictures
        slow = matrix._read
        monkeypatch.setattr(matrix, "_read", None)
        found = Meaning(catalog, Counting())
        assert [hit.id for hit in found.search("blue")] == [SEA]
        assert isinstance(found._matrix("pictures").rows, np.memmap)
        monkeypatch.setattr(matrix, "_read", slow)
        # one that does not hold what its name says is no file of ours
        for name in before:
            (cache / name).write_bytes(b"x")
        assert [hit.id for hit in Meaning(catalog, Counting()).search("blue")] == [SEA]
        # another state of the catalog has other files, and those of the old one go
        shutil.rmtree(root / SEA)
        catalog.update()
        assert Meaning(catalog, Counting()).search("blue") == []
        made(root, base, SEA)
        catalog.update()
        again = Meaning(catalog, Counting())
        assert again.update() == 1
        assert [hit.id for hit in again.search("blue")] == [SEA]
        assert len(files()) == 2
        assert not files() & before
    assert discard(cache / "kits.sqlite")
    assert list(cache.iterdir()) == []
