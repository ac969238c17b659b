"""The command reference is complete and reads the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pytest
import typer

from talent_factory.cli import reference
from talent_factory.core.errors import TalentError, UsageError


def test_a_section_shows_usage_arguments_and_options() -> None:
    app = typer.Typer(add_completion=False)

    @app.command()
    def paint(
        portrait: Annotated[str, typer.Argument(help="The image.")],
        extra: Annotated[list[str] | None, typer.Argument(help="More.")] = None,
        token: Annotated[str, typer.Option("--token", "-t", help="Word | name.")] = "dot",
        secret: Annotated[str, typer.Option(hidden=True)] = "",
        fast: Annotated[bool, typer.Option("--fast/--slow", help="Speed.")] = False,
    ) -> None:
        """Paint it."""

    text = reference._section("talent paint", typer.main.get_command(app))
    assert "    talent paint [OPTIONS] PORTRAIT [EXTRA...]\n" in text
    assert "| `--token`, `-t` | Word \\| name. Default: `dot`. |" in text
    assert "| `--fast`, `--slow` | Speed. |" in text
    assert "secret" not in text
    assert "Paint it." in text


@pytest.mark.parametrize("arguments", [[], ["--write"], ["--print", "x"]])
def test_other_arguments_are_usage(arguments: list[str]) -> None:
    with pytest.raises(UsageError):
        reference.main(arguments)


def test_pages_that_are_old_or_missing_are_named(tmp_path: Path) -> None:
    reference.main(["--write", str(tmp_path)])
    reference.main(["--check", str(tmp_path)])
    (tmp_path / "config.md").write_text("old", "utf-8")
    (tmp_path / "findings.md").unlink()
    with pytest.raises(TalentError, match=r"config\.md.*findings\.md"):
        reference.main(["--check", str(tmp_path)])
