"""`talent cast` and `talent dataset`: what a person types, sees and gets as an exit code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cast_maker import BlockEditor, png_header, write_face
from talent_factory.cli.app import run
from talent_factory.core.errors import ProviderError

Talent = Callable[..., tuple[int, Any, str]]


@pytest.fixture
def editor(monkeypatch: pytest.MonkeyPatch) -> BlockEditor:
    """A quick provider in the place of the embedded painter."""
    quick = BlockEditor()
    monkeypatch.setattr("talent_factory.providers.embedded.EmbeddedPainter", lambda: quick)
    return quick


@pytest.fixture
def talent(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Talent:
    """Run `talent ... --json` in a workspace of its own; returns exit code, document and stderr."""
    monkeypatch.setenv("TALENT_WORKSPACE", str(tmp_path / "space"))

    def call(*words: str | Path, as_json: bool = True) -> tuple[int, Any, str]:
        code = run(["--quiet", *map(str, words), *(["--json"] if as_json else [])])
        out, err = capfd.readouterr()
        return code, json.loads(out) if as_json else out, err

    return call


def test_from_portrait_to_dataset(talent: Talent, editor: BlockEditor, tmp_path: Path) -> None:
    portrait = write_face(tmp_path / "face.jpg")
    words = ("cast", "actor", portrait, "--token", "dot", "--sex", "woman", "--long-side", "160")
    told = ("--portrait-medium", "flat", "--portrait-words", "smiling, Teal Shirt")
    code, made, _ = talent(*words, *told)
    assert code == 0
    assert made["total_training_images"] == made["target_training_images"] == 17
    assert made["failed"] == []
    assert Path(made["cast"]) == tmp_path / "space" / "casts" / "dot"
    assert all(Path(image).is_file() for image in made["images"])
    assert Path(made["contact_sheet"]).is_file()
    editor.painted.clear()
    assert talent(*words, *told)[1] == made
    assert editor.painted == []

    code, data, _ = talent("dataset", "prepare", made["cast"])
    assert (code, data["images"], data["augmented"], data["token"]) == (0, 17, 2, "dot")
    assert talent("dataset", "prepare", made["cast"])[1] == data
    code, verdict, _ = talent("dataset", "check", data["dataset"])
    assert (code, verdict["verdict"] in ("ok", "warn")) == (0, True)
    code, shown, _ = talent("dataset", "show", data["dataset"])
    assert shown["items"][13]["caption"].endswith("smiling, teal shirt")
    code, exported, _ = talent("dataset", "export", data["dataset"], "--out", tmp_path / "kohya")
    assert len(list((tmp_path / "kohya").glob("*/*.txt"))) == exported["images"] == 17
    # images in colour stand more often than those without, as kohya's folder names say
    assert {folder.name for folder in (tmp_path / "kohya").iterdir()} == {f"{n}_dot woman" for n in (1, 2, 4)}


def test_what_a_person_reads(talent: Talent, editor: BlockEditor, tmp_path: Path) -> None:
    portrait = write_face(tmp_path / "face.png", (200, 200))
    code, text, _ = talent("cast", "actor", portrait, "-t", "dot", "--long-side", "64", as_json=False)
    assert code == 0
    assert "17 of 17 images; 2 of 17 made by augmentation" in text
    assert "portrait: small" in text
    folder = str(tmp_path / "space" / "casts" / "dot")
    assert f"next: talent dataset prepare {folder}" in text
    code, text, _ = talent("dataset", "prepare", folder, as_json=False)
    assert "17 images of dot person at 128 px" in text
    data = tmp_path / "space" / "datasets" / "dot"
    assert "augmentation" in talent("dataset", "show", data, as_json=False)[1]
    assert "mixture" in talent("dataset", "check", data, as_json=False)[1]


def test_a_partial_cast_leaves_with_three(talent: Talent, editor: BlockEditor, tmp_path: Path) -> None:
    editor.broken = {"comic": ProviderError("flagged as sensitive")}
    words = ("cast", "actor", write_face(tmp_path / "face.png"), "--token", "dot", "--long-side", "64")
    code, made, _ = talent(*words)
    assert code == 3
    assert made["failed"] == [{"slot": "comic", "number": 14, "message": "flagged as sensitive"}]
    code, text, _ = talent(*words, as_json=False)
    assert code == 3
    assert f"talent cast resume {tmp_path / 'space' / 'casts' / 'dot'}" in text
    editor.broken.clear()
    assert talent(*words)[0] == 0


def test_a_dry_run_shows_the_plan_and_does_nothing(
    talent: Talent, editor: BlockEditor, tmp_path: Path
) -> None:
    words = ("cast", "actor", write_face(tmp_path / "face.png"), "--token", "dot", "--dry-run")
    code, plan, _ = talent(*words)
    assert code == 0
    assert len(plan["steps"]) == 17
    assert plan["totals"]["cost_usd"] == 0
    code, text, _ = talent(*words, as_json=False)
    assert "actor-17" in text or "17 images" in text
    assert not (tmp_path / "space").exists()
    assert editor.painted == []


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--token", "Dot"), 2, "token"),
        (("--token", "../dot"), 2, "token"),
        (("--token", "dot", "--actor-type", "alien"), 2, "alien"),
        (("--token", "dot", "--sex", "lady"), 2, "lady"),
        (("--token", "dot", "--recipe", "actor-99"), 2, "actor-99"),
        (("--token", "dot", "--seed", "-1"), 2, "seed"),
        (("--token", "dot", "--aspect", "99:1"), 2, "99:1"),
        (("--token", "dot", "--user-id", "../ada"), 2, "user id"),
        (("--token", "dot", "--actor-id", "a\nb"), 2, "actor id"),
        (("--token", "dot", "--models-file", "no_rows.toml"), 2, "no_rows.toml"),
        ((), 2, "--token"),
    ],
)
def test_bad_options_are_one_line_and_write_nothing(
    talent: Talent, editor: BlockEditor, tmp_path: Path, words: tuple[str, ...], code: int, message: str
) -> None:
    left, document, err = talent("cast", "actor", write_face(tmp_path / "face.png"), *words)
    assert left == code
    assert message in document["error"]["message"]
    assert err.startswith("error: ")
    assert err.splitlines()[1].startswith("next: ")
    assert "Traceback" not in err
    assert not (tmp_path / "space").exists()


def test_bad_portraits_are_one_line_with_a_remedy(
    talent: Talent, editor: BlockEditor, tmp_path: Path
) -> None:
    bomb = tmp_path / "bomb.png"
    bomb.write_bytes(png_header(30_000, 30_000))
    cut = write_face(tmp_path / "cut.jpg", (800, 800))
    cut.write_bytes(cut.read_bytes()[:900])
    dot = write_face(tmp_path / "dot.png", (1, 1))
    (tmp_path / "text.jpg").write_text("no picture")
    for portrait in (bomb, cut, dot, tmp_path / "text.jpg", tmp_path / "none.png", tmp_path):
        code, document, err = talent("cast", "actor", portrait, "--token", "dot")
        assert code == 1
        assert document["error"]["kind"] == "PortraitError"
        assert str(portrait) in document["error"]["message"]
        assert document["error"]["remedy"]
        assert len(err.splitlines()) == 2
    assert not (tmp_path / "space" / "casts").exists()


def test_a_folder_of_ones_own(talent: Talent, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    write_face(folder / "a.png")
    code, document, _ = talent("dataset", "prepare", folder, "--token", "dot")
    assert (code, document["error"]["kind"]) == (1, "DatasetError")
    (folder / "a.txt").write_text("dot on a green hill")
    code, made, _ = talent("dataset", "prepare", folder, "--token", "dot", "--class-noun", "man")
    assert (code, made["images"], made["mode"]) == (0, 1, "crop")
    assert Path(made["dataset"]).parent == tmp_path / "space" / "datasets"
    out = tmp_path / "there"
    style = ("--kind", "style", "--mode", "bucket", "--resolution", "256", "--out", out)
    assert talent("dataset", "prepare", folder, *style)[1]["dataset"] == str(out)
    (out / "images" / "01.png").unlink()
    code, found, _ = talent("dataset", "check", out)
    assert (code, found["verdict"]) == (1, "error")
    for words in (("--mode", "stretch"), ("--kind", "thing"), ("--token", "")):
        assert talent("dataset", "prepare", folder, *words)[0] == 2
    assert talent("dataset", "show", folder)[0] == 1


@pytest.mark.slow
def test_the_embedded_painter_casts_a_real_photograph(talent: Talent, tmp_path: Path) -> None:
    import skimage.data

    Image.fromarray(skimage.data.astronaut()).save(tmp_path / "astronaut.png")
    words = ("--token", "eileen", "--sex", "woman", "--long-side", "320", "--portrait-medium", "photo")
    code, made, _ = talent("cast", "actor", tmp_path / "astronaut.png", *words)
    assert (code, made["total_training_images"], made["augmented"]) == (0, 17, 7)
    code, data, _ = talent("dataset", "prepare", made["cast"])
    assert (code, data["images"], data["findings"]) == (0, 17, [])
