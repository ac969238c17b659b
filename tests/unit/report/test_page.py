"""The page stands alone, escapes what users wrote and can be read without eyes."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from page_maker import make_content
from talent_factory.core.errors import FileError
from talent_factory.report.page import render_page, write_choice_page, write_report

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)> {{ 7*7 }} & \'"'


class Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def html(tmp_path: Path) -> str:
    return render_page(make_content(tmp_path))


def test_the_page_asks_the_network_for_nothing(html: str) -> None:
    page = Page(html)
    for _, attributes in page.tags:
        for name in ("src", "href", "srcset", "poster", "action", "data"):
            value = attributes.get(name, "")
            assert not value or value.startswith(("data:", "#")), value
    assert not re.search(r"url\(|@import|https?://", re.sub(r"data:[^\"]*", "", html))


def test_the_policy_allows_just_our_own_style_and_script(html: str) -> None:
    page = Page(html)
    policy = next(meta["content"] for meta in page.all("meta") if "http-equiv" in meta)
    assert policy.startswith("default-src 'none'; img-src data:")
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", html, flags=re.S)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    # a policy without unsafe-inline would ignore these
    assert not any("style" in attributes for _, attributes in page.tags)
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)


def test_hostile_texts_are_only_text(tmp_path: Path) -> None:
    page = Page(render_page(make_content(tmp_path, name=HOSTILE, text=HOSTILE)))
    assert len(page.all("script")) == 1
    assert not any("onerror" in attributes for attributes in page.all("img"))
    assert HOSTILE in page.text


def test_the_page_can_be_read_without_eyes(html: str) -> None:
    page = Page(html)
    assert page.all("html")[0]["lang"] == "en"
    viewer = page.all("img")[-1]
    assert viewer["src"] == "data:,"
    assert all(image["alt"] for image in page.all("img")[:-1])
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    for _, attributes in page.tags:
        for name in ("aria-labelledby", "aria-describedby"):
            assert set(attributes.get(name, "").split()) <= ids
    assert {link["href"].removeprefix("#") for link in page.all("a")} <= ids


def test_augmentations_are_called_so(html: str) -> None:
    # once to explain the badge, once on the one augmented picture
    assert len(re.findall(r'class="badge">augmentation', html)) == 2


def test_small_pictures_keep_their_bytes_and_large_ones_shrink(tmp_path: Path) -> None:
    content = make_content(tmp_path)
    html = render_page(content)
    assert base64.b64encode((tmp_path / "kit.png").read_bytes()).decode() in html
    assert base64.b64encode((tmp_path / "portrait.png").read_bytes()).decode() not in html
    assert 'width="720" height="560"' in html


def test_a_page_without_mix_loss_and_pairs_is_whole(tmp_path: Path) -> None:
    bare = make_content(tmp_path).model_copy(
        update={"mixes": (), "loss": (), "pairs": (), "hero": None, "choice": None}
    )
    page = Page(render_page(bare))
    assert {link["href"] for link in page.all("a")} == {"#main", "#cast", "#training", "#kit"}


def test_a_lost_picture_is_named(tmp_path: Path) -> None:
    content = make_content(tmp_path)
    (tmp_path / "kit.png").write_text("no picture")
    with pytest.raises(FileError, match=r"kit\.png"):
        write_report(content, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_the_choice_stands_on_the_page_and_alone_with_every_picture(tmp_path: Path) -> None:
    content = make_content(tmp_path)
    assert content.choice is not None
    alone = write_choice_page(content.choice, tmp_path / "choice.html").read_text()
    for html in (render_page(content), alone):
        assert html.count("<td><img ") == 2 * (3 + 2)
        assert html.count('class="ships"') == 2  # the checkpoint, and the strength
        assert "chosen by a person" in html
        assert "3 held-out images" in html
    page = Page(alone)
    assert all(image["alt"] for image in page.all("img") if not image["src"].startswith("data:,"))
    assert all(image["src"].startswith("data:") for image in page.all("img"))
    # two halves of one sheet: what is cut out differs in its place only, so here it is the same picture
    assert len({image["src"] for image in page.all("img") if "webp" in image["src"]}) == 1


def test_a_choice_of_hostile_words_stays_words(tmp_path: Path) -> None:
    content = make_content(tmp_path, name=HOSTILE, text=HOSTILE).choice
    assert content is not None
    page = Page(write_choice_page(content, tmp_path / "choice.html").read_text())
    assert len(page.all("script")) == 1
    assert not any("onerror" in attributes for _, attributes in page.tags)
    assert "{{ 7*7 }}" in page.text


def test_a_missing_sheet_is_named(tmp_path: Path) -> None:
    content = make_content(tmp_path)
    (tmp_path / "sheet.png").unlink()
    with pytest.raises(FileError, match=r"sheet\.png cannot be shown"):
        render_page(content)
