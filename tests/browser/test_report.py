"""The report page in a real browser: it lays out, obeys its own policy and asks the network for nothing."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from page_maker import make_content
from talent_factory.report.page import write_report

pytestmark = pytest.mark.browser
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    # whatever the page might ask for must fail
    "--host-resolver-rules=MAP * ~NOTFOUND",
)


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """A report with all its sections."""
    hostile = '<script>document.title="broken"</script>'
    return write_report(make_content(tmp_path, text=hostile), tmp_path / "report.html")


def browse(page: Path, *arguments: str) -> str:
    """Open the page in Chromium with a profile of its own; returns what it prints, console included."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert chromium, "no Chromium here; on Debian: apt-get install chromium"
    profile = page.parent / "profile"
    call = [
        chromium,
        *FLAGS,
        f"--user-data-dir={profile}",
        "--enable-logging=stderr",
        *arguments,
        page.as_uri(),
    ]
    done = subprocess.run(call, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout + done.stderr


def test_the_policy_lets_our_script_and_style_run_and_nothing_else(page: Path) -> None:
    seen = browse(page, "--dump-dom")
    assert "Content Security Policy" not in seen
    assert "<title>dot_test" in seen
    # the script shows the button that it serves
    assert re.search(r'<button[^>]*id="theme"[^>]*>(Dark|Light)</button>', seen)
    assert "ERR_" not in seen


@pytest.mark.parametrize("width", [400, 1280])
def test_it_lays_out_on_a_phone_and_on_a_desk(page: Path, width: int) -> None:
    picture = page.with_suffix(f".{width}.png")
    browse(page, f"--window-size={width},900", f"--screenshot={picture}")
    with Image.open(picture) as opened:
        pixels = np.asarray(opened.convert("RGB")).astype(int)
    paper = pixels[2, 2]
    # neither an empty page nor one without its style: paper around, ink and pictures inside
    covered = (np.abs(pixels - paper).sum(axis=2) > 40).mean()
    assert 0.05 < covered < 0.9
    assert tuple(paper) != (255, 255, 255)


def test_the_dark_scheme_is_dark(page: Path) -> None:
    picture = page.with_suffix(".dark.png")
    browse(page, "--window-size=900,700", "--force-dark-mode", "--blink-settings=preferredColorScheme=0",
           f"--screenshot={picture}")  # fmt: skip
    with Image.open(picture) as opened:
        assert sum(opened.convert("RGB").getpixel((2, 2))) < 150
