"""`talent cast resume`, `show` and `providers`: what came of earlier orders, and who could take the next."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from talent_factory.cli import cast_options as opt
from talent_factory.cli.cast_show import document, finish, show_estimate, show_overview
from talent_factory.cli.cast_work import carry_out, plan_of
from talent_factory.cli.common import JsonOption, WorkspaceOption, console, emit, one_line, plain, print_json
from talent_factory.core.errors import Cancelled, TalentError, UsageError

if TYPE_CHECKING:
    from talent_factory.core.workspace import Workspace
    from talent_factory.datagen.commission import Commission


def resume(
    folder: Annotated[
        Path | None, typer.Argument(help="The set: its folder, or its token in the workspace.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every unfinished set of the workspace, one after the other.")
    ] = False,
    in_flight: Annotated[
        int | None, typer.Option("--in-flight", min=1, max=64, help="Jobs under way at a time, from now on.")
    ] = None,
    budget: opt.BudgetOption = None,
    pay_again: opt.PayAgainOption = False,
    estimate: opt.EstimateOption = False,
    yes: opt.YesOption = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Go on with what was begun: collect what is paid first, then make only what is missing."""
    from talent_factory.core.workspace import workspace_from

    place = workspace_from(workspace)
    if everything and folder is not None:
        raise UsageError("a folder and --all are two different wishes", remedy="give one of them")
    terms = {"in_flight": in_flight, "budget_usd": budget, "pay_again": pay_again or None}
    changes = {name: value for name, value in terms.items() if value is not None}
    folders = _unfinished(place) if everything else [_set_of(folder, place)]
    if not everything:
        order, picture = _order(folders[0], changes)
        if estimate:
            show_estimate(*plan_of(order, picture, folders[0]), as_json=as_json)
        else:
            finish(carry_out(order, picture, folders[0], yes=yes), as_json=as_json)
        return
    if estimate:
        raise UsageError("--estimate looks at one set", remedy="name its folder instead of --all")
    results, code = [], 0
    for one in folders:
        result, left = _tried(one, changes, yes=yes, as_json=as_json)
        results.append(result)
        code = max(code, left)
    if as_json:
        print_json({"casts": results})
    elif not folders:
        console().print("nothing is unfinished here")
    if code:
        raise typer.Exit(code)


def show(
    folder: Annotated[
        Path | None, typer.Argument(help="The set: its folder, or its token. Without: all of the workspace.")
    ] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show how a set stands: images, what is under way, what it cost; also while another process works."""
    from talent_factory.core.workspace import workspace_from
    from talent_factory.datagen.overview import name_of, overview_of, sets_in

    place = workspace_from(workspace)
    if folder is not None:
        view = overview_of(_named(folder, place))
        emit({**plain(view), "finished": view.finished}, as_json, lambda: show_overview(view))
        return
    views = [overview_of(one) for one in sets_in(place.casts)]
    lines = [
        f"{name_of(view.folder)}: {view.done} of {view.target} images, by {view.provider}, "
        f"${view.spent_usd + view.reserved_usd:.2f}, {'finished' if view.finished else 'unfinished'}"
        for view in views
    ]
    documents = [{**plain(view), "finished": view.finished} for view in views]
    emit({"casts": documents}, as_json, lambda: print("\n".join(lines) or "no casts here"))


def providers(as_json: JsonOption = False) -> None:
    """List who can make images: models, prices, whether the key is set, what survives a crash."""
    rows = _rows()

    def human() -> None:
        before = ""
        for row in rows:
            if row["provider"] != before:
                before = row["provider"]
                console().print(_heading(row), soft_wrap=True)
            name = f"  {row['model'] or 'no models'}{' *' if row['default'] and row['model'] else ''}"
            price = f"${row['price_usd']:.3f}" if row["price_usd"] else "free"
            last = f"retired {row['retired_on']}" if row["retired_on"] else row["as_of"]
            many = f"{row['max_in_flight']} at a time"
            print(f"{name:<38} {price:>7}  {many:<14}  {last}".rstrip())
        print("* without --model. Prices are data of that day, for one image of about a megapixel.")

    emit({"providers": rows}, as_json, human)


def _rows() -> list[dict[str, Any]]:
    from talent_factory.providers.catalog import provider_names
    from talent_factory.providers.embedded import EmbeddedPainter
    from talent_factory.providers.models import listed_models

    rows = [_row("embedded", "", EmbeddedPainter().capabilities(), default=True)]
    for name in provider_names():
        cards = listed_models(name)
        for card in cards:
            row = _row(name, card.name, card.capabilities(), default=card is cards[0])
            rows.append(
                row | {"note": card.note, "retired_on": card.retired_on and card.retired_on.isoformat()}
            )
    from talent_factory.providers.diffusers_local import DEFAULT_MODEL
    from talent_factory.providers.port import Capabilities

    local = Capabilities(max_in_flight=1, network=False)
    return [*rows, _row("diffusers", DEFAULT_MODEL, local, default=True)]


def _heading(row: dict[str, Any]) -> Any:
    from rich.text import Text

    colour = "red" if row["key"] == "missing" else "green"
    key = f"{row['key_variable']} is {row['key']}" if row["key_variable"] else "no key needed"
    crash = f"; after a crash: {row['recovery']}"
    return Text.assemble((row["provider"], "bold"), ": ", (key, colour), crash)


def _row(provider: str, model: str, can: Any, *, default: bool) -> dict[str, Any]:
    from talent_factory.datagen.access import KEY_VARIABLES, key_of

    variables = KEY_VARIABLES.get(provider, ())
    recovery = "jobs found again" if can.recoverable else "jobs with an id found again"
    if not can.recoverable and not can.resumable:
        recovery = "made again" if not can.price_usd else "what was under way is lost"
    return {
        "provider": provider,
        "model": model,
        "default": default,
        "price_usd": can.price_usd,
        "as_of": can.price_as_of,
        "aspects": list(can.aspects) or ["any"],
        "max_in_flight": can.max_in_flight,
        "key_variable": variables[0] if variables else "",
        "key": "not needed" if not variables else "set" if key_of(provider) else "missing",
        "recovery": recovery,
        "note": "",
        "retired_on": None,
    }


def _tried(folder: Path, changes: dict[str, Any], *, yes: bool, as_json: bool) -> tuple[dict[str, Any], int]:
    """The document and exit code of one set of several: a failure must not keep the others waiting."""
    from talent_factory.datagen.overview import name_of

    try:
        order, picture = _order(folder, changes)
        outcome = carry_out(order, picture, folder, yes=yes)
    except Cancelled:
        raise
    except TalentError as error:
        typer.echo(f"error: {name_of(folder)}: {one_line(error.message)}", err=True)
        if error.remedy:
            typer.echo(f"next: {one_line(error.remedy)}", err=True)
        return {
            "cast": str(folder),
            "error": {"message": error.message, "remedy": error.remedy},
        }, error.exit_code
    if not as_json:
        console().print(f"{name_of(folder)}: {outcome.made.summary()}", markup=False)
    return plain(document(outcome)), 0 if outcome.complete else 3


def _order(folder: Path, changes: dict[str, Any]) -> tuple[Commission, Path]:
    """The order kept in `folder` with other terms, and the picture to go on with."""
    from talent_factory.datagen.commission import order_in, picture_in

    order = order_in(folder)
    if order.actor is not None:
        changed = {"actor": order.actor.model_copy(update=changes)}
    else:
        assert order.style is not None
        fit = {name: value for name, value in changes.items() if name != "pay_again"}
        changed = {"style": order.style.model_copy(update=fit)}  # type: ignore[dict-item]
    return order.model_copy(update=changed), picture_in(folder, order)


def _named(folder: Path, place: Workspace) -> Path:
    """The folder that the user means: a path, or the token of a set in the workspace."""
    if not folder.exists() and len(folder.parts) == 1 and (place.casts / folder).is_dir():
        return place.casts / folder
    return folder


def _set_of(folder: Path | None, place: Workspace) -> Path:
    if folder is not None:
        return _named(folder, place)
    found = _unfinished(place)
    if len(found) == 1:
        return found[0]
    if not found:
        raise UsageError(f"nothing is unfinished in {place.casts}", remedy="talent cast show")
    raise UsageError(
        f"{len(found)} sets are unfinished: {', '.join(one.name for one in found[:8])}",
        remedy="name one of them, or say --all",
    )


def _unfinished(place: Workspace) -> list[Path]:
    from talent_factory.datagen.overview import overview_of, sets_in

    views = [overview_of(one) for one in sets_in(place.casts)]
    return [view.folder for view in views if not view.finished and view.resumable]
