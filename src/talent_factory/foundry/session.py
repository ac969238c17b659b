"""One render command from words to files: what is asked is checked first, then the base is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from talent_factory.core.config import parse
from talent_factory.core.errors import KitError, UsageError
from talent_factory.core.events import Reporter
from talent_factory.core.files import atomic_path, clear_leftovers, json_text, sha256_bytes
from talent_factory.core.stop import StopSignal
from talent_factory.foundry.blend import Mix, refuse_projected_lengths
from talent_factory.foundry.discover import check_same_base, read_ingredient, strength_warning
from talent_factory.foundry.kinds import lay_out, plates_of, usual_size
from talent_factory.foundry.recipe import read_recipe
from talent_factory.foundry.render import RenderOrder, image_name, open_base, render
from talent_factory.training.resolve import resolve_base

SHEET_FILE = "sheet.png"


@dataclass(frozen=True)
class Session:
    """A checked render command: which base, which kits at which weights, which images."""

    base: str
    mix: Mix
    order: RenderOrder
    kind: str = ""
    """One of `kinds.KINDS`, or nothing in particular."""
    titles: tuple[str, ...] = ()
    """What to write below each image; seeds and prompts where there are none."""

    @property
    def key(self) -> str:
        """A short name that other kits, weights, prompts or numbers would change."""
        uses = [[use.kit.sha256, use.model_dump(exclude={"kit"})] for use in self.mix.ingredients]
        ways = self.mix.model_dump(exclude={"ingredients"})
        return sha256_bytes(json_text([self.base, uses, ways, self.order.model_dump()]).encode())[:12]

    @property
    def warning(self) -> str:
        """A remark about the mix, or an empty text."""
        return "" if self.mix.switch else strength_warning(self.mix.ingredients)


def prepare(
    kits: Sequence[str],
    *,
    root: Path,
    base: str,
    prompts: Sequence[str],
    seeds: Sequence[int],
    options: Mapping[str, object],
    mixing: Mapping[str, object] = MappingProxyType({}),
    kind: str = "",
) -> Session:
    """Check a command: `kits` as `read_ingredient` takes them below `root`, `options` as in `RenderOrder`.

    `mixing` are the further fields of `Mix`, such as `projection`. Without prompts the first kit's own are
    used, or those of a `kind` of introduction with the words of the kits. Raises UsageError, BaseError or
    KitError; loads no model.
    """
    found = resolve_base(base)
    folder, own = found.kit_folder, "mini" if found.form == "mini" else found.family
    ingredients = tuple(read_ingredient(text, root, base_folder=folder) for text in kits)
    check_same_base(ingredients)
    for kit in (use.kit for use in ingredients):
        if folder is None and kit.base != own:
            raise KitError(f"{kit.id} was trained on {kit.manifest.base_model}", remedy="name it with --base")
    plates = plates_of(kind, [use.kit for use in ingredients], drawn=own == "mini") if kind else ()
    if kind and prompts:
        raise UsageError(f"{kind} has prompts of its own", remedy="leave out --kind, or --prompt")
    chosen = [plate.prompt for plate in plates] or list(prompts)
    if not chosen and ingredients:
        chosen = list(ingredients[0].kit.prompts.positive_prompts)
    if not chosen:
        raise UsageError("there is nothing to draw", remedy='add --prompt "ink portrait of a woman, smiling"')
    # as plain data, so that what cannot be drawn is told in one line like any other option
    shots = [{"prompt": prompt, "seed": seed} for prompt in chosen for seed in seeds]
    titles = tuple(plate.title for plate in plates for _ in seeds)
    asked = {**usual_size(kind, found), **options, "shots": shots}
    order = parse(RenderOrder, asked, source="the command", remedy="talent render --help")
    mix = parse(Mix, {**mixing, "ingredients": ingredients}, source="the mix", remedy="talent mix --help")
    refuse_projected_lengths(mix)
    return Session(base=base, mix=mix, order=order, kind=kind, titles=titles)


def shoot(
    session: Session,
    *,
    out: Path,
    reporter: Reporter,
    stop: StopSignal | None = None,
    preview: int = 0,
) -> tuple[tuple[Path, ...], Path]:
    """Render everything into `out` and lay a sheet beside it; returns the images and the sheet.

    Images that are there already by their recipe are kept, other renders are replaced. With `preview` = N the
    file preview.png there shows the images of the moment after every N steps. Raises UsageError when a file
    that is no render would be replaced, Cancelled when `stop` asks for it: the same call goes on then.
    """
    _refuse_foreign(out, len(session.order.shots))
    clear_leftovers(out)
    model = open_base(session.base)
    live = None
    if preview:
        from talent_factory.foundry.preview import PREVIEW_FILE, Preview

        live = Preview(out / PREVIEW_FILE, every=preview)
    try:
        images = render(
            model, session.order, mix=session.mix, out=out, reporter=reporter, stop=stop, preview=live
        )
    finally:
        if live is not None:
            live.done()
    sheet = lay_out(session.kind, session.titles, session.order.shots, images)
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
