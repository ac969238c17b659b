"""The one tree of errors that a user may see, each with a remedy and an exit code.

TalentError (1)
├── UsageError (2)
│   └── ConfigError
├── FileError          a file of ours is missing, damaged or of another version
├── PortraitError      the image an actor starts from cannot be used
├── DatasetError       images, captions or their manifest do not fit together
│   └── ClipError      a file of a talking clip is missing, damaged or of the wrong shape
├── KitError           a Talent Kit is broken or unfit
├── BaseError          a base model is missing or broken
├── ProviderError      an image provider failed
│   ├── ProviderBusy         asked to wait (429): nothing was accepted, nothing is paid
│   ├── ProviderUnreachable  no connection: nothing was accepted, nothing is paid
│   ├── SubmitUnknown        the answer was lost: the job may exist and be paid
│   ├── ProviderRefused (3)  key, credit or input refused (401, 402, 403, 422): stop the cast
│   ├── ContentFlagged       the provider's safety filter said no
│   └── ResultExpired        the finished image is no longer there
├── StorageError       an object store refused or failed
├── TrainingDiverged   the loss left the finite numbers
├── TrainingBroken     a check of ours found that training does not do what it says
├── TrainingTooLarge   the memory is too small, also for the smallest pieces
├── DeviceLost         the GPU stopped answering
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


class ClipError(DatasetError):
    """A file of a clip is missing, damaged or of the wrong shape."""


class KitError(TalentError):
    """A Talent Kit is broken or unfit."""


class BaseError(TalentError):
    """A base model is missing or broken."""


class ProviderError(TalentError):
    """An image provider failed or refused."""


class ProviderBusy(ProviderError):
    """The provider asks for patience (HTTP 429); nothing was accepted. `retry_after_s` in seconds."""

    def __init__(self, message: str, *, remedy: str = "", retry_after_s: float = 5.0) -> None:
        super().__init__(message, remedy=remedy)
        self.retry_after_s = retry_after_s


class ProviderUnreachable(ProviderError):
    """No connection came about, so nothing was accepted: trying again is safe."""


class SubmitUnknown(ProviderError):
    """A request was sent, its answer lost: the job may exist. Look for it (`find`), never send it blindly."""


class ProviderRefused(ProviderError):
    """The key, the credit or the input was refused (HTTP 401, 402, 403, 422): the next one would be, too."""

    exit_code = 3


class ContentFlagged(ProviderError):
    """The provider's safety filter refused the prompt or the picture."""


class ResultExpired(ProviderError):
    """A finished image is no longer kept by the provider."""


class StorageError(TalentError):
    """An object store is missing, denied or failed."""


class TrainingDiverged(TalentError):
    """The loss left the finite numbers; the last good checkpoint is kept."""


class TrainingBroken(TalentError):
    """A check found that training does not do what it says, such as a model that no gradient reaches."""


class TrainingTooLarge(TalentError):
    """The memory does not hold even one image at a time; the last good checkpoint is kept."""


class DeviceLost(TalentError):
    """The GPU stopped answering in the middle of a training; the last good checkpoint is kept."""


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
