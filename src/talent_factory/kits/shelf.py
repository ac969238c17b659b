"""Change which kits lie in a folder, one process at a time, once what killed ones left is cleared away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from talent_factory.core.files import clear_leftovers
from talent_factory.core.workspace import exclusive

# Longer than any change of names takes; the files of a large kit are copied in this time, too.
WAIT_S = 20.0


@contextmanager
def changing(base_dir: Path) -> Iterator[None]:
    """Hold the folder of kits `base_dir`, which exists; another process that changes it is waited for.

    Raises WorkspaceBusy when that one takes longer than WAIT_S.
    """
    with exclusive(base_dir, wait_s=WAIT_S):
        clear_leftovers(base_dir)
        yield


@contextmanager
def editing(kit: Path) -> Iterator[None]:
    """Hold the folder in which the kit `kit` lies while one file of it is written anew."""
    with exclusive(kit.absolute().parent, wait_s=WAIT_S):
        yield
