"""A person's word is kept by digest, taken from the page or by number, and given to nobody else."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from cast_maker import BlockEditor, write_face
from talent_factory.core.errors import DatasetError, UsageError
from talent_factory.core.events import SilentReporter
from talent_factory.core.files import sha256_file
from talent_factory.datagen.actor import CastOptions, cast_actor
from talent_factory.datagen.cast import SHEET_FILE, CastManifest, load_cast
from talent_factory.datagen.contact_sheet import sheet_is_current
from talent_factory.datagen.review.book import REVIEW_FILE, Decision, ReviewBook, decide, load_review
from talent_factory.datagen.review.gallery import Gallery, apply, open_gallery
from talent_factory.datagen.review.numbers import choices_from, numbers
from talent_factory.datagen.review.server import ReviewServer

KEEP, REJECT = Decision(choice="keep", image="a.png"), Decision(choice="reject")
ONE, TWO = "1" * 64, "2" * 64


def _cast(folder: Path, *, seed: int = 0) -> CastManifest:
    return cast_actor(
        write_face(folder.parent / "face.png"),
        out=folder,
        token="dot",
        options=CastOptions(long_side=64, seed=seed),
        editor=BlockEditor(),
        reporter=SilentReporter(),
    )


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of three images that no cast made."""
    for number, name in enumerate(("b.jpg", "a.png", "c.webp")):
        write_face(tmp_path / "mine" / name, (60 + number, 40))
    (tmp_path / "mine" / "a.txt").write_text("dot")
    (tmp_path / "mine" / ".hidden.png").write_bytes(b"")
    return tmp_path / "mine"


def test_decisions_are_kept_changed_and_taken_back(tmp_path: Path) -> None:
    assert load_review(tmp_path) == ReviewBook()
    decide(tmp_path, {ONE: KEEP, TWO: REJECT})
    book = load_review(tmp_path)
    assert (book.choice(ONE), book.choice(TWO), book.choice("3" * 64)) == ("keep", "reject", None)
    assert book.rejects(TWO)
    before = (tmp_path / REVIEW_FILE).stat().st_mtime_ns
    decide(tmp_path, {ONE: KEEP})
    assert (tmp_path / REVIEW_FILE).stat().st_mtime_ns == before
    assert decide(tmp_path, {TWO: None, ONE: REJECT}).images == {ONE: REJECT}


@pytest.mark.parametrize("text", ["{", '{"version": 2}', '{"images": {"../x": {"choice": "keep"}}}', "[]"])
def test_a_damaged_book_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / REVIEW_FILE).write_text(text, "utf-8")
    with pytest.raises(DatasetError, match="review"):
        load_review(tmp_path)


def test_decisions_survive_casting_anew(tmp_path: Path) -> None:
    folder = tmp_path / "cast"
    made = _cast(folder)
    gallery = open_gallery(folder)
    apply(gallery, [(gallery.pictures[2], "reject"), (gallery.pictures[4], "keep")])
    assert sheet_is_current(load_cast(folder), folder / SHEET_FILE)
    other = _cast(folder, seed=7)
    assert not any(load_review(folder).choice(slot.sha256) for slot in other.slots)
    again = _cast(folder)
    assert [slot.sha256 for slot in again.slots] == [slot.sha256 for slot in made.slots]
    chosen = {slot.number: load_review(folder).choice(slot.sha256) for slot in again.slots}
    assert {number: choice for number, choice in chosen.items() if choice} == {3: "reject", 5: "keep"}


def test_any_folder_of_images_can_be_reviewed(pictures: Path) -> None:
    gallery = open_gallery(pictures)
    assert [picture.path.name for picture in gallery.pictures] == ["a.png", "b.jpg", "c.webp"]
    apply(gallery, [(gallery.pictures[1], "reject")])
    assert load_review(pictures).rejects(sha256_file(pictures / "b.jpg"))
    assert not (pictures / SHEET_FILE).exists()


def test_folders_that_cannot_be_reviewed_say_why(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such folder"):
        open_gallery(tmp_path / "none")
    with pytest.raises(DatasetError, match="no finished images"):
        open_gallery(tmp_path)
    (tmp_path / "dataset.json").write_text("{}")
    with pytest.raises(DatasetError, match="prepared dataset"):
        open_gallery(tmp_path)


def test_numbers_are_read_as_people_write_them(pictures: Path) -> None:
    assert numbers("1, 2,5-7,") == [1, 2, 5, 6, 7]
    assert numbers("") == []
    for wrong in ("x", "1;2", "-3", "7-5", "1-99999", "1.5"):
        with pytest.raises(UsageError):
            numbers(wrong)
    gallery = open_gallery(pictures)
    chosen = choices_from(gallery, keep="1", reject="3", clear="2")
    assert [(picture.number, choice) for picture, choice in chosen] == [(1, "keep"), (3, "reject"), (2, None)]
    with pytest.raises(UsageError, match="no image 4, 9"):
        choices_from(gallery, keep="1,4,9", reject="", clear="")
    with pytest.raises(UsageError, match="two ways"):
        choices_from(gallery, keep="1-2", reject="2", clear="")


class _Browser:
    """What a page in a browser can send to the server, and what a stranger would try."""

    def __init__(self, server: ReviewServer) -> None:
        self.server = server
        self.base = urlsplit(server.url).path

    def ask(
        self, method: str, path: str, body: object = None, **headers: str
    ) -> tuple[int, bytes, http.client.HTTPMessage]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=120)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if method == "POST":
            sent.setdefault("Content-Type", "application/json")
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        try:
            connection.request(method, path, data, sent)
            answer = connection.getresponse()
            return answer.status, answer.read(), answer.headers
        finally:
            connection.close()

    def get(self, route: str) -> tuple[int, bytes, http.client.HTTPMessage]:
        return self.ask("GET", self.base + route)

    def post(self, route: str, body: object, **headers: str) -> int:
        return self.ask("POST", self.base + route, body, **headers)[0]


@pytest.fixture
def browser(pictures: Path) -> Iterator[_Browser]:
    with ReviewServer(open_gallery(pictures)).running() as server:
        yield _Browser(server)


def test_the_page_shows_and_decides(browser: _Browser, pictures: Path) -> None:
    status, page, headers = browser.get("")
    assert status == 200
    assert b"page.js" in page
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["Cache-Control"] == "no-store"
    for asset, kind in (("page.js", "text/javascript"), ("page.css", "text/css")):
        assert browser.get(asset)[2]["Content-Type"].startswith(kind)
    state = json.loads(browser.get("data.json")[1])
    first = state["images"][0]
    assert (first["number"], first["title"], first["choice"], first["verdict"]) == (
        1,
        "a",
        None,
        "not_measured",
    )
    assert browser.get(f"image/{first['sha256']}")[1] == (pictures / "a.png").read_bytes()
    assert browser.get(f"thumb/{first['sha256']}")[1].startswith(b"\xff\xd8")
    for choice, kept in (("keep", "keep"), ("reject", "reject"), ("clear", None)):
        assert browser.post("decide", {"sha256": first["sha256"], "choice": choice}) == 200
        assert load_review(pictures).choice(first["sha256"]) == kept
        assert json.loads(browser.get("data.json")[1])["images"][0]["choice"] == kept
    assert not browser.server.done.is_set()
    assert browser.post("done", {}) == 200
    assert browser.server.done.wait(120)


def test_strangers_learn_and_change_nothing(browser: _Browser, pictures: Path) -> None:
    sha = json.loads(browser.get("data.json")[1])["images"][0]["sha256"]
    wish = {"sha256": sha, "choice": "reject"}
    assert browser.ask("GET", "/")[0] == 403
    assert browser.ask("GET", "/data.json")[0] == 403
    assert browser.ask("GET", f"/{'x' * 32}/data.json")[0] == 403
    assert browser.ask("GET", browser.base + "data.json", Host="evil.example")[0] == 403
    assert browser.ask("POST", f"/wrong/{'decide'}", wish)[0] == 403
    assert browser.post("decide", wish, Origin="http://evil.example") == 400
    assert browser.post("decide", wish, Content_Type="text/plain") == 400
    assert browser.post("decide", wish, Sec_Fetch_Site="cross-site") == 400
    assert load_review(pictures) == ReviewBook()


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b"\xff", b'{"sha256": "' + b"1" * 64 + b'", "choice": "keep"}', b"[" * 3000, b"x" * 5000],
)
def test_nonsense_is_refused(browser: _Browser, pictures: Path, body: bytes) -> None:
    assert browser.post("decide", body) == 400
    assert load_review(pictures) == ReviewBook()


def test_paths_lead_nowhere(browser: _Browser) -> None:
    for route in ("image/../../face.png", "image/", "source", "page.py", "../x", "thumb/" + "0" * 64):
        assert browser.get(route)[0] == 404
    assert browser.post("nothing", {}) == 404


def test_an_image_that_vanished_or_broke_is_not_found(browser: _Browser, pictures: Path) -> None:
    images = json.loads(browser.get("data.json")[1])["images"]
    (pictures / "a.png").unlink()
    (pictures / "b.jpg").write_bytes(b"no picture")
    for image in images[:2]:
        assert browser.get(f"image/{image['sha256']}")[0] == 404
        assert browser.get(f"thumb/{image['sha256']}")[0] == 404


def test_a_taken_port_is_said(pictures: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UsageError, match="cannot be listened on"):
            ReviewServer(open_gallery(pictures), port=taken.getsockname()[1])


def test_the_portrait_stands_beside_a_cast(tmp_path: Path) -> None:
    _cast(tmp_path / "cast")
    gallery: Gallery = open_gallery(tmp_path / "cast")
    with ReviewServer(gallery).running() as server:
        browser = _Browser(server)
        state = json.loads(browser.get("data.json")[1])
        assert (state["source"], len(state["images"]), state["name"]) == (True, 17, "dot")
        assert browser.get("source")[0] == 200
