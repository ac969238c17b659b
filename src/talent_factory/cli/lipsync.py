"""`talent lipsync`: from clips to a face that speaks; each command has a small module of its own."""

from __future__ import annotations

import os

import typer

from talent_factory.cli.lipsync_animate import animate
from talent_factory.cli.lipsync_demo import demo
from talent_factory.cli.lipsync_features import features
from talent_factory.cli.lipsync_metadata import metadata
from talent_factory.cli.lipsync_pack import pack
from talent_factory.cli.lipsync_preprocess import preprocess
from talent_factory.cli.lipsync_score import score, sync_train
from talent_factory.cli.lipsync_synth import synth
from talent_factory.cli.lipsync_train import resume, train

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Train and run a talking head on clips with audio."
)


@app.callback()
def _wait_asleep() -> None:
    """Threads of small networks meet thousands of times a second; on a machine that others use, too, those
    that wait would spin for the whole turn of somebody else. OpenMP reads this when torch is loaded.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


app.command("synth")(synth)
app.command("preprocess")(preprocess)
app.command("features")(features)
app.command("metadata")(metadata)
app.command("pack")(pack)
app.command("train")(train)
app.command("resume")(resume)
app.command("animate")(animate)
app.command("score")(score)
app.command("sync-train")(sync_train)
app.command("demo")(demo)
