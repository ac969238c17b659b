"""Where the service keeps its things in a workspace, and how a path is looked up without leaving it."""

from __future__ import annotations

import re
import stat
from pathlib import Path

from talent_factory.core.errors import UsageError
from talent_factory.core.workspace import Workspace

# Not an argument, which other users of the machine can read: a password may stand in it.
DATABASE_VARIABLE = "TALENT_SERVICE_DATABASE"
_JOB = re.compile(r"[0-9a-f]{24}")


def service_folder(place: Workspace) -> Path:
    """The folder of token, queue, jobs and logs."""
    return place.root / "service"


def job_folder(place: Workspace, job_id: str) -> Path:
    """The folder of one job: its images and its story. Raises UsageError for a text that is no job id."""
    if not _JOB.fullmatch(job_id):
        raise UsageError("that is no job id", remedy="take it from the answer to POST /renders")
    return service_folder(place) / "jobs" / job_id


def images_folder(place: Workspace, job_id: str) -> Path:
    """The folder that the images of a job are drawn into."""
    return job_folder(place, job_id) / "images"


def regular_file(root: Path, *names: str) -> Path | None:
    """The plain file `root/names...` when it is there, no step of the way below `root` being a link."""
    path = root
    try:
        for name in names:
            path = path / name
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                return None
    except OSError:
        return None
    return path if stat.S_ISREG(mode) else None


def count_images(folder: Path) -> int:
    """How many numbered images lie in `folder`."""
    try:
        return sum(1 for path in folder.iterdir() if path.suffix == ".png" and path.stem.isdecimal())
    except OSError:
        return 0
