"""`talent cast`: one picture in, a set of training images out, of an actor or in a style."""

from __future__ import annotations

import typer

from talent_factory.cli import cast_options as opt
from talent_factory.cli.cast_follow import providers, resume, show
from talent_factory.cli.cast_order import actor_order, folder_of, picture_of, style_order
from talent_factory.cli.cast_show import finish, show_estimate
from talent_factory.cli.cast_work import carry_out, plan_of
from talent_factory.cli.common import JsonOption, WorkspaceOption

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Make training images from one portrait, or from one picture in a style; never pay twice.",
)


@app.command("actor")
def actor(
    portrait: opt.PortraitArgument,
    token: opt.TokenOption,
    actor_type: opt.TypeOption = "human",
    sex: opt.SexOption = None,
    recipe: opt.RecipeOption = "actor-17",
    count: opt.CountOption = None,
    keep: opt.KeepOption = None,
    aspect: opt.AspectOption = None,
    long_side: opt.LongSideOption = 1360,
    portrait_medium: opt.MediumOption = "",
    portrait_words: opt.WordsOption = "",
    vision: opt.VisionOption = "embedded",
    vision_model: opt.VisionModelOption = None,
    seed: opt.SeedOption = 0,
    provider: opt.ProviderOption = "embedded",
    model: opt.ModelOption = None,
    models_file: opt.ModelsFileOption = None,
    upload: opt.UploadOption = False,
    options: opt.SetOption = None,
    in_flight: opt.InFlightOption = 5,
    budget: opt.BudgetOption = None,
    pay_again: opt.PayAgainOption = False,
    estimate: opt.EstimateOption = False,
    yes: opt.YesOption = False,
    store: opt.StoreOption = None,
    user_id: opt.UserIdOption = "",
    actor_id: opt.ActorIdOption = "",
    allow_local: opt.AllowLocalOption = False,
    out: opt.OutOption = None,
    workspace: WorkspaceOption = None,
    time_scale: opt.TimeScaleOption = 1.0,
    as_json: JsonOption = False,
) -> None:
    """Make the training images of an actor from one portrait; resumable image by image, whatever crashes."""
    given = dict(locals())
    folder = folder_of(token, out, workspace)
    order = actor_order(given)
    with picture_of(portrait, allow_local=allow_local) as path:
        if estimate:
            show_estimate(*plan_of(order, path, folder), as_json=as_json)
        else:
            finish(carry_out(order, path, folder, yes=yes), as_json=as_json)


@app.command("style")
def style(
    picture: opt.PictureArgument,
    token: opt.TokenOption,
    count: opt.KeptOption = 20,
    mode: opt.ModeOption = "grid",
    max_sheets: opt.SheetsOption = 10,
    long_side: opt.SideOption = 1600,
    upscale_to: opt.UpscaleOption = None,
    trigger: opt.TriggerOption = "start",
    vision: opt.VisionOption = "embedded",
    vision_model: opt.VisionModelOption = None,
    seed: opt.SeedOption = 0,
    provider: opt.ProviderOption = "embedded",
    model: opt.ModelOption = None,
    models_file: opt.ModelsFileOption = None,
    upload: opt.UploadOption = False,
    in_flight: opt.InFlightOption = 5,
    budget: opt.BudgetOption = None,
    estimate: opt.EstimateOption = False,
    yes: opt.YesOption = False,
    store: opt.StoreOption = None,
    user_id: opt.UserIdOption = "",
    actor_id: opt.ActorIdOption = "",
    allow_local: opt.AllowLocalOption = False,
    out: opt.OutOption = None,
    workspace: WorkspaceOption = None,
    time_scale: opt.TimeScaleOption = 1.0,
    as_json: JsonOption = False,
) -> None:
    """Make square training images in the style of one picture: grids, cut, checked, the best kept."""
    given = dict(locals())
    folder = folder_of(token, out, workspace)
    order = style_order(given)
    with picture_of(picture, allow_local=allow_local) as path:
        if estimate:
            show_estimate(*plan_of(order, path, folder), as_json=as_json)
        else:
            finish(carry_out(order, path, folder, yes=yes), as_json=as_json)


app.command("resume")(resume)
app.command("show")(show)
app.command("providers")(providers)
