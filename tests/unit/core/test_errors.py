"""One tree of errors: each tells, each has a code, each survives a trip between processes."""

from __future__ import annotations

import copy
import inspect

import pytest

from talent_factory.core import errors
from talent_factory.core.errors import TalentError

KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, TalentError)]
CODES = {
    "UsageError": 2,
    "ConfigError": 2,
    "ResumeRefused": 3,
    "PolicyRefused": 3,
    "ProviderRefused": 3,
    "PartialResult": 3,
    "Cancelled": 130,
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_error(kind: type[TalentError]) -> None:
    error = kind("kit x is broken", remedy="talent kit validate x")
    assert str(error) == "kit x is broken\n  try: talent kit validate x"
    assert str(kind("only this")) == "only this"
    assert error.exit_code == CODES.get(kind.__name__, 1)
    again = copy.copy(error)  # goes the way that worker processes go
    assert (type(again), again.message, again.remedy) == (kind, error.message, error.remedy)


def test_the_drawn_tree_is_the_tree() -> None:
    assert errors.__doc__ is not None
    for kind in KINDS:
        assert kind.__name__ in errors.__doc__
