"""Start real services on a free port of this machine, for the tests of the service."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from kit_maker import make_images, make_spec, write_lora
from talent_factory.kits.keys import expected_modules
from talent_factory.kits.pack import pack_kit
from talent_factory.service.client import FoundryClient

IDENTITY = "avatar.identity.dot_test"
STYLE = "avatar.style.wobble"
SOURCE = Path(__file__).resolve().parents[1] / "src"


def add_mini_kit(workspace: Path, talent_id: str, *, seed: int) -> Path:
    """Pack a valid kit for the embedded base, of random weights in the attention layers."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, shape in expected_modules("mini").items():
        if "_attentions_" in name:
            tensors[f"{name}.lora_down.weight"] = rng.normal(0, 0.05, shape.down(2)).astype(np.float32)
            tensors[f"{name}.lora_up.weight"] = rng.normal(0, 0.05, shape.up(2)).astype(np.float32)
            tensors[f"{name}.alpha"] = np.array(2.0, np.float32)
    lora = write_lora(workspace / "made" / f"{talent_id}.safetensors", tensors)
    spec = make_spec(id=talent_id, token=talent_id.rpartition(".")[2], rank=2, alpha=2.0)
    root = workspace / "talents" / "avatar"
    root.mkdir(parents=True, exist_ok=True)
    return pack_kit(spec, lora=lora, examples=make_images(workspace / "made" / "images"), root=root)


def make_workspace(folder: Path) -> Path:
    """A workspace with an identity and a style."""
    add_mini_kit(folder, IDENTITY, seed=1)
    add_mini_kit(folder, STYLE, seed=2)
    return folder


_START = """
import sys
from talent_factory.cli import app, serve
from talent_factory.engines.queue import Device
count = int(sys.argv.pop(1))
if count > 1:
    serve._devices = lambda wanted: tuple(Device(f"cpu {number}") for number in range(count))
app.main(sys.argv[1:])
"""


class Service:
    """A running `talent serve`."""

    def __init__(self, workspace: Path, *options: str, devices: int = 1) -> None:
        """`devices` more than one divide this processor among as many workers, as cards would be."""
        self.workspace = workspace
        command = [sys.executable, "-c", _START, str(devices), "--progress", "none", "serve"]
        command += ["--workspace", str(workspace), "--port", "0", "--device", "cpu", "--json", *options]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"},
        )
        told = self._first_words()
        if "url" not in told:
            self._close()
            raise RuntimeError(f"the service did not start: {told}")
        self.url: str = told["url"]
        token_file = told["token_file"]
        self.token = Path(token_file).read_text().strip() if token_file else None

    def client(self) -> FoundryClient:
        """A client that knows the token."""
        return FoundryClient(self.url, token=self.token)

    def workers(self) -> list[psutil.Process]:
        """The processes that draw."""
        children = psutil.Process(self.process.pid).children()
        return [child for child in children if "talent_factory.service.worker" in child.cmdline()]

    def kill(self) -> None:
        """End the server at once, as a power cut would."""
        self.process.kill()
        self._close()

    def end(self) -> tuple[int, str]:
        """Ask the server to end; returns its exit code and what it said on stderr."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        _, said = self.process.communicate(timeout=120)
        return self.process.returncode, said

    def _close(self) -> None:
        self.process.wait()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()

    def _first_words(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        text = ""
        for line in self.process.stdout:
            text += line
            if line == "}\n":
                found: dict[str, Any] = json.loads(text)
                return found
        return {}


@contextmanager
def serving(workspace: Path, *options: str, devices: int = 1) -> Iterator[Service]:
    """A service that runs as long as the block."""
    service = Service(workspace, *options, devices=devices)
    try:
        yield service
    finally:
        if service.process.returncode is None:
            service.end()
