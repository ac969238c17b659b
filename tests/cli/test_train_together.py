"""`talent train` in two processes, as torchrun starts them: one kit, made once, from one run."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pair_maker import small_pair_config
from talent_factory.cli.app import run as talent
from talent_factory.training import runs


def _started(*words: str, place: Path) -> list[tuple[int, str, str]]:
    """Exit code, output and errors of both processes of `talent train WORDS`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
    }  # fmt: skip
    command = [
        sys.executable,
        "-m",
        "talent_factory.cli.app",
        "--quiet",
        "train",
        *words,
        "-w",
        str(place),
    ]
    children = [
        subprocess.Popen(
            command,
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    try:
        return [
            (child.returncode, *texts) for child in children for texts in [child.communicate(timeout=500)]
        ]
    finally:
        for child in children:
            child.kill()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_processes_make_one_kit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = small_pair_config(tmp_path)
    first, second = _started(str(config), place=tmp_path)
    assert (first[0], second[0]) == (0, 0), first[2] + second[2]
    assert "avatar.identity.together is ready" in first[1]
    assert second[1] == ""  # the first one speaks for both
    run = tmp_path / "runs" / "avatar.identity.together"
    assert [line["step"] for line in runs.read_losses(run)] == [1, 2, 3]
    assert talent(["kit", "validate", "avatar.identity.together", "-w", str(tmp_path)]) == 0
    # nothing is left to do: the second process is let go without a training
    assert [code for code, *_ in _started(str(config), place=tmp_path)] == [0, 0]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_processes_go_on_with_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    for place in (whole, parted):
        place.mkdir()
        assert all(
            code == 0 for code, *_ in _started(str(small_pair_config(place, checkpoint_every=1)), place=place)
        )
    run = parted / "runs" / "avatar.identity.together"
    (run / runs.RESULT_FILE).unlink()
    (run / runs.LORA_FILE).unlink()
    shutil.rmtree(max((run / runs.CHECKPOINTS).iterdir()))  # the last step is to be made again
    shutil.rmtree(parted / "talents")
    first, second = _started("resume", "avatar.identity.together", place=parted)
    assert (first[0], second[0]) == (0, 0), first[2] + second[2]
    assert "avatar.identity.together is ready" in first[1]
    assert second[1] == ""
    name = "avatar.identity.together/lora.safetensors"
    assert (parted / "runs" / name).read_bytes() == (whole / "runs" / name).read_bytes()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_both_refuse_what_cannot_be_trained(tmp_path: Path) -> None:
    config = small_pair_config(tmp_path, train_data_dir=str(tmp_path / "nowhere"))
    for code, _, errors in _started(str(config), place=tmp_path):
        assert code == 1
        assert "no such folder" in errors
