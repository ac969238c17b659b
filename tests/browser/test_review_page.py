"""The review page in a real browser: its script runs under its own policy and shows what was decided."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from cast_maker import write_face
from talent_factory.datagen.review.gallery import apply, open_gallery
from talent_factory.datagen.review.server import ReviewServer

pytestmark = pytest.mark.browser
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")


def test_the_page_shows_images_and_decisions(tmp_path: Path) -> None:
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no Chromium")
    for number, name in enumerate(("a", "b<b>", "c")):
        write_face(tmp_path / "mine" / f"{name}.png", (120, 80 + number))
    gallery = open_gallery(tmp_path / "mine")
    apply(gallery, [(gallery.pictures[0], "keep"), (gallery.pictures[1], "reject")])
    with ReviewServer(gallery).running() as server:
        command = [found, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=8000"]
        done = subprocess.run(
            [*command, "--enable-logging=stderr", "--dump-dom", server.url],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
    assert "3 images · 1 kept · 1 rejected" in done.stdout
    assert "CONSOLE" not in done.stderr
    assert re.search(r"<h2 id=\"title\">03\s+c</h2>", done.stdout), "the first undecided image is shown"
    assert done.stdout.count('src="thumb/') == 3
    assert "<b>" not in done.stdout
