"""`talent persona new` and `set`: what is typed becomes a persona, or its next version."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from talent_factory.cli.common import DryRunOption, JsonOption, WorkspaceOption, console, emit, reporter

if TYPE_CHECKING:
    from talent_factory.core.workspace import Workspace
    from talent_factory.foundry.persona import Persona
    from talent_factory.foundry.persona_edit import Edit

_KIT = "ID, ID:WEIGHT or ID:WEIGHT@BEGIN-END"
PairsOption = list[str] | None
PaletteOption = Annotated[PairsOption, typer.Option("--palette", help="NAME=#RRGGBB; may be repeated.")]
VoiceOption = Annotated[PairsOption, typer.Option("--voice", help="NAME=VALUE, such as provider=piper.")]
ToneOption = Annotated[PairsOption, typer.Option("--tone", help="NAME=VALUE, such as warmth=0.7.")]
SayOption = Annotated[PairsOption, typer.Option("--say", help="A phrase it likes; may be repeated.")]
AvoidOption = Annotated[PairsOption, typer.Option("--avoid", help="A phrase it never says.")]
BoundaryOption = Annotated[PairsOption, typer.Option("--boundary", help="NAME=VALUE: what it keeps off.")]
PromptOption = Annotated[
    PairsOption,
    typer.Option("--prompt", "-p", help="A prompt; {subject}, {style} and palette names are filled in."),
]
NegativeOption = Annotated[str | None, typer.Option("--negative", help="What to keep out of pictures.")]
FinishOption = Annotated[
    str | None, typer.Option("--finish", help="The medium when no style acts, such as flat or ink.")
]
ProjectionOption = Annotated[
    float | None, typer.Option("--projection", min=0, help="Keep identities out of the styles' directions.")
]
SwitchOption = Annotated[
    bool | None, typer.Option("--switch/--no-switch", help="Let the kits take turns step by step.")
]
StepsOption = Annotated[int | None, typer.Option("--steps", min=1, max=500, help="Sampling steps.")]
GuidanceOption = Annotated[
    float | None, typer.Option("--guidance", min=0, max=50, help="How strictly to follow the prompt.")
]
SizeOption = Annotated[str | None, typer.Option("--size", help="WIDTHxHEIGHT of pictures.")]
SeedOption = Annotated[int | None, typer.Option("--seed", min=0, help="Seed of its pictures.")]
ChoiceOption = Annotated[
    Path | None,
    typer.Option("--choice", help="Mix as the choice.json of talent mix choose says."),
]
ThreadsOption = Annotated[
    int | None, typer.Option("--threads", min=1, help="Processor threads it draws with.")
]
NewArgument = Annotated[str, typer.Argument(metavar="ID", help="Its name, such as kairo.")]
OldArgument = Annotated[str, typer.Argument(metavar="ID", help="The persona.")]


def new(
    persona_id: NewArgument,
    identity: Annotated[PairsOption, typer.Option("--identity", "-i", help=f"Identity kit: {_KIT}.")] = None,
    style: Annotated[PairsOption, typer.Option("--style", "-s", help=f"Style kit: {_KIT}.")] = None,
    slider: Annotated[
        PairsOption,
        typer.Option("--slider", help="NAME=LOW_ID,HIGH_ID for its kits, NAME=VALUE for its place."),
    ] = None,
    base: Annotated[str, typer.Option("--base", help="The base of the kits.")] = "mini",
    projection: ProjectionOption = None,
    switch: SwitchOption = None,
    prompt: PromptOption = None,
    negative: NegativeOption = None,
    finish: FinishOption = None,
    palette: PaletteOption = None,
    steps: StepsOption = None,
    guidance: GuidanceOption = None,
    size: SizeOption = None,
    seed: SeedOption = None,
    choose: Annotated[
        bool, typer.Option("--choose", help="Draw and measure ways to mix identity and style; take the best.")
    ] = False,
    choice: ChoiceOption = None,
    replace: Annotated[bool, typer.Option("--replace", help="Overwrite a persona of that id.")] = False,
    dry_run: DryRunOption = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Save kits, their weights and sliders as a persona; prompts come from the identity if none are given."""
    from talent_factory.core.workspace import workspace_from
    from talent_factory.foundry.persona_book import add_persona, compose, read_dials
    from talent_factory.foundry.persona_edit import Edit, manner

    place = workspace_from(workspace)
    edit = Edit(
        prompts=tuple(prompt or ()),
        palette=tuple(palette or ()),
        negatives=negative,
        finish=finish,
        size=size,
        draw={"steps": steps, "guidance": guidance, "seed": seed},
    )
    persona = compose(
        persona_id,
        [*(identity or ()), *(style or ())],
        root=place.talents,
        base=base,
        dials=read_dials(slider or (), root=place.talents),
        mixing={"projection": projection or 0.0, "switch": bool(switch)},
        words=manner(edit),
    )
    persona = _chosen(persona, place, choose=choose and not dry_run, choice=choice)
    where = None if dry_run else add_persona(place.personas, persona, anew=replace)
    emit({"persona": persona, "path": where}, as_json, lambda: print_saved(persona, where))


def change(
    persona_id: OldArgument,
    slider: Annotated[PairsOption, typer.Option("--slider", help="NAME=VALUE from 0 to 1.")] = None,
    weight: Annotated[PairsOption, typer.Option("--weight", help="KIT_ID=WEIGHT from -2 to 2.")] = None,
    projection: ProjectionOption = None,
    switch: SwitchOption = None,
    prompt: PromptOption = None,
    negative: NegativeOption = None,
    finish: FinishOption = None,
    palette: PaletteOption = None,
    voice: VoiceOption = None,
    tone: ToneOption = None,
    say: SayOption = None,
    avoid: AvoidOption = None,
    boundary: BoundaryOption = None,
    steps: StepsOption = None,
    guidance: GuidanceOption = None,
    size: SizeOption = None,
    seed: SeedOption = None,
    threads: ThreadsOption = None,
    choice: ChoiceOption = None,
    base: Annotated[str | None, typer.Option("--base", help="Draw with this base from now on.")] = None,
    accept_kits: Annotated[
        bool, typer.Option("--accept-kits", help="Take kits that changed as they are now.")
    ] = False,
    dry_run: DryRunOption = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change a persona and count its version on; NAME= takes a colour or a word away."""
    from talent_factory.foundry.persona_edit import Edit

    edit = Edit(
        sliders=tuple(slider or ()),
        weights=tuple(weight or ()),
        palette=tuple(palette or ()),
        voice=tuple(voice or ()),
        tone=tuple(tone or ()),
        boundaries=tuple(boundary or ()),
        say=tuple(say or ()),
        avoid=tuple(avoid or ()),
        prompts=tuple(prompt or ()),
        finish=finish,
        negatives=negative,
        projection=projection,
        switch=switch,
        size=size,
        draw={"steps": steps, "guidance": guidance, "seed": seed, "threads": threads},
    )
    persona, where = _changed(
        persona_id,
        edit,
        base=base,
        kits=accept_kits,
        choice=choice,
        dry_run=dry_run,
        workspace=workspace,
    )
    emit({"persona": persona, "path": where}, as_json, lambda: print_saved(persona, where))


def _changed(
    persona_id: str,
    edit: Edit,
    *,
    base: str | None,
    kits: bool,
    choice: Path | None,
    dry_run: bool,
    workspace: Path | None,
) -> tuple[Persona, Path | None]:
    from talent_factory.core.workspace import workspace_from
    from talent_factory.foundry.persona import revised
    from talent_factory.foundry.persona_book import accept, change_persona, load_persona, persona_path
    from talent_factory.foundry.persona_choose import apply_choice, read_choice
    from talent_factory.foundry.persona_edit import edited

    place = workspace_from(workspace)

    def wanted(before: Persona) -> dict[str, object]:
        taken = accept(before, root=place.talents, base=base, kits=kits)
        if choice is not None:
            taken |= apply_choice(revised(before, taken), read_choice(choice))
        return {**taken, **edited(revised(before, taken), edit)}

    if dry_run:
        before = load_persona(place.personas, persona_id)
        return revised(before, wanted(before), remedy="talent persona set --help"), None
    after = change_persona(place.personas, persona_id, wanted)
    return after, persona_path(place.personas, persona_id)


def _chosen(persona: Persona, place: Workspace, *, choose: bool, choice: Path | None) -> Persona:
    """The persona with the way of mixing that was or now is measured best, as its first version."""
    from talent_factory.foundry.persona import revised
    from talent_factory.foundry.persona_choose import apply_choice, choose_for, read_choice

    if choice is None and not choose:
        return persona
    if choice is not None:
        found = read_choice(choice)
    else:
        with reporter() as listener:
            folder = place.root / "renders" / f"persona_{persona.id}" / "choice"
            found = choose_for(persona, root=place.talents, out=folder, reporter=listener)
            listener.message(found.reason)
    fresh = revised(persona, apply_choice(persona, found))
    return fresh.model_copy(update={"version": persona.version})


def print_saved(persona: Persona, where: Path | None) -> None:
    """Say what was saved, where, and what comes next."""
    console().print(f"{persona.id} {persona.version}: {where or 'not written'}", markup=False, soft_wrap=True)
    if where:
        console().print(f"next: talent persona render {persona.id}", markup=False)
