"""What follows from finished work: its findings are told, its kit stands in the registry."""

from __future__ import annotations

from pathlib import Path

from talent_factory.core.errors import TalentError
from talent_factory.core.events import Reporter
from talent_factory.core.workspace import Workspace

# A user reads a few lines before a training; all of them stand in `talent dataset check`.
_MOST = 5


def tell_findings(dataset: Path, reporter: Reporter) -> None:
    """Say what a prepared dataset warns of, the gravest first, such as a trigger that means something."""
    from talent_factory.dataset.manifest import load_dataset

    graves = [finding for finding in load_dataset(dataset).findings if finding.severity != "ok"]
    graves.sort(key=lambda finding: finding.severity != "error")
    for finding in graves[:_MOST]:
        remedy = f"; {finding.remedy}" if finding.remedy else ""
        reporter.message(f"{finding.severity}: {finding.subject}: {finding.message}{remedy}")
    if len(graves) > _MOST:
        reporter.message(f"{len(graves) - _MOST} more: talent dataset check {dataset}")


def enter_in_registry(place: Workspace, reporter: Reporter) -> None:
    """Bring the registry up to date; a damaged one is told of, and spoils no finished training."""
    from talent_factory.kits.registry import update_registry
    from talent_factory.newcomer import given_names

    try:
        update_registry(place.root, place.talents, names=given_names(place))
    except TalentError as error:
        reporter.message(f"the registry was not updated: {error.message}; {error.remedy}")
