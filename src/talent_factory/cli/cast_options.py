"""The options that the commands of `talent cast` have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_TYPES = "human, creature, robotic, anthropomorphic, mythical or other"

PortraitArgument = Annotated[
    str, typer.Argument(help="One picture of the actor: a file, or an https address.")
]
PictureArgument = Annotated[
    str, typer.Argument(help="One picture in the style: a file, or an https address.")
]
TypeOption = Annotated[str, typer.Option("--actor-type", help=f"What the actor is: {_TYPES}.")]
SexOption = Annotated[
    str | None, typer.Option("--sex", help="For humans: man, woman or person.", show_default="person")
]
RecipeOption = Annotated[
    str, typer.Option("--recipe", help="actor-17, actor-12, or a .toml file of your own.")
]
CountOption = Annotated[
    int | None,
    typer.Option(
        "--count",
        min=1,
        max=500,
        help="Images to make; more than the recipe holds are variations.",
        show_default="the recipe's",
    ),
]
KeepOption = Annotated[
    int | None,
    typer.Option("--keep", min=1, max=500, help="Keep the best so many of them.", show_default="all"),
]
AspectOption = Annotated[
    str | None, typer.Option("--aspect", help="Such as 16:9 or 1:1.", show_default="the recipe's")
]
LongSideOption = Annotated[
    int, typer.Option("--long-side", min=64, max=4096, help="Long side of each image in pixels.")
]
MediumOption = Annotated[
    str, typer.Option("--portrait-medium", help="What the portrait is: photo, flat, ink, ...")
]
WordsOption = Annotated[
    str, typer.Option("--portrait-words", help='What in it may change: "smiling, teal shirt".')
]
KeptOption = Annotated[int, typer.Option("--count", min=1, max=60, help="Images to keep.")]
ModeOption = Annotated[
    str, typer.Option("--mode", help="grid: nine subjects a request, cut apart; direct: one a request.")
]
SheetsOption = Annotated[
    int,
    typer.Option("--max-sheets", min=1, max=60, help="Grids at most, those for rejected images counted."),
]
SideOption = Annotated[
    int, typer.Option("--long-side", min=512, max=4096, help="Side of a grid or image in pixels.")
]
UpscaleOption = Annotated[
    int | None,
    typer.Option("--upscale-to", min=256, max=4096, help="Enlarge smaller images to this side in pixels."),
]
TriggerOption = Annotated[str, typer.Option("--trigger", help="Where captions name the token: start or end.")]
VisionOption = Annotated[
    str,
    typer.Option(
        "--vision",
        help="Who looks at styles, and at whether images show what was ordered: embedded, openai or local.",
    ),
]
VisionModelOption = Annotated[
    str | None, typer.Option("--vision-model", help="Its model; for local the folder of one.")
]
TokenOption = Annotated[
    str, typer.Option("--token", "-t", help="The trigger word of the actor or style, such as dot_kairo.")
]
OutOption = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="Folder of the set.", show_default="WORKSPACE/casts/TOKEN"),
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Another seed makes other variations.")]
ProviderOption = Annotated[
    str,
    typer.Option(
        "--provider", "-p", help="Who makes the images; `talent cast providers` lists them with prices."
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model", help="A model of the provider; for local ones a folder.", show_default="its default"
    ),
]
ModelsFileOption = Annotated[
    Path | None,
    typer.Option("--models-file", help="Registry rows (TOML) of your own: models, prices, limits."),
]
UploadOption = Annotated[
    bool,
    typer.Option("--upload", help="Send the picture once as a file, where the provider can keep one."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="NAME=VALUE for the provider alone, such as safety_tolerance=4; repeatable."),
]
BudgetOption = Annotated[
    float | None,
    typer.Option(
        "--budget", min=0, help="US dollars that this folder may cost in all, earlier runs counted."
    ),
]
InFlightOption = Annotated[
    int, typer.Option("--in-flight", min=1, max=64, help="Jobs that are under way at a time.")
]
EstimateOption = Annotated[
    bool,
    typer.Option(
        "--estimate",
        "--dry-run",
        help="Show steps, time, memory, disk and price; ask nobody, write nothing.",
    ),
]
YesOption = Annotated[
    bool, typer.Option("--yes", "-y", help="Agree to the price; needed where no terminal can ask.")
]
PayAgainOption = Annotated[
    bool,
    typer.Option("--pay-again", help="Make anew what was paid perhaps and lost, or refused by a filter."),
]
StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        help="Also keep finished images in a folder, s3 (bucket AWS_USER_FILES_BUCKET) or s3://BUCKET.",
    ),
]
UserIdOption = Annotated[
    str, typer.Option("--user-id", help="First part of the keys in the store.", show_default="local")
]
ActorIdOption = Annotated[
    str,
    typer.Option("--actor-id", help="The actor or style in the keys of the store.", show_default="TOKEN"),
]
AllowLocalOption = Annotated[
    bool,
    typer.Option(
        "--allow-local", help="Take an address of the picture that lies on this machine or network."
    ),
]
# for servers whose time runs faster than ours: benchmarks and tests
TimeScaleOption = Annotated[float, typer.Option("--time-scale", min=0.0001, hidden=True)]
