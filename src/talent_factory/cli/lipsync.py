"""`talent lipsync`: from clips to a face that speaks; each command has a small module of its own."""

from __future__ import annotations

import typer

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Train and run a talking head on clips with audio."
)
