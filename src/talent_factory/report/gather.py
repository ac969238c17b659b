"""Gather what a run left on disk into the content of its report page."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from talent_factory import __version__
from talent_factory.core.plan import duration
from talent_factory.datagen.cast import CastManifest, load_cast
from talent_factory.foundry.recipe import read_recipe
from talent_factory.foundry.scenes import EVALUATION_SCENES, MIX_LADDER, MIX_SCENES, subject
from talent_factory.kits.manifest import WEIGHTS_FILE, Metadata, TalentManifest, read_manifest
from talent_factory.quality import Dials
from talent_factory.report.choice import gather_choice, loss_points, validation_points
from talent_factory.report.content import (
    CastPicture,
    MixCell,
    MixRow,
    NamedText,
    Pair,
    ReportContent,
    Timing,
)
from talent_factory.training.runs import read_losses


def gather(
    *,
    cast: Path,
    run: Path,
    kits: tuple[Path, Path | None],
    renders: Path,
    base: str,
    dials: Dials,
    timings: Mapping[str, float],
) -> ReportContent:
    """The content of one page; `kits` are the folders of the identity and, perhaps, the style.

    Raises DatasetError, KitError, FileError or UsageError when a part is missing or damaged.
    """
    identity, style = kits
    manifest, shoot, losses = read_manifest(identity), load_cast(cast), read_losses(run)
    token = shoot.token
    size = (identity / WEIGHTS_FILE).stat().st_size / 2**20
    pairs, mixes = _pairs(renders), _mixes(renders) if style else ()
    return ReportContent(
        token=token,
        title=token,
        lead=(
            f"One portrait became {len(shoot.done)} training images, {len(losses)} training steps and a kit "
            f"of {size:.1f} MB "
            + (
                # the file has their form, but none of them has this base
                "for the embedded base, in the form that tools for Stable Diffusion LoRAs read."
                if base == "mini"
                else "that tools for Stable Diffusion LoRAs read as it stands."
            )
        ),
        portrait=cast / shoot.portrait.file,
        hero=pairs[0].trained if pairs else None,
        cast=_cast_pictures(cast, shoot),
        pairs=pairs,
        mixes=mixes,
        style_name=style.name if style else "",
        choice=gather_choice(run),
        loss=loss_points(run),
        validation=validation_points(run),
        highlights=(
            NamedText(name="training images", text=str(len(shoot.done))),
            NamedText(name="steps", text=str(len(losses))),
            NamedText(name="weights", text=f"{size:.1f} MB"),
            NamedText(name="of work in all", text=duration(sum(timings.values()))),
        ),
        facts=_facts(manifest, shoot, identity),
        reasons=dials.reasons,
        timings=tuple(Timing(stage=stage, seconds=seconds) for stage, seconds in timings.items()),
        commands=_commands(manifest, shoot, identity, mixed=(style, mixes) if style else None, base=base),
        version=__version__,
    )


def _cast_pictures(cast: Path, shoot: CastManifest) -> tuple[CastPicture, ...]:
    return tuple(
        CastPicture(
            path=cast / slot.file,
            slot=slot.title,
            medium=slot.medium.replace("_", " "),
            method=slot.method,
            augmentation=slot.augmentation,
        )
        for slot in shoot.done
    )


def _pairs(renders: Path) -> tuple[Pair, ...]:
    """One pair for each render of the kit; what it shows is read from the recipe inside the picture."""
    paths = sorted((renders / "kit").glob("*.png"))
    copies = max(1, len(paths) // len(EVALUATION_SCENES))
    pairs = []
    for index, path in enumerate(paths):
        recipe = read_recipe(path)
        scene = EVALUATION_SCENES[min(index // copies, len(EVALUATION_SCENES) - 1)]
        pairs.append(
            Pair(
                title=scene.title,
                prompt=recipe.prompt,
                seed=recipe.seed,
                base=renders / "base" / path.name,
                trained=path,
            )
        )
    return tuple(pairs)


def _mixes(renders: Path) -> tuple[MixRow, ...]:
    rows = []
    for index, scene in enumerate(MIX_SCENES):
        name = f"{index + 1:03d}.png"
        cells = tuple(
            MixCell(label=_label(*weights), path=renders / f"mix_{number}" / name)
            for number, weights in enumerate(MIX_LADDER)
        )
        # the second rung is the first with both names in its prompt
        rows.append(MixRow(title=scene.title, prompt=read_recipe(cells[1].path).prompt, cells=cells))
    return tuple(rows)


def _label(of_identity: float, of_style: float) -> str:
    if not of_style:
        return f"identity {of_identity:g}"
    return f"+ style {of_style:g}" if of_identity else f"style {of_style:g} alone"


def _facts(manifest: TalentManifest, shoot: CastManifest, kit: Path) -> tuple[NamedText, ...]:
    metadata = manifest.metadata or Metadata()
    training: dict[str, object] = dict(metadata.training or {})
    if manifest.training_config is not None:
        training |= manifest.training_config.model_dump(exclude_none=True)
    facts = {
        "id": manifest.id,
        "trigger": f"{shoot.token} {shoot.class_noun}",
        "base": f"{manifest.base_model}, revision {(metadata.base_revision or 'unknown')[:12]}",
        "rank and alpha": f"{manifest.lora_rank} and {metadata.alpha or manifest.lora_rank:g}",
        "steps": f"{training.get('max_train_steps', '?')}, batches of {training.get('batch_size', '?')}",
        "learning rate": f"{training.get('learning_rate', '?')}",
        "training images": shoot.summary(),
        "made by": f"the {shoot.provider} painter, recipe {shoot.recipe} version {shoot.recipe_version}",
        "default weight": f"{manifest.default_weight:g}",
        "weights, sha256": (metadata.digests or {}).get(WEIGHTS_FILE, "not stated"),
        "portrait, sha256": shoot.portrait.sha256,
        "licence": metadata.license or "not stated",
        "folder": str(kit),
    }
    return tuple(NamedText(name=name, text=text) for name, text in facts.items())


def _commands(
    manifest: TalentManifest,
    shoot: CastManifest,
    kit: Path,
    *,
    mixed: tuple[Path, tuple[MixRow, ...]] | None,
    base: str,
) -> tuple[NamedText, ...]:
    """What to type next, from any folder: the workspace is named, and any base but the embedded one."""
    scene = f"ink portrait of {subject(shoot.token, shoot.class_noun)}, smiling, city background"
    where = ["--workspace", str(kit.parents[2])]
    where = where if base == "mini" else ["--base", base, *where]
    drawn = ["--count", "4", "--prompt", scene]
    commands = {
        "Draw a scene of your own, four times": ["render", "--kit", manifest.id, *drawn, *where],
        "Check every file of the kit": ["kit", "validate", manifest.id, *where[-2:]],
    }
    if mixed is not None:
        style, rows = mixed
        words = [word for row in rows[:1] for word in ("--prompt", row.prompt)]
        commands["Mix it with the style"] = [
            "mix", f"{manifest.id}:1.0", f"{style.name}:0.4", *words, *where
        ]  # fmt: skip
    return tuple(
        NamedText(name=name, text=shlex.join(["talent", *words])) for name, words in commands.items()
    )
