"""Names that are safe as folders, and one writer at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from talent_factory.core.errors import UsageError, WorkspaceBusy
from talent_factory.core.workspace import check_id, check_token, exclusive, workspace_from

_HOLD = """
import sys
from pathlib import Path
from talent_factory.core.workspace import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize(
    "text", ["avatar.identity.dot_kairo", "avatar.style.anime_mecha.v2", "avatar.style.9"]
)
def test_good_ids(text: str) -> None:
    assert check_id(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "avatar.identity",
        "avatar.identity.",
        "avatar.identity..",
        "avatar.identity.../../etc",
        "avatar.identity.a..b",
        "avatar.identity.Kairo",
        "avatar.identity.kairo\n",
        "avatar.identity.a/b",
        "avatar.identity.a\\b",
        "avatar.identity.con",
        "avatar.style.a.lpt1",
        "avatar.person.kairo",
        "avatar.identity.kaïro",
        "avatar.identity." + "a" * 90,
        "/avatar.identity.a",
    ],
)
def test_bad_ids(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_id(text)
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 200


@given(
    text=st.text(max_size=60) | st.from_regex(r"avatar\.(identity|style)\.[a-z0-9_.]{1,30}", fullmatch=True)
)
def test_an_accepted_id_is_one_plain_folder_name(text: str) -> None:
    try:
        check_id(text)
    except UsageError:
        return
    assert os.path.basename(text) == text
    assert ".." not in text
    assert text == text.strip().lower()


@pytest.mark.parametrize(
    ("text", "good"), [("dot_kairo", True), ("a" * 41, False), ("x y", False), ("a\n", False)]
)
def test_tokens(text: str, good: bool) -> None:
    if good:
        assert check_token(text) == text
    else:
        with pytest.raises(UsageError, match="token"):
            check_token(text)


def test_workspace_is_chosen_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert workspace_from().root == tmp_path.resolve()
    monkeypatch.setenv("TALENT_WORKSPACE", str(tmp_path / "env"))
    assert workspace_from().root == (tmp_path / "env").resolve()
    chosen = workspace_from(tmp_path / "given")
    assert chosen.talents == (tmp_path / "given").resolve() / "talents" / "avatar"
    folders = {chosen.talents, chosen.runs, chosen.casts, chosen.datasets, chosen.cache, chosen.reports}
    assert len(folders) == 6
    assert not chosen.root.exists()
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="not a folder"):
        workspace_from(tmp_path / "file")


def test_second_holder_is_told_who_holds(tmp_path: Path) -> None:
    with exclusive(tmp_path / "w"):
        with pytest.raises(WorkspaceBusy, match=f"process {os.getpid()}"), exclusive(tmp_path / "w"):
            raise AssertionError
        with exclusive(tmp_path / "other"):
            pass
    with exclusive(tmp_path / "w"):
        pass


def test_lock_dies_with_its_process(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        with pytest.raises(WorkspaceBusy, match=f"process {child.pid}"), exclusive(tmp_path):
            raise AssertionError
        child.send_signal(signal.SIGKILL)
        child.wait()
        with exclusive(tmp_path):
            pass


def test_a_workspace_that_no_record_could_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not UTF-8"):
        workspace_from(tmp_path / "bad\udcff")
