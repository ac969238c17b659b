"""Introductions use the kits' own words, and their sheets show every picture."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from talent_factory.core.errors import UsageError
from talent_factory.core.events import SilentReporter
from talent_factory.foundry.asked import read_prompt_file, read_size
from talent_factory.foundry.discover import Kit
from talent_factory.foundry.kinds import KINDS, lay_out, plates_of, templates, usual_size
from talent_factory.foundry.render import Shot
from talent_factory.foundry.session import prepare, shoot
from talent_factory.training.resolve import resolve_base


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("drawn", [True, False])
def test_every_plate_has_places_for_the_actor_and_the_style(kind: str, drawn: bool) -> None:
    plates = templates(kind, drawn=drawn)
    assert all("{subject}" in plate.prompt and "{style}" in plate.prompt for plate in plates)
    assert len({plate.title for plate in plates}) == len(plates)


def test_the_words_of_the_kits_stand_in_the_prompts(identity: Kit, style: Kit) -> None:
    for drawn in (True, False):
        for plate in plates_of("expressions", [identity, style], drawn=drawn):
            assert "dot_test" in plate.prompt
            assert "{" not in plate.prompt
            assert not plate.prompt.endswith(",")
    worded = style.model_copy(update={"manifest": style.manifest.model_copy(update={"token": "wobble"})})
    (hero,) = plates_of("hero", [identity, worded], drawn=True)
    assert hero.prompt.startswith("wobble portrait of a dot_test")
    (alone,) = plates_of("full-body", [worded], drawn=False)
    assert alone.prompt.startswith("full body of person")


def test_a_kits_own_portrait_is_its_hero(identity: Kit) -> None:
    (hero,) = plates_of("hero", [identity], drawn=True)
    assert hero.prompt == identity.prompts.positive_prompts[0]
    (figure,) = plates_of("full-body", [identity], drawn=True)
    assert figure.prompt.startswith("flat full body of a dot_test")


def test_small_bases_keep_their_size(base_folder: Path) -> None:
    assert usual_size("full-body", resolve_base(str(base_folder))) == {}
    assert usual_size("full-body", resolve_base("mini")) == {}


def test_a_session_of_a_kind_has_titles_for_all_images(
    base_folder: Path, talents: Path, identity: Kit, tmp_path: Path
) -> None:
    session = prepare(
        [identity.id],
        root=talents,
        base=str(base_folder),
        prompts=(),
        seeds=(3,),
        options={"steps": 1},
        kind="character-sheet",
    )
    images, page = shoot(session, out=tmp_path, reporter=SilentReporter())
    assert len(images) == len(session.titles) == 5
    with Image.open(page) as sheet:
        # the large picture, and two columns of small ones beside it
        assert sheet.width > sheet.height > 640
    with pytest.raises(UsageError, match="prompts of its own"):
        prepare(
            [identity.id],
            root=talents,
            base=str(base_folder),
            prompts=("a",),
            seeds=(1,),
            options={},
            kind="hero",
        )
    with pytest.raises(UsageError, match="no kind 'portrait'"):
        prepare(
            [identity.id],
            root=talents,
            base=str(base_folder),
            prompts=(),
            seeds=(1,),
            options={},
            kind="portrait",
        )


def test_expressions_make_a_square(tmp_path: Path) -> None:
    paths = []
    for number in range(9):
        paths.append(tmp_path / f"{number}.png")
        Image.new("RGB", (16, 16), (20 * number, 90, 30)).save(paths[-1])
    shots = [Shot(prompt="a", seed=number) for number in range(9)]
    sheet = lay_out("expressions", [f"mood {number}" for number in range(9)], shots, paths)
    assert abs(sheet.width - sheet.height) < 100


def test_prompts_come_from_files(tmp_path: Path) -> None:
    lines = tmp_path / "prompts.txt"
    lines.write_text("\ufeffink portrait\n\n# no prompt\n  flat portrait \r\n", encoding="utf-8")
    assert read_prompt_file(lines) == ("ink portrait", "flat portrait")
    own = tmp_path / "prompts.json"
    own.write_text('{"positive_prompts": ["a", "b"], "negative_prompts": ["c"]}')
    assert read_prompt_file(own) == ("a", "b")
    empty = tmp_path / "empty.txt"
    empty.write_text("# nothing\n")
    broken = tmp_path / "broken.json"
    broken.write_text("[1]")
    binary = tmp_path / "binary.txt"
    binary.write_bytes(b"\xff\xfe\x00")
    for path in (empty, broken, binary, tmp_path / "missing.txt", tmp_path):
        with pytest.raises(UsageError):
            read_prompt_file(path)


def test_sizes_are_read() -> None:
    assert read_size("512x768") == (512, 768)
    for text in ("512", "512x", "x", "-8x8", "8 x 8", "123456x8"):
        with pytest.raises(UsageError):
            read_size(text)
