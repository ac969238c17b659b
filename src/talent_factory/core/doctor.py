"""Looks at this machine and says, finding by finding, what is wrong and what to do about it."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Literal

from talent_factory.core.errors import TalentError
from talent_factory.core.files import SUMS, check_sums, is_no_room, write_bytes
from talent_factory.core.records import Record
from talent_factory.core.workspace import Workspace

BASE_FOLDER = Path(__file__).resolve().parent.parent / "assets" / "mini"
_BASE_PARTS = ("model_index.json", "unet", "vae", "text_encoder", "tokenizer", "scheduler")
_REINSTALL = "install again: make venv, or pip install -c constraints.txt -e ."
_NEEDED = {"torch": (2, 6), "diffusers": (0, 36), "transformers": (4, 56), "numpy": (2, 0), "pillow": (11, 0)}


# What may be installed beside it, and what it is for.
_EXTRAS = (
    ("bitsandbytes", "optimizers", "optimizer adamw8bit"),
    ("prodigyopt", "optimizers", "optimizer prodigy"),
    ("schedulefree", "optimizers", "optimizer adamw-schedulefree"),
    ("wandb", "wandb", "figures on Weights & Biases"),
    ("tensorboard", "tensorboard", "figures on TensorBoard"),
    ("av", "lipsync", "talent lipsync: sound and videos"),
    ("accelerate", "lipsync", "talent lipsync: training"),
    ("scikit-image", "lipsync", "talent lipsync: faces in photographs"),
    ("fastapi", "service", "talent serve"),
    ("dbos", "service", "talent serve: its queue"),
    ("model-signing", "signing", "signatures in OpenSSF's form"),
)


class Finding(Record):
    """One thing that was looked at; `remedy` is empty when all is well."""

    severity: Literal["ok", "warn", "error"]
    subject: str
    message: str
    remedy: str = ""


def run_checks(workspace: Workspace, *, deep: bool = False) -> list[Finding]:
    """Look at Python, libraries, disk, memory, the embedded base and the workspace.

    `deep` also imports torch to ask which device it would use, which takes seconds.
    """
    checks: list[Callable[[], list[Finding]]] = [
        _python,
        _libraries,
        _heic,
        _extras,
        _memory,
        lambda: _disk(workspace.root),
        lambda: _write_access(workspace.root),
        _base,
        lambda: _kits(workspace.talents),
    ]
    if deep:
        checks.append(_device)
    return [finding for check in checks for finding in check()]


def worst(findings: list[Finding]) -> Literal["ok", "warn", "error"]:
    """The highest severity among the findings."""
    found = {finding.severity for finding in findings}
    return "error" if "error" in found else "warn" if "warn" in found else "ok"


def _python() -> list[Finding]:
    text = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    if sys.version_info < (3, 11):  # noqa: UP036 - installers can be told to ignore requires-python
        return [Finding(severity="error", subject="python", message=text, remedy="use Python 3.11 or newer")]
    return [Finding(severity="ok", subject="python", message=text)]


def _libraries() -> list[Finding]:
    findings = []
    for name, least in _NEEDED.items():
        wanted = ".".join(map(str, least))
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            findings.append(
                Finding(severity="error", subject=name, message="is not installed", remedy=_REINSTALL)
            )
            continue
        if _numbers(version) < least:
            message = f"{version} is older than {wanted}"
            findings.append(Finding(severity="error", subject=name, message=message, remedy=_REINSTALL))
        else:
            findings.append(Finding(severity="ok", subject=name, message=version))
    return findings


def _heic() -> list[Finding]:
    try:
        version = metadata.version("pillow-heif")
    except metadata.PackageNotFoundError:
        remedy = "pip install -c constraints.txt 'talent-factory[heic]', or save portraits as PNG or JPEG"
        return [
            Finding(severity="warn", subject="heic", message="HEIC portraits cannot be read", remedy=remedy)
        ]
    return [Finding(severity="ok", subject="heic", message=f"pillow-heif {version}")]


def _extras() -> list[Finding]:
    """Optional libraries; to do without them is fine, so none of them is a warning."""
    findings = []
    for name, extra, use in _EXTRAS:
        try:
            message, remedy = f"{metadata.version(name)}: {use}", ""
        except metadata.PackageNotFoundError:
            message = f"not installed; only needed for: {use}"
            remedy = f"pip install -c constraints.txt 'talent-factory[{extra}]', if you want it"
        findings.append(Finding(severity="ok", subject=name, message=message, remedy=remedy))
    return findings


def _memory() -> list[Finding]:
    import psutil

    free = psutil.virtual_memory().available / 2**30
    text = f"{free:.1f} GB free"
    if free < 1.5:
        remedy = "close other programs; training on mini needs about 1.5 GB"
        return [Finding(severity="warn", subject="memory", message=text, remedy=remedy)]
    return [Finding(severity="ok", subject="memory", message=text)]


def _disk(root: Path) -> list[Finding]:
    place = next(folder for folder in (root, *root.parents) if folder.exists())
    free = shutil.disk_usage(place).free / 2**30
    text = f"{free:.1f} GB free at {place}"
    if free < 0.2:
        return [
            Finding(
                severity="error", subject="disk", message=text, remedy="free some space or use --workspace"
            )
        ]
    if free < 2:
        return [
            Finding(severity="warn", subject="disk", message=text, remedy="free some space before long runs")
        ]
    return [Finding(severity="ok", subject="disk", message=text)]


def _write_access(root: Path) -> list[Finding]:
    place = next(folder for folder in (root, *root.parents) if folder.exists())
    remedy = "choose a folder that you may write to with --workspace"
    try:
        # the same steps as every real write, in the folder that exists; nothing stays behind
        probe = place / f".talent-doctor-{os.getpid()}"
        write_bytes(probe, b"x" * 4096)
        probe.unlink()
    except TalentError as error:
        return [Finding(severity="error", subject="workspace", message=error.message, remedy=remedy)]
    except OSError as error:
        reason = "no room" if is_no_room(error) else error.strerror
        return [Finding(severity="error", subject="workspace", message=f"{place}: {reason}", remedy=remedy)]
    return [Finding(severity="ok", subject="workspace", message=f"{root} can be written")]


def _base(folder: Path = BASE_FOLDER) -> list[Finding]:
    missing = [part for part in _BASE_PARTS if not (folder / part).exists()]
    if missing:
        message = f"the embedded base lacks {', '.join(missing)}"
        return [Finding(severity="error", subject="base mini", message=message, remedy=_REINSTALL)]
    if not (folder / SUMS).exists():
        message = "the embedded base has no list of digests"
        return [Finding(severity="warn", subject="base mini", message=message, remedy=_REINSTALL)]
    broken = check_sums(folder)
    if broken:
        message = f"changed or missing: {', '.join(broken)}"
        return [Finding(severity="error", subject="base mini", message=message, remedy=_REINSTALL)]
    return [Finding(severity="ok", subject="base mini", message="all parts present, digests match")]


def _kits(talents: Path) -> list[Finding]:
    if not talents.is_dir():
        return [Finding(severity="ok", subject="kits", message="none yet")]
    kits = [entry for entry in talents.iterdir() if (entry / "talent.json").is_file()]
    return [Finding(severity="ok", subject="kits", message=f"{len(kits)} in {talents}")]


def _device() -> list[Finding]:
    # core never imports torch: the question is asked in a process of its own
    import subprocess

    question = (
        "import torch; c, m = torch.cuda.is_available(), torch.backends.mps.is_available(); "
        "print('cuda: ' + torch.cuda.get_device_name() if c "
        "else 'mps: the GPU of this Mac' if m else f'cpu: {torch.get_num_threads()} threads')"
    )
    done = subprocess.run([sys.executable, "-c", question], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no answer"])[-1]
        return [Finding(severity="error", subject="device", message=last, remedy=_REINSTALL)]
    return [Finding(severity="ok", subject="device", message=done.stdout.strip())]


def _numbers(version: str) -> tuple[int, ...]:
    digits = [part for part in version.split("+")[0].split(".")[:2] if part.isdecimal()]
    return tuple(int(part) for part in digits)
