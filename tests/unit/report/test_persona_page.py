"""The page of a persona stands alone and escapes what users wrote."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import pytest
from PIL import Image

from talent_factory.core.errors import FileError
from talent_factory.report.content import MixCell, NamedText
from talent_factory.report.page import write_persona_page
from talent_factory.report.persona import DialRow, KitRow, PersonaContent, Swatch

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)> {{ 7*7 }} & \'"'


@pytest.fixture
def content(tmp_path: Path) -> PersonaContent:
    """A persona with every section, all its texts hostile."""
    picture = tmp_path / "one.png"
    Image.new("RGB", (32, 32), (40, 90, 120)).save(picture)
    cell = MixCell(label=HOSTILE, path=picture)
    named = (NamedText(name=HOSTILE, text=HOSTILE),)
    return PersonaContent(
        id="kairo",
        version="1.2.0",
        lead=HOSTILE,
        hero=picture,
        kits=(KitRow(id="avatar.style.wobble", weight=0.25, most=0.5, digest="0123456789ab"),),
        dials=(DialRow(name="mecha", low=HOSTILE, high=HOSTILE, value=0.25),),
        across="mecha",
        prompt=HOSTILE,
        grid=((cell, cell, cell),),
        pictures=(cell,),
        palette=(Swatch(name="primary", colour="#00A8FF"),),
        words=named,
        prompts=(HOSTILE,),
        facts=named,
        command="talent persona render kairo",
    )


def test_the_page_stands_alone_and_escapes_all_texts(content: PersonaContent, tmp_path: Path) -> None:
    html = write_persona_page(content, tmp_path / "page.html").read_text("utf-8")
    assert "<script>alert" not in html
    assert "onerror=alert(2)>" not in html
    assert "{{ 7*7 }}" in html
    assert not re.search(r"(?:src|href)=\"(?!data:|#)", html)
    assert html.count("<img") == 6
    assert 'cx="60.0"' in html
    assert 'fill="#00A8FF"' in html
    assert "default-src 'none'" in unescape(html)


def test_a_persona_without_sliders_has_no_range(content: PersonaContent, tmp_path: Path) -> None:
    bare = content.model_copy(update={"dials": (), "grid": (), "across": "", "palette": (), "words": ()})
    html = write_persona_page(bare, tmp_path / "page.html").read_text("utf-8")
    assert "Across the sliders" not in html
    assert "Manner" not in html


def test_a_missing_picture_is_named(content: PersonaContent, tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"gone\.png"):
        write_persona_page(content.model_copy(update={"hero": tmp_path / "gone.png"}), tmp_path / "page.html")
