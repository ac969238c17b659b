"""From a persona to what draws it: the very kits it was saved with, their mix, and prompts with its words."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from talent_factory.core.config import parse
from talent_factory.core.errors import BaseError, KitError, TalentError, UsageError
from talent_factory.core.records import Record
from talent_factory.foundry.blend import Mix
from talent_factory.foundry.discover import Ingredient, Kit, check_same_base, load_kit, strength_warning
from talent_factory.foundry.kinds import templates, usual_size
from talent_factory.foundry.persona import BaseUse, Persona, PersonaKit
from talent_factory.foundry.render import RenderOrder
from talent_factory.foundry.session import Session
from talent_factory.kits.words import wake_phrase
from talent_factory.training.resolve import FoundBase, resolve_base
from talent_factory.world.palette import MEDIA

# Enough digits to tell two files apart by eye.
_SHOWN = 12


class Finding(Record):
    """One thing that keeps a persona from drawing what it drew, or that its maker should know."""

    subject: str
    message: str
    remedy: str = ""
    fatal: bool = True


@dataclass(frozen=True)
class OpenPersona:
    """A persona whose base and kits are here and unchanged; `base` is what the foundry opens."""

    persona: Persona
    base: str
    kits: Mapping[str, Kit]

    def at(self, sliders: Mapping[str, float]) -> OpenPersona:
        """The same with some sliders elsewhere. Raises UsageError as `Persona.dialled`."""
        return replace(self, persona=self.persona.dialled(sliders))

    @property
    def mix(self) -> Mix:
        """The kits that act, at their weights as the sliders stand."""
        factors = self.persona.factors()
        acting = [use for use in self.persona.kits if use.weight * factors[use.id]]
        return Mix(
            ingredients=tuple(use.ingredient(self.kits[use.id], factor=factors[use.id]) for use in acting),
            projection=self.persona.projection,
            switch=self.persona.switch,
        )

    @property
    def subject(self) -> str:
        """What prompts call the actor: trigger and class of the first identity, `person` without one."""
        identity = next((kit for kit in self.kits.values() if kit.manifest.is_identity), None)
        return (wake_phrase(identity.manifest) if identity else "") or "person"

    @property
    def style(self) -> str:
        """The trigger of the strongest style that acts and has one; the persona's finish when none does.

        One alone: with two triggers in the place of a medium, prompts lost their backgrounds, and the weaker
        style showed all the same.
        """
        uses = [use for use in self.mix.ingredients if not use.kit.manifest.is_identity]
        uses.sort(key=lambda use: (-abs(use.weight), use.kit.id))
        words = (wake_phrase(use.kit.manifest) for use in uses)
        return next((word for word in words if word), self.persona.finish)

    def prompt(self, template: str) -> str:
        """`template` with this persona's words in the places for them."""
        words = {"subject": self.subject, "style": self.style}
        words |= {name: _colour_word(value) for name, value in self.persona.palette.items()}
        text = re.sub(r"\{([a-z0-9_]+)\}", lambda hole: words.get(hole[1], hole[0]), template)
        # a word that is empty leaves its space and its comma behind
        text = re.sub(r"\s+", " ", text)
        return re.sub(r"( ?, ?)+", ", ", text).strip(" ,")

    def session(
        self,
        *,
        prompts: Sequence[str] = (),
        seeds: Sequence[int] = (),
        options: Mapping[str, object] = MappingProxyType({}),
        kind: str = "",
    ) -> Session:
        """What to render: own prompts and seed where none are given; `options` are fields of `RenderOrder`.

        `kind` takes the prompts of an introduction instead. Raises UsageError when there is nothing to draw
        or something cannot be drawn.
        """
        if kind and prompts:
            raise UsageError(f"{kind} has prompts of its own", remedy="leave out --kind, or --prompt")
        found = resolve_base(self.base)
        plates = templates(kind, drawn=found.form == "mini") if kind else ()
        texts = [plate.prompt for plate in plates] or prompts or self.persona.prompts
        chosen = [self.prompt(text) for text in texts]
        if not chosen:
            raise UsageError(
                f"{self.persona.id} has no prompts",
                remedy=f'talent persona set {self.persona.id} --prompt "{{style}} portrait of {{subject}}"',
            )
        draw = self.persona.draw
        numbers = tuple(seeds) or (draw.seed,)
        asked: dict[str, object] = {
            "negative": self.persona.negatives,
            **usual_size(kind, found),
            **draw.model_dump(exclude={"seed"}, exclude_none=True),
            **options,
            "shots": [{"prompt": text, "seed": seed} for text in chosen for seed in numbers],
        }
        order = parse(RenderOrder, asked, source="the drawing", remedy="talent persona render --help")
        titles = tuple(plate.title for plate in plates for _ in numbers)
        return Session(base=self.base, mix=self.mix, order=order, kind=kind, titles=titles)


def template_of(prompt: str, kit: Kit) -> str:
    """A kit's ready prompt with places for the subject and the style, so that a mix can fill them."""
    text = prompt
    for words in (wake_phrase(kit.manifest), kit.manifest.token or ""):
        if words and "{subject}" not in text:
            text = re.sub(rf"(?<!\w){re.escape(words)}(?!\w)", "{subject}", text, count=1)
    first, _, rest = text.partition(" ")
    return f"{{style}} {rest}" if first in MEDIA else f"{text}, {{style}}"


def finish_of(kit: Kit) -> str:
    """The medium of a kit's first prompt, an empty text when it names none that we know."""
    first = kit.prompts.positive_prompts[0].partition(" ")[0]
    return first if first in MEDIA else ""


def find_base(name: str, revision: str | None, *, persona_id: str) -> tuple[FoundBase, BaseUse]:
    """The base called `name` and how a persona notes it.

    Raises BaseError when it is not here, or is not the one of `revision`.
    """
    found = resolve_base(name)
    now = found.revision()
    if revision is not None and now != revision:
        raise BaseError(
            f"persona {persona_id} was saved for the base {revision[:_SHOWN]}, {name} is {now[:_SHOWN]}",
            remedy=f"name its own base with --base, or take this one: talent persona set {persona_id} "
            f"--base {name}",
        )
    return found, BaseUse(name=name, revision=now)


def fetch_kit(use: PersonaKit, *, root: Path, found: FoundBase, persona_id: str) -> Kit:
    """The kit of a persona, with the bytes it was saved with.

    Raises KitError when it is missing, invalid, of another base or changed; both digests are named then.
    """
    kit = own_kit(use.id, root=root, found=found)
    if kit.sha256 != use.sha256:
        raise KitError(
            f"kit {use.id} changed since persona {persona_id} was saved: its weights were "
            f"{use.sha256[:_SHOWN]}, now they are {kit.sha256[:_SHOWN]}",
            remedy=f"restore the kit, or take it as it is now: talent persona set {persona_id} --accept-kits",
        )
    return kit


def own_kit(talent_id: str, *, root: Path, found: FoundBase) -> Kit:
    """The kit `talent_id` below `root`, made for this base.

    Raises KitError when it is missing, invalid or made for another base.
    """
    kit = load_kit(root, talent_id, base_folder=found.kit_folder)
    check_base(kit, found)
    return kit


def check_base(kit: Kit, found: FoundBase) -> None:
    """Raise KitError unless the kit was made for this base, down to its revision where it states one."""
    own = "mini" if found.form == "mini" else found.family
    if found.kit_folder is None and kit.base != own:
        raise KitError(f"{kit.id} was trained on {kit.manifest.base_model}", remedy="name it with --base")
    if kit.base_revision not in (None, found.revision()):
        raise KitError(
            f"{kit.id} was trained on another base than {found.name}",
            remedy="name its own base with --base, or train the kit again",
        )


def open_persona(persona: Persona, *, root: Path, base: str | None = None) -> OpenPersona:
    """The persona with its base and kits, all of them as they were when it was saved; loads no model.

    `base` names the same base where it lies elsewhere now. Raises BaseError or KitError at the first that is
    missing or not the same.
    """
    found, _ = find_base(base or persona.base.name, persona.base.revision, persona_id=persona.id)
    kits = {use.id: fetch_kit(use, root=root, found=found, persona_id=persona.id) for use in persona.kits}
    check_same_base([Ingredient(kit=kit, weight=0.0) for kit in kits.values()])
    return OpenPersona(persona=persona, base=found.name, kits=kits)


def examine(persona: Persona, *, root: Path, base: str | None = None) -> tuple[Finding, ...]:
    """Everything that is wrong with a persona, not only the first, and remarks about its mix."""
    try:
        found, _ = find_base(base or persona.base.name, persona.base.revision, persona_id=persona.id)
    except TalentError as error:
        return (_finding("base", error),)
    findings: list[Finding] = []
    kits: dict[str, Kit] = {}
    for use in persona.kits:
        try:
            kits[use.id] = fetch_kit(use, root=root, found=found, persona_id=persona.id)
        except TalentError as error:
            findings.append(_finding(use.id, error))
    if findings:
        return tuple(findings)
    opened = OpenPersona(persona=persona, base=found.name, kits=kits)
    findings += _together(opened)
    return tuple(findings)


def _together(opened: OpenPersona) -> list[Finding]:
    """What can be said of the whole: bases that differ, nothing to draw, weights that burn somewhere."""
    findings: list[Finding] = []
    checks: tuple[tuple[str, Callable[[], object]], ...] = (
        ("kits", lambda: check_same_base([Ingredient(kit=kit, weight=0.0) for kit in opened.kits.values()])),
        ("prompts", opened.session),
    )
    for subject, check in checks:
        try:
            check()
        except TalentError as error:
            findings.append(_finding(subject, error))
    warning = strength_warning(opened.mix.ingredients)
    if warning:
        findings.append(Finding(subject="kits", message=warning, fatal=False))
    return findings


def _finding(subject: str, error: TalentError) -> Finding:
    return Finding(subject=subject, message=error.message, remedy=error.remedy)


def _colour_word(value: str) -> str:
    from talent_factory.providers.vision.measures import colour_name

    red, green, blue = (int(value[index : index + 2], 16) for index in (1, 3, 5))
    return colour_name(red, green, blue)
