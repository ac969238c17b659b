"""`talent mix`: kits together; how well they go, which way of mixing is best, and one kit out of several."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from talent_factory.cli.common import (
    DefaultCommandGroup,
    DryRunOption,
    JsonOption,
    WorkspaceOption,
    console,
    emit,
    reporter,
)
from talent_factory.cli.render import (
    BaseOption,
    BatchOption,
    CountOption,
    GuidanceOption,
    NegativeOption,
    OutOption,
    PreviewOption,
    PromptOption,
    SeedOption,
    SizeOption,
    StepsOption,
    render_session,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from talent_factory.foundry.blend import Mix
    from talent_factory.foundry.compat import Overlap
    from talent_factory.foundry.ways import MixChoice

app = typer.Typer(
    cls=DefaultCommandGroup,
    no_args_is_help=True,
    add_completion=False,
    help="Mix kits. `talent mix ID:WEIGHT ID:WEIGHT` is `talent mix render ID:WEIGHT ID:WEIGHT`.",
)

KitsArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="KIT...",
        help="ID, ID:WEIGHT, ID:WEIGHT@BEGIN-END (shares of the steps), ID:WEIGHT/BLOCK=FACTOR,...",
    ),
]
ProjectionOption = Annotated[
    float,
    typer.Option(
        "--projection",
        min=0,
        max=1000,
        help="Keep identities out of what styles read (NP-LoRA): 0 not at all, 0.5 as in the paper.",
    ),
]
SwitchOption = Annotated[
    bool, typer.Option("--switch", help="Let the kits take turns, one a step: for three and more.")
]


@app.command("render")
def render(
    kits: KitsArgument,
    projection: ProjectionOption = 0.0,
    switch: SwitchOption = False,
    prompt: PromptOption = None,
    negative: NegativeOption = "",
    seed: SeedOption = 0,
    count: CountOption = 1,
    steps: StepsOption = 20,
    guidance: GuidanceOption = None,
    size: SizeOption = None,
    batch: BatchOption = 4,
    preview: PreviewOption = 0,
    base: BaseOption = "mini",
    out: OutOption = None,
    dry_run: DryRunOption = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Render a mix, such as avatar.identity.a:1.0 avatar.style.b:0.7: the exact weighted sum of the kits."""
    from talent_factory.core.errors import UsageError
    from talent_factory.core.workspace import workspace_from
    from talent_factory.foundry.asked import read_size
    from talent_factory.foundry.session import prepare

    if len(kits) < 2:
        raise UsageError(
            "a mix needs two kits", remedy=f"talent render --kit {kits[0]}, or name a second kit"
        )
    place = workspace_from(workspace)
    options = {"negative": negative, "steps": steps, "guidance": guidance, "batch": batch}
    session = prepare(
        kits,
        root=place.talents,
        base=base,
        prompts=prompt or [],
        seeds=range(seed, seed + count),
        options=options if size is None else {**options, "size": read_size(size)},
        mixing={"projection": projection, "switch": switch},
    )
    folder = out or place.root / "renders" / session.key
    render_session(session, folder, preview=preview, dry_run=dry_run, as_json=as_json)


@app.command("check")
def check(
    kits: KitsArgument,
    base: BaseOption = "mini",
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say how much kits get into each other's way, before anything is rendered."""
    from talent_factory.core.errors import UsageError
    from talent_factory.foundry.compat import compatibility
    from talent_factory.foundry.discover import strength_warning

    mix = _mix(kits, base, workspace)
    if len(kits) < 2:
        raise UsageError("one kit is in nobody's way", remedy="name a second kit")
    found, warning = compatibility(mix.ingredients), strength_warning(mix.ingredients)
    emit({"pairs": found, "warning": warning}, as_json, lambda: _show_pairs(found, warning))


@app.command("choose")
def choose(
    identity: Annotated[
        str, typer.Argument(metavar="IDENTITY", help="An identity, with its weight if you like.")
    ],
    style: Annotated[str, typer.Argument(metavar="STYLE", help="A style, with its weight if you like.")],
    noun: Annotated[
        str | None,
        typer.Option("--noun", help="What the identity is.", show_default="the word behind its trigger"),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            "--encoder", help="Who tells the identity: dinov2:FOLDER, clip:FOLDER, ... (mini: probe)."
        ),
    ] = None,
    adherence: Annotated[
        str | None, typer.Option("--adherence", help="Who reads prompts: clip:FOLDER, or none (mini: probe).")
    ] = None,
    seed: SeedOption = 0,
    base: BaseOption = "mini",
    out: OutOption = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Draw every way of mixing two kits on the same prompts, measure, and keep the best as choice.json.

    Identity, style and prompt are shares of what either kit alone reaches; their harmonic mean decides, and
    another way than the plain sum has to be surely better.
    """
    from talent_factory.core.workspace import workspace_from
    from talent_factory.foundry.choose_mix import choose_and_keep

    place, mix = workspace_from(workspace), _mix([identity, style], base, workspace)
    names = "_".join(use.kit.id.rsplit(".", 1)[1] for use in mix.ingredients)
    folder = out or place.root / "renders" / f"mix_{names}"
    with reporter() as listener:
        choice = choose_and_keep(
            base,
            mix.ingredients,
            out=folder,
            judges=(encoder, adherence),
            noun=noun,
            seed=seed,
            reporter=listener,
        )
    emit({**choice.model_dump(mode="json"), "folder": folder}, as_json, lambda: _show_choice(choice, folder))


@app.command("export")
def export(
    kits: KitsArgument,
    talent_id: Annotated[str, typer.Option("--id", help="Id of the new kit.")],
    projection: ProjectionOption = 0.0,
    precision: Annotated[str, typer.Option("--precision", help="fp16 or fp32.")] = "fp16",
    replace: Annotated[
        bool, typer.Option("--replace", help="Put it in the place of a kit of that id.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything; write nothing.")] = False,
    base: BaseOption = "mini",
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make one kit of a mix: the exact sum as a single LoRA, which every program loads."""
    from talent_factory.core.errors import KitError, UsageError
    from talent_factory.core.workspace import check_id, workspace_from
    from talent_factory.foundry.blend import refuse_single_file

    place = workspace_from(workspace)
    mix = _mix(kits, base, workspace, projection=projection)
    folder, kind = place.talents / check_id(talent_id), _precision(precision)
    if len(kits) < 2:
        raise UsageError("a mix needs two kits", remedy="name a second kit")
    if folder.exists() and not replace:
        raise KitError(f"there is a kit {talent_id} already", remedy="add --replace, or choose another --id")
    refuse_single_file(mix)
    if not dry_run:
        from talent_factory.foundry.mix_export import export_mix
        from talent_factory.training.resolve import resolve_base

        export_mix(
            mix,
            talent_id=talent_id,
            root=place.talents,
            base_folder=resolve_base(base).kit_folder,
            precision=kind,
        )
    result = {"kit": None if dry_run else folder, "kits": _plain(mix), "projection": projection}
    text = f"would write {folder}" if dry_run else f"{folder}\nnext: talent kit examples {talent_id}"
    emit(result, as_json, lambda: console().print(text, markup=False, soft_wrap=True))


def _precision(text: str) -> Literal["fp16", "fp32"]:
    from talent_factory.core.errors import UsageError

    if text == "fp16":
        return "fp16"
    if text == "fp32":
        return "fp32"
    raise UsageError(f"there is no precision {text[:20]!r}", remedy="write fp16 or fp32")


def _mix(texts: Sequence[str], base: str, workspace: Path | None, *, projection: float = 0.0) -> Mix:
    """The kits that were named, checked to be of one base; torch is not loaded."""
    from talent_factory.core.workspace import workspace_from
    from talent_factory.foundry.blend import Mix
    from talent_factory.foundry.discover import check_same_base, read_ingredient
    from talent_factory.training.resolve import resolve_base

    place, folder = workspace_from(workspace), resolve_base(base).kit_folder
    uses = tuple(read_ingredient(text, place.talents, base_folder=folder) for text in texts)
    check_same_base(uses)
    return Mix(ingredients=uses, projection=projection)


def _plain(mix: Mix) -> list[dict[str, object]]:
    return [{"id": use.kit.id, **use.model_dump(mode="json", exclude={"kit"})} for use in mix.ingredients]


def _show_pairs(found: Sequence[Overlap], warning: str) -> None:
    lines = []
    for pair in found:
        lines += [
            f"{pair.first} and {pair.second}: {pair.score:.2f}",
            f"  {pair.words}",
            (
                f"  {pair.layers} layers in common: columns {pair.columns:.2f} (chance {pair.chance:.2f}), "
                f"reads {pair.reads:.2f}, writes {pair.writes:.2f}, balance {pair.balance:.2f}"
            ),
        ]
    lines += [f"note: {warning}"] if warning else []
    console().print("\n".join(lines), markup=False, soft_wrap=True)


def _show_choice(choice: MixChoice, folder: Path) -> None:
    lines = [choice.reason, ""]
    for one in sorted(choice.tried, key=lambda way: -way.marks.harmonic):
        mark = "  chosen" if one.name == choice.chosen else ""
        lines.append(
            f"{one.marks.harmonic:.3f} ({one.low:.3f} to {one.high:.3f})  identity {one.marks.identity:.2f}  "
            f"style {one.marks.style:.2f}  prompt {one.marks.prompt:.2f}  {one.name}{mark}"
        )
    lines += ["", f"pictures and figures: {folder}", f"draw with it: talent mix {words_of(choice)}"]
    console().print("\n".join(lines), markup=False, soft_wrap=True)


def words_of(choice: MixChoice) -> str:
    """What was chosen as one would type it after `talent mix`."""
    from talent_factory.foundry.ways import written

    best = choice.best
    words = [written(use) for use in best.kits]
    return " ".join([*words, *([f"--projection {best.projection:g}"] if best.projection else [])])
