"""The one tree of errors that a user may see, each with a remedy and an exit code.

TalentError (1)
├── UsageError (2)
│   └── ConfigError
├── FileError          a file of ours is missing, damaged or of another version
├── PortraitError      the image an actor starts from cannot be used
├── DatasetError       images, captions or their manifest do not fit together
├── KitError           a Talent Kit is broken or unfit
├── BaseError          a base model is missing or broken
├── ProviderError      an image provider failed
├── TrainingDiverged   the loss left the finite numbers
├── WorkspaceBusy      another process holds the lock
├── DiskFull           the file system took no more bytes
├── ResumeRefused (3)  config or data changed since the run began
├── PolicyRefused (3)  a rule or a budget says no
├── PartialResult (3)  some of the work is done, some failed
└── Cancelled (130)    the user asked to stop
"""

from __future__ import annotations

from typing import ClassVar


class TalentError(Exception):
    """Something the user can act on: `message` says what and where, `remedy` names the next command."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}\n  try: {self.remedy}" if self.remedy else self.message

    def __reduce__(self) -> tuple[object, ...]:
        # keyword-only arguments do not survive the default pickling that worker processes use
        return (_rebuild, (type(self), self.message, self.remedy))


def _rebuild(kind: type[TalentError], message: str, remedy: str) -> TalentError:
    return kind(message, remedy=remedy)


class UsageError(TalentError):
    """The command or the call itself is wrong."""

    exit_code = 2


class ConfigError(UsageError):
    """A config file holds unknown, missing or impossible values."""


class FileError(TalentError):
    """A file that should be readable is missing, damaged or of another version."""


class PortraitError(TalentError):
    """The portrait is missing, unreadable or unfit."""


class DatasetError(TalentError):
    """A data folder is empty, incomplete or contradicts its manifest."""


class KitError(TalentError):
    """A Talent Kit is broken or unfit."""


class BaseError(TalentError):
    """A base model is missing or broken."""


class ProviderError(TalentError):
    """An image provider failed or refused."""


class TrainingDiverged(TalentError):
    """The loss left the finite numbers; the last good checkpoint is kept."""


class WorkspaceBusy(TalentError):
    """Another process works on the same folder."""


class DiskFull(TalentError):
    """The file system took no more bytes; what was there before is untouched."""


class ResumeRefused(TalentError):
    """The config or the data of a run changed since it began."""

    exit_code = 3


class PolicyRefused(TalentError):
    """A rule or a budget forbids the work."""

    exit_code = 3


class PartialResult(TalentError):
    """Part of the work is done and kept, part of it failed."""

    exit_code = 3


class Cancelled(TalentError):
    """The user asked to stop; what was finished is kept."""

    exit_code = 130
