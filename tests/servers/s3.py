"""Real S3 servers on loopback: moto's for semantics, rclone's for signatures, expiry and speed."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

# rclone takes no keys as short as those in most examples
ACCESS, SECRET = "LOOPBACKACCESSKEY", "loopback-secret-0123456789"
BUCKET = "user-files"


@dataclass(frozen=True)
class S3Server:
    """Where a running server listens; `folder` holds its buckets as plain files where it keeps files."""

    kind: str
    endpoint: str
    folder: Path | None = None

    def environ(self, **changes: str) -> dict[str, str]:
        """The variables that a user would set to store there."""
        return {
            "AWS_ACCESS_KEY": ACCESS,
            "AWS_ACCESS_SECRET": SECRET,
            "AWS_REGION": "us-west-1",
            "AWS_USER_FILES_BUCKET": BUCKET,
            "AWS_ENDPOINT_URL": self.endpoint,
        } | changes


@contextmanager
def moto_server() -> Iterator[S3Server]:
    """Moto's server in a thread of this process, with one empty bucket."""
    server_module = pytest.importorskip("moto.server", reason="moto's server is not installed")
    # it writes one line per request
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        make = urllib.request.Request(f"{endpoint}/{BUCKET}", method="PUT")
        with urllib.request.urlopen(make, timeout=30) as answer:
            assert answer.status == 200
        yield S3Server("moto", endpoint)
    finally:
        server.stop()


@contextmanager
def rclone_server(folder: Path) -> Iterator[S3Server]:
    """`rclone serve s3` in a process of its own, over `folder`, with one empty bucket."""
    program = shutil.which("rclone", path=str(Path(sys.executable).parent)) or shutil.which("rclone")
    if program is None:
        pytest.skip("rclone is not installed")
    (folder / BUCKET).mkdir(parents=True)
    command = [program, "serve", "s3", "--addr", "127.0.0.1:0", "--config", "/dev/null"]
    process = subprocess.Popen(
        [*command, "--auth-key", f"{ACCESS},{SECRET}", str(folder)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield S3Server("rclone", _announced(process), folder)
    finally:
        process.terminate()
        process.wait(timeout=30)
        if process.stderr is not None:
            process.stderr.close()


def _announced(process: subprocess.Popen[str]) -> str:
    """The address that the server says it listens on, in its first lines."""
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        start = line.find("http://127.0.0.1:")
        if start >= 0:
            return line[start:].split("]")[0].strip().rstrip("/")
    pytest.fail(f"rclone did not start: {''.join(said)[-500:]}")
