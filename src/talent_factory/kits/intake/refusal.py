"""The one way in which intake says no: an error that carries the finding's code."""

from __future__ import annotations

from talent_factory.core.errors import KitError


class IntakeRefused(KitError):
    """What was offered cannot become a kit; `code` is one of `kits.findings.CODES`."""

    def __init__(self, message: str, *, code: str, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy or "get the file again from its source")
        self.code = code
