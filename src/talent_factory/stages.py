"""The stages of the pipeline: what each is made from, what it leaves, what it costs and who does it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from talent_factory import pace
from talent_factory import stage_work as work
from talent_factory.base_facts import BaseFacts
from talent_factory.core.events import Reporter
from talent_factory.core.stop import StopSignal
from talent_factory.core.workspace import Workspace
from talent_factory.quality import Dials
from talent_factory.stage_book import Stage, StageOutcome

if TYPE_CHECKING:
    from talent_factory.datagen.actor import CastOptions
    from talent_factory.training.config import TrainConfig


@dataclass(frozen=True)
class Floor:
    """Where work happens, who hears of it, and who may stop it."""

    place: Workspace
    reporter: Reporter
    stop: StopSignal
    base: BaseFacts
    dials: Dials
    replace: bool = False
    """Whether a training of other inputs is put aside for a new one; if not, it is refused by name."""


@dataclass(frozen=True)
class Actor:
    """Who a run is about, and where its things lie."""

    token: str
    class_noun: str
    seed: int
    talent_id: str
    cast: Path
    dataset: Path
    kit: Path
    renders: Path
    report: Path

    @classmethod
    def at(cls, place: Workspace, *, token: str, class_noun: str, seed: int) -> Actor:
        """The actor `token` in a workspace."""
        talent_id = f"avatar.identity.{token}"
        return cls(
            token=token,
            class_noun=class_noun,
            seed=seed,
            talent_id=talent_id,
            cast=place.casts / token,
            dataset=place.datasets / talent_id,
            kit=place.talents / talent_id,
            renders=place.reports / token / "renders",
            report=place.reports / token / "report.html",
        )


def cast_stage(floor: Floor, actor: Actor, portrait: Path, options: CastOptions) -> Stage:
    """Portrait to training images."""
    from talent_factory.datagen.order import Terms
    from talent_factory.datagen.recipes import load_recipe

    recipe = load_recipe(options.recipe)
    return Stage(
        name="cast",
        detail=f"{len(recipe.slots)} training images from {portrait.name}",
        inputs={
            "portrait": portrait,
            "options": options.model_dump(mode="json", exclude={"recipe", *Terms.model_fields}),
            "recipe": recipe.model_dump(mode="json"),
            "painter": work.painter_methods(),
        },
        outputs=(actor.cast / "cast.json", actor.cast / "images", actor.cast / "portrait.png"),
        make=lambda: work.make_cast(
            portrait,
            out=actor.cast,
            token=actor.token,
            options=options,
            reporter=floor.reporter,
            stop=floor.stop,
        ),
        cost=pace.cast_cost(len(recipe.slots), options.long_side),
    )


def cast_dataset_stage(floor: Floor, actor: Actor, images: int) -> Stage:
    """Training images to a captioned dataset of the base's size."""
    side = floor.base.resolution
    return Stage(
        name="dataset",
        detail=f"scaled to {side} px, with captions",
        inputs={
            "cast": actor.cast / "cast.json",
            "side": side,
            "include_portrait": floor.dials.include_portrait,
        },
        outputs=(actor.dataset,),
        make=lambda: work.make_cast_dataset(
            actor.cast, out=actor.dataset, resolution=side, include_portrait=floor.dials.include_portrait
        ),
        cost=pace.dataset_cost(images, side),
    )


def folder_dataset_stage(config: TrainConfig, *, folder: Path, out: Path) -> Stage:
    """A user's folder of images and captions to a dataset."""
    return Stage(
        name="dataset",
        detail=f"from {folder}",
        inputs={
            "folder": folder,
            "config": config.model_dump(
                mode="json", include={"id", "token", "class_noun", "resolution", "mode"}
            ),
        },
        outputs=(out,),
        make=lambda: work.make_folder_dataset(config, folder=folder, out=out),
        cost=pace.dataset_cost(20, config.resolution),
    )


def identity_config(floor: Floor, actor: Actor) -> TrainConfig:
    """The training that the dials stand for, in the very form a user would write it."""
    from talent_factory.core.config import parse
    from talent_factory.training.config import TrainConfig

    dials = floor.dials
    asked = {
        "id": actor.talent_id,
        "kind": "lora",
        "sdx_version": floor.base.sdx_version,
        "base_model": floor.base.name,
        # the stage hands the dataset over; a relative path keeps the config the same when the workspace moves
        "train_data_dir": actor.dataset.relative_to(floor.place.root).as_posix(),
        "resolution": floor.base.resolution,
        "lora_rank": dials.lora_rank,
        "lora_alpha": dials.lora_alpha,
        "max_train_steps": dials.train_steps,
        "learning_rate": dials.learning_rate,
        "batch_size": dials.batch_size,
        "token": actor.token,
        "class_noun": actor.class_noun,
        "description": f"{actor.token}, a {actor.class_noun}, learnt from one portrait",
        "tags": ("identity", actor.class_noun),
        "targets": dials.targets,
        "train_text_encoder": dials.train_text_encoder,
        "prior_weight": dials.prior_weight,
        "loss": {"weighting": "none"},
        "choose": {"measure": dials.measure},
        "seed": actor.seed,
    }
    return parse(TrainConfig, asked, source="the numbers of the run")


def train_stage(floor: Floor, config: TrainConfig, *, dataset: Path, run: Path) -> Stage:
    """Dataset to LoRA weights."""
    from talent_factory.training.likeness.plan import measure_calls
    from talent_factory.training.runs import LORA_FILE, LOSS_FILE

    return Stage(
        name="train",
        detail=f"{config.max_train_steps} steps, rank {config.lora_rank}"
        + (", checkpoints measured" if config.choose.measure else ""),
        inputs={"config": work.training_facts(config), "dataset": dataset, "base": floor.base.revision},
        outputs=(run / LORA_FILE, run / LOSS_FILE),
        make=lambda: work.make_weights(
            config,
            base=floor.base,
            dataset=dataset,
            run=run,
            replace=floor.replace,
            reporter=floor.reporter,
            stop=floor.stop,
        ),
        cost=pace.train_cost(
            config.max_train_steps,
            config.batch_size,
            resolution=config.resolution,
            kept=config.prior_weight > 0,
            measuring=measure_calls(config),
        ),
    )


def kit_stage(floor: Floor, config: TrainConfig, *, dataset: Path, run: Path) -> Stage:
    """LoRA weights to a Talent Kit with examples."""
    from talent_factory.training.likeness.book import CHOICE_FILE
    from talent_factory.training.runs import LORA_FILE

    return Stage(
        name="kit",
        detail=f"{config.id}, with examples",
        inputs={
            "lora": run / LORA_FILE,
            "choice": run / CHOICE_FILE if config.choose.measure else "the last step",
            "dataset": dataset,
            "config": config.model_dump(mode="json"),
            "base": floor.base.revision,
            "scenes": work.scene_facts(),
            "dials": _render_facts(floor.dials),
        },
        outputs=(floor.place.talents / config.id,),
        make=lambda: work.make_kit(
            config,
            base=floor.base,
            dials=floor.dials,
            dataset=dataset,
            run=run,
            root=floor.place.talents,
            reporter=floor.reporter,
        ),
        cost=pace.render_cost(work.EXAMPLES, floor.dials, resolution=floor.base.resolution),
    )


def choice_stage(floor: Floor, config: TrainConfig, *, run: Path) -> Stage:
    """The measures of a run to a page on which a person can see, and overrule, what was chosen."""
    from talent_factory.training.likeness.book import CHOICE_FILE

    page = floor.place.reports / config.id / "choice.html"
    return Stage(
        name="choice",
        detail=str(page),
        inputs={"choice": run / CHOICE_FILE, "page": work.page_digest()},
        outputs=(page,),
        make=lambda: work.make_choice_page(page, run=run),
        cost=pace.page_cost(),
    )


def renders_stage(floor: Floor, actor: Actor, style: Path | None) -> Stage:
    """Kits to the pictures of the report."""
    return Stage(
        name="renders",
        detail="new scenes: base, kit and mix" if style else "new scenes: base and kit",
        inputs={
            "kit": actor.kit,
            "style": style or "none",
            "base": floor.base.revision,
            "scenes": work.scene_facts(),
            "dials": _render_facts(floor.dials),
            "class_noun": actor.class_noun,
            "seed": actor.seed,
        },
        outputs=(actor.renders,),
        make=lambda: work.make_renders(
            actor.renders,
            base=floor.base,
            dials=floor.dials,
            kits=(actor.kit, style),
            class_noun=actor.class_noun,
            seed=actor.seed,
            reporter=floor.reporter,
        ),
        cost=pace.render_cost(
            work.count_renders(floor.dials, mixed=style is not None),
            floor.dials,
            resolution=floor.base.resolution,
        ),
    )


def report_stage(
    floor: Floor, actor: Actor, *, run: Path, style: Path | None, done: Sequence[StageOutcome]
) -> Stage:
    """Everything to one page."""
    from talent_factory.training.likeness.book import CHOICE_FILE
    from talent_factory.training.runs import LOSS_FILE

    timings = {outcome.name: outcome.seconds for outcome in done}
    return Stage(
        name="report",
        detail=str(actor.report),
        inputs={
            "cast": actor.cast / "cast.json",
            "kit": actor.kit,
            "renders": actor.renders,
            "loss": run / LOSS_FILE,
            "choice": run / CHOICE_FILE if (run / CHOICE_FILE).is_file() else "the last step",
            "reasons": floor.dials.reasons,
            "timings": timings,
            "page": work.page_digest(),
        },
        outputs=(actor.report,),
        make=lambda: work.make_report(
            actor.report,
            cast=actor.cast,
            run=run,
            kits=(actor.kit, style),
            renders=actor.renders,
            base=floor.base,
            dials=floor.dials,
            timings=timings,
        ),
        cost=pace.page_cost(),
    )


def _render_facts(dials: Dials) -> dict[str, float]:
    facts: dict[str, float] = dials.model_dump(include={"seeds_per_scene", "render_steps"})
    return facts
