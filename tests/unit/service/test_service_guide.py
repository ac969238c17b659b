"""The guide to the service is true: its routes and states exist, and its program runs against a real one."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import httpx2
import pytest

from service_maker import SOURCE, add_mini_kit, serving
from talent_factory.service.wire import RenderAsk, State

GUIDE = (SOURCE.parent / "docs" / "service.md").read_text("utf-8")
KIT = "avatar.identity.dot_kairo"


def test_what_a_render_may_say_and_how_it_ends_stands_in_the_guide() -> None:
    row = next(line for line in GUIDE.splitlines() if line.startswith("| `POST /renders`"))
    said = set(re.findall(r"`([a-z]\w*)`", row))
    assert said == set(RenderAsk.model_fields)
    assert all(f"`{state}`" in GUIDE for state in get_args(State))


@pytest.mark.slow
def test_the_program_of_the_guide_draws_and_every_route_stands_there(tmp_path: Path) -> None:
    add_mini_kit(tmp_path, KIT, seed=1)
    (program,) = re.findall(r"^```python\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
    with serving(tmp_path) as service:
        program = program.replace("http://127.0.0.1:8084", service.url)
        head = {"Authorization": f"Bearer {service.token}"}
        paths = httpx2.get(f"{service.url}/openapi.json", headers=head).json()["paths"]
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=tmp_path,
            env={"PYTHONPATH": str(SOURCE), "PATH": ""},
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert len(paths) > 12
    for path, methods in paths.items():
        last = [part for part in path.split("/") if not part.startswith("{")][-1]
        assert f"/{last}" in GUIDE, path
        assert all(method.upper() in GUIDE for method in methods)
    assert all((tmp_path / f"{number}.png").read_bytes().startswith(b"\x89PNG") for number in (1, 2))
