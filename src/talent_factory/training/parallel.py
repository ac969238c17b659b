"""Several processes as one trainer: each computes its share of a batch, and gradients are added up."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from talent_factory.core.errors import UsageError

# how long a process waits for another one
_PATIENCE = timedelta(days=1)


@dataclass(frozen=True)
class World:
    """The processes that train together; one alone unless a launcher such as torchrun says otherwise."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes the run's files and speaks to the user."""
        return self.rank == 0

    def share(self, batch: int) -> tuple[int, ...]:
        """The rows of a batch that this process computes. Raises UsageError when they do not divide."""
        if batch % self.size:
            raise UsageError(
                f"batch_size {batch} cannot be shared by {self.size} processes",
                remedy=f"write batch_size: {-(-batch // self.size) * self.size}, or start {batch} processes",
            )
        return tuple(range(self.rank, batch, self.size))

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all processes."""
        if self.size > 1:
            for tensor in tensors:
                dist.all_reduce(tensor)

    def wait(self) -> None:
        """Go on when all processes are here."""
        if self.size > 1:
            dist.barrier()

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process: all leave a loop together, or none does."""
        if self.size == 1:
            return flag
        votes = torch.tensor([int(flag)], device=_device())
        dist.all_reduce(votes)
        return bool(votes.item())


def before_joining() -> None:
    """Import what would otherwise keep the processes' group alive after its end; call it before joining one.

    Functions of torch.distributed.nn take the group of the time of their import as a default, and making an
    optimizer imports them. A group that lives on has threads, and one of them that still frees a tensor when
    the interpreter ends aborts the process.
    """
    import torch.distributed.nn  # noqa: F401


@contextmanager
def world() -> Iterator[World]:
    """Join the processes that torchrun, or a launcher with its environment variables, started."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or dist.is_initialized():
        yield World() if size == 1 else World(dist.get_rank(), dist.get_world_size())
        return
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if torch.cuda.is_available():
        torch.cuda.set_device(local)
    before_joining()
    # they wait for each other while the first measures or packs; one that died is seen by its launcher
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=_PATIENCE)
    try:
        yield World(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


def _device() -> str:
    return "cuda" if dist.get_backend() == "nccl" else "cpu"
