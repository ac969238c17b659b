"""Make torch give the same bits again, and say what those bits depend on."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.utils.deterministic

from talent_factory.core.errors import UsageError
from talent_factory.training.runs import Machine

# The flag is a property that torch puts on the module itself, which type checkers cannot see.
_FILLING: Any = torch.utils.deterministic


def choose_device(wanted: str) -> str:
    """`cpu`, `cuda` or `mps`; "auto" takes the fastest. Raises UsageError for one that is not here."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise UsageError("device cuda is asked for, but torch sees no GPU", remedy="write device: cpu")
    if wanted == "mps" and not torch.backends.mps.is_available():
        raise UsageError("device mps is asked for, but this is no Mac with Metal", remedy="write device: cpu")
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    return wanted


def this_machine(device: str, *, threads: int | None = None) -> Machine:
    """The facts of this process; `threads` None means as many as torch would use."""
    if device == "cuda":
        name = torch.cuda.get_device_name()
    elif device == "mps":
        name = f"mps {platform.machine()}"
    else:
        name = f"cpu {torch.backends.cpu.get_cpu_capability()}"
    return Machine(torch=torch.__version__, device=name, threads=threads or torch.get_num_threads())


@contextmanager
def reproducible(threads: int, *, exact: bool = True) -> Iterator[None]:
    """A fixed number of threads and, when `exact`, algorithms that give the same bits each time.

    What was set before comes back at the end.
    """
    # cuBLAS reads it when it starts; without it some matrix products are not repeatable
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = (
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.backends.cudnn.benchmark,
        _FILLING.fill_uninitialized_memory,
    )
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(exact)
    torch.backends.cudnn.benchmark = not exact
    # filling fresh memory is a debugging aid that costs a pass over every tensor
    _FILLING.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])
        torch.backends.cudnn.benchmark = before[2]
        _FILLING.fill_uninitialized_memory = before[3]
