"""One render command from words to files: what is asked is checked first, then the base is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from talent_factory.core.config import parse
from talent_factory.core.errors import KitError, UsageError
from talent_factory.core.events import Reporter
from talent_factory.core.files import atomic_path, json_text, sha256_bytes
from talent_factory.foundry.blend import Mix
from talent_factory.foundry.discover import check_same_base, read_ingredient, strength_warning
from talent_factory.foundry.recipe import read_recipe
from talent_factory.foundry.render import RenderOrder, image_name, open_base, render
from talent_factory.foundry.sheets import contact_sheet
from talent_factory.training.resolve import resolve_base

SHEET_FILE = "sheet.png"


@dataclass(frozen=True)
class Session:
    """A checked render command: which base, which kits at which weights, which images."""

    base: str
    mix: Mix
    order: RenderOrder

    @property
    def key(self) -> str:
        """A short name that other kits, weights, prompts or numbers would change."""
        uses = [[use.kit.sha256, use.model_dump(exclude={"kit"})] for use in self.mix.ingredients]
        ways = self.mix.model_dump(exclude={"ingredients"})
        return sha256_bytes(json_text([self.base, uses, ways, self.order.model_dump()]).encode())[:12]

    @property
    def warning(self) -> str:
        """A remark about the mix, or an empty text."""
        return strength_warning(self.mix.ingredients)


def prepare(
    kits: Sequence[str],
    *,
    root: Path,
    base: str,
    prompts: Sequence[str],
    seeds: Sequence[int],
    options: Mapping[str, object],
    mixing: Mapping[str, object] = MappingProxyType({}),
) -> Session:
    """Check a command: `kits` as `read_ingredient` takes them below `root`, `options` as in `RenderOrder`.

    `mixing` are the further fields of `Mix`, such as `projection`.
    Without prompts the first kit's own are used. Raises UsageError, BaseError or KitError; loads no model.
    """
    found = resolve_base(base)
    folder, own = found.kit_folder, "mini" if found.form == "mini" else found.family
    ingredients = tuple(read_ingredient(text, root, base_folder=folder) for text in kits)
    check_same_base(ingredients)
    for kit in (use.kit for use in ingredients):
        if folder is None and kit.base != own:
            raise KitError(f"{kit.id} was trained on {kit.manifest.base_model}", remedy="name it with --base")
    chosen = list(prompts) or (list(ingredients[0].kit.prompts.positive_prompts) if ingredients else [])
    if not chosen:
        raise UsageError("there is nothing to draw", remedy='add --prompt "ink portrait of a woman, smiling"')
    # as plain data, so that what cannot be drawn is told in one line like any other option
    shots = [{"prompt": prompt, "seed": seed} for prompt in chosen for seed in seeds]
    asked = {**options, "shots": shots}
    order = parse(RenderOrder, asked, source="the command", remedy="talent render --help")
    mix = parse(Mix, {**mixing, "ingredients": ingredients}, source="the mix", remedy="talent mix --help")
    return Session(base=base, mix=mix, order=order)


def shoot(session: Session, *, out: Path, reporter: Reporter) -> tuple[tuple[Path, ...], Path]:
    """Render everything into `out` and lay a contact sheet beside it; returns the images and the sheet.

    Renders of before are replaced. Raises UsageError when a file that is none would be.
    """
    _refuse_foreign(out, len(session.order.shots))
    model = open_base(session.base)
    images = render(model, session.order, mix=session.mix, out=out, reporter=reporter)
    pictures = [
        (f"{shot.seed}  {shot.prompt}", path) for shot, path in zip(session.order.shots, images, strict=True)
    ]
    sheet = contact_sheet(pictures, columns=4)
    with atomic_path(out / SHEET_FILE) as temporary:
        sheet.save(temporary, "PNG")
    return images, out / SHEET_FILE


def _refuse_foreign(out: Path, count: int) -> None:
    """Leave alone pictures of the user's that happen to be called like renders; ours carry a recipe."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file, not a folder", remedy="name a folder with --out")
    images = [out / image_name(number) for number in range(1, count + 1)]
    foreign = [path for path in images if path.exists() and not _is_render(path)]
    if (out / SHEET_FILE).exists() and not images[0].exists():
        foreign.append(out / SHEET_FILE)
    if foreign:
        raise UsageError(
            f"{foreign[0]} is no render and would be overwritten", remedy="name another folder with --out"
        )


def _is_render(path: Path) -> bool:
    try:
        return bool(read_recipe(path))
    except UsageError:
        return False
