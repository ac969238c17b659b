"""How each stage does its work; torch and the image libraries are loaded only when there is some."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from talent_factory import __version__
from talent_factory.base_facts import BaseFacts
from talent_factory.core.errors import ResumeRefused
from talent_factory.core.events import Reporter
from talent_factory.core.files import atomic_folder, clear_leftovers, sha256_bytes
from talent_factory.core.stop import StopSignal
from talent_factory.foundry.scenes import EVALUATION_SCENES, MIX_LADDER, MIX_SCENES, SceneShot, evaluation
from talent_factory.quality import Dials

if TYPE_CHECKING:
    from talent_factory.datagen.actor import CastOptions
    from talent_factory.foundry.discover import Ingredient
    from talent_factory.foundry.render import RenderOrder
    from talent_factory.kits.manifest import Subject
    from talent_factory.kits.pack import KitSpec
    from talent_factory.training.config import TrainConfig
    from talent_factory.training.families.port import Base

# What a kit shows of itself; three is what the validator asks for at least.
EXAMPLES = 6


def make_cast(
    portrait: Path, *, out: Path, token: str, options: CastOptions, reporter: Reporter, stop: StopSignal
) -> None:
    """Fill every slot of the recipe with the embedded painter; raises PartialResult when some are missing."""
    from talent_factory.datagen.actor import cast_actor
    from talent_factory.providers.embedded import EmbeddedPainter

    cast = cast_actor(
        portrait,
        out=out,
        token=token,
        options=options,
        editor=EmbeddedPainter(),
        reporter=reporter,
        stop=stop,
    )
    cast.require_complete()


def painter_methods() -> Mapping[str, str]:
    """The version of each of the painter's media: a new one means new pictures."""
    from talent_factory.providers.embedded import EmbeddedPainter

    return EmbeddedPainter().capabilities().methods


def make_cast_dataset(cast: Path, *, out: Path, resolution: int, include_portrait: bool) -> None:
    """Bring the cast to the base's size, with captions from the recipe."""
    from talent_factory.dataset.prepare import prepare_cast

    prepare_cast(cast, out=out, resolution=resolution, include_portrait=include_portrait)


def check_folder(config: TrainConfig, folder: Path) -> None:
    """Raise DatasetError when a user's folder cannot become a dataset, before anything is made."""
    from talent_factory.dataset.prepare import check_folder

    check_folder(folder, kind=config.subject, token=config.token or "")


def make_folder_dataset(config: TrainConfig, *, folder: Path, out: Path) -> None:
    """Bring a user's images and captions to the size that the config asks for."""
    from talent_factory.dataset.prepare import prepare_folder

    prepare_folder(
        folder,
        out=out,
        kind=config.subject,
        token=config.token or "",
        class_noun=config.class_noun,
        resolution=config.resolution,
        mode=config.mode,
    )


def training_facts(config: TrainConfig) -> dict[str, Any]:
    """What of a config decides the weights; where the images once lay does not."""
    from talent_factory.training.config import NEUTRAL_KEYS

    return config.model_dump(mode="json", exclude={*NEUTRAL_KEYS, "train_data_dir"})


def make_weights(
    config: TrainConfig,
    *,
    base: BaseFacts,
    dataset: Path,
    run: Path,
    replace: bool,
    reporter: Reporter,
    stop: StopSignal,
) -> None:
    """Train, or go on with the training that lies in `run`.

    With `replace` a training of other inputs is put aside, where it is kept; without, ResumeRefused says what
    changed.
    """
    from talent_factory.training.loop import train
    from talent_factory.training.runs import set_aside

    try:
        _refuse_other_inputs(config, dataset=dataset, base=base, run=run)
        train(config, dataset=dataset, run=run, reporter=reporter, stop=stop)
    except ResumeRefused as refusal:
        if not replace:
            raise
        reporter.message(f"training anew: {refusal.message}; the earlier one is kept in {set_aside(run)}")
        train(config, dataset=dataset, run=run, reporter=reporter, stop=stop)


def _refuse_other_inputs(config: TrainConfig, *, dataset: Path, base: BaseFacts, run: Path) -> None:
    """Raise ResumeRefused when `run`, finished ones included, was made from anything but these inputs."""
    from talent_factory.training import runs

    if (run / runs.RUN_FILE).exists():
        record = runs.read_run(run)
        runs.check_config(run, record, config)
        runs.load_unchanged_dataset(record.model_copy(update={"dataset": str(dataset)}))
        runs.check_base(run, record, base.revision)


def make_kit(
    config: TrainConfig,
    *,
    base: BaseFacts,
    dials: Dials,
    dataset: Path,
    run: Path,
    root: Path,
    reporter: Reporter,
) -> None:
    """Pack the kit `root/<id>` with examples that it rendered itself.

    The weights are packed first, into the run, so that the recipe inside each example names the very bytes
    that are shipped; then the kit is packed again around the examples.
    """
    from talent_factory.foundry.blend import Mix
    from talent_factory.foundry.discover import Ingredient, load_kit
    from talent_factory.foundry.render import open_base, render
    from talent_factory.kits.pack import pack_kit
    from talent_factory.training.runs import LORA_FILE

    for folder in (run, run / "draft"):
        clear_leftovers(folder)
    order = _order(_own_scenes(config, dataset, dials), dials)
    spec = _kit_spec(config, base=base, dataset=dataset, order=order, run=run)
    pack_kit(spec, lora=run / LORA_FILE, examples=(), root=run / "draft", base_folder=base.foreign_folder)
    kit = load_kit(run / "draft", spec.id, base_folder=base.foreign_folder)
    use = Ingredient(kit=kit, weight=spec.default_weight)
    examples, model = run / "examples", open_base(base.name)
    with atomic_folder(examples) as folder:
        made = render(model, order, mix=Mix(ingredients=(use,)), out=folder, reporter=reporter)
    pack_kit(
        _with_trigger(spec, model, use, order, reporter),
        lora=run / LORA_FILE,
        examples=[examples / path.name for path in made],
        root=root,
        base_folder=base.foreign_folder,
    )


def _with_trigger(
    spec: KitSpec, model: Base, use: Ingredient, order: RenderOrder, reporter: Reporter
) -> KitSpec:
    """The spec with what taking its word out of the prompt changes; a remark goes to the reporter."""
    from talent_factory.foundry.trigger import kit_trigger

    prompts = [shot.prompt for shot in order.shots]
    found = kit_trigger(model, use, prompts=prompts, seed=order.shots[0].seed, steps=order.steps)
    if found is None:
        return spec
    if found.remark:
        reporter.message(found.remark)
    measured = {**spec.evaluation, "trigger": found.model_dump(mode="json", exclude_none=True)}
    return spec.model_copy(update={"evaluation": measured})


def _own_scenes(config: TrainConfig, dataset: Path, dials: Dials) -> Sequence[SceneShot]:
    """What a kit shows of itself: an identity the evaluation scenes, a style what it was taught on."""
    from talent_factory.dataset.manifest import load_dataset

    if config.subject == "identity":
        shots = evaluation(config.token, config.class_noun, seeds=1, seed=config.seed)
        return shots[:EXAMPLES]
    captions = list(dict.fromkeys(item.caption for item in load_dataset(dataset).items))
    stride = max(1, len(captions) // EXAMPLES)
    chosen = captions[::stride][:EXAMPLES]
    return [SceneShot(title=text, prompt=text, seed=config.seed + index) for index, text in enumerate(chosen)]


def _kit_spec(
    config: TrainConfig, *, base: BaseFacts, dataset: Path, order: RenderOrder, run: Path
) -> KitSpec:
    from talent_factory.dataset.manifest import load_dataset
    from talent_factory.kits.lora_file import lora_size, read_lora
    from talent_factory.kits.manifest import PromptSet
    from talent_factory.kits.pack import KitSpec
    from talent_factory.training.likeness.book import evaluation, read_choice
    from talent_factory.training.runs import LORA_FILE

    data, choice = load_dataset(dataset), read_choice(run)
    # from the tensors: what rsLoRA and a rank for convolutions make of the config stands there
    size = lora_size(read_lora(run / LORA_FILE))
    return KitSpec(
        id=config.id,
        base_model=config.base_model,
        sdx_version=config.sdx_version,
        base_revision=base.revision,
        base_hash=base.short_hash,
        prediction=base.prediction,
        rank=size.rank,
        alpha=size.alpha,
        conv_rank=size.conv_rank,
        conv_alpha=size.conv_alpha,
        created_at=datetime.now(UTC).replace(microsecond=0),
        token=config.token,
        prompts=PromptSet(
            positive_prompts=tuple(dict.fromkeys(shot.prompt for shot in order.shots)),
            negative_prompts=config.negatives,
        ),
        negatives=", ".join(config.negatives),
        description=config.description,
        tags=config.tags,
        author=config.author,
        license=config.license or "all rights reserved",
        subject=_subject_of(config),
        training_config=config.model_dump(mode="json", exclude_none=True),
        default_weight=1.0 if choice is None else choice.default_weight,
        evaluation=evaluation(run),
        provenance={
            "dataset_sha256": data.fingerprint,
            "images": len(data.items),
            "buckets": dict(Counter(f"{item.width}x{item.height}" for item in data.items)),
            "augmentations": data.augmented,
            "talent_factory": __version__,
        },
    )


def _subject_of(config: TrainConfig) -> Subject | None:
    """Whom the kit shows; of an identity nobody knows it until somebody says it."""
    from talent_factory.kits.manifest import Subject

    if config.consent is not None:
        return Subject(real_person=True, consent=config.consent)
    return None if config.subject == "identity" else Subject()


def scene_facts() -> list[dict[str, str]]:
    """The evaluation scenes as plain data, so that reworded scenes are rendered again."""
    return [scene.model_dump() for scene in (*EVALUATION_SCENES, *MIX_SCENES)]


def count_renders(dials: Dials, *, mixed: bool) -> int:
    """How many images `make_renders` makes."""
    pairs = 2 * len(EVALUATION_SCENES) * dials.seeds_per_scene
    return pairs + (len(MIX_SCENES) * len(MIX_LADDER) if mixed else 0)


def make_renders(
    out: Path,
    *,
    base: BaseFacts,
    dials: Dials,
    kits: tuple[Path, Path | None],
    class_noun: str,
    seed: int,
    reporter: Reporter,
) -> None:
    """Render `out/base` and `out/kit` from one order and, with a style, the mix rung by rung (`out/mix_N`).

    `kits` are the folders of the identity and, perhaps, the style. Raises KitError when they do not go
    together.
    """
    from talent_factory.foundry.blend import Mix
    from talent_factory.foundry.discover import Ingredient, load_kit
    from talent_factory.foundry.render import open_base, render
    from talent_factory.foundry.scenes import mix_shots

    identity, style = (
        load_kit(kit.parent, kit.name, base_folder=base.foreign_folder) if kit else None for kit in kits
    )
    assert identity is not None
    token = identity.manifest.token
    model = open_base(base.name)
    own = Ingredient(kit=identity, weight=identity.manifest.default_weight)
    order = _order(evaluation(token, class_noun, seeds=dials.seeds_per_scene, seed=seed), dials)
    with atomic_folder(out) as folder:
        render(model, order, mix=Mix(), out=folder / "base", reporter=reporter)
        render(model, order, mix=Mix(ingredients=(own,)), out=folder / "kit", reporter=reporter)
        if style is None:
            return
        for number, (of_identity, of_style) in enumerate(MIX_LADDER):
            triggers = (token if of_identity else None, style.manifest.token if of_style else None)
            shots = mix_shots(triggers[0], class_noun, triggers[1], seed=seed)
            pair = ((identity, of_identity), (style, of_style))
            mix = Mix(ingredients=tuple(Ingredient(kit=kit, weight=weight) for kit, weight in pair if weight))
            render(model, _order(shots, dials), mix=mix, out=folder / f"mix_{number}", reporter=reporter)


def _order(shots: Sequence[SceneShot], dials: Dials) -> RenderOrder:
    from talent_factory.foundry.render import RenderOrder, Shot

    return RenderOrder(
        shots=tuple(Shot(prompt=shot.prompt, seed=shot.seed) for shot in shots),
        steps=dials.render_steps,
    )


def make_report(
    target: Path,
    *,
    cast: Path,
    run: Path,
    kits: tuple[Path, Path | None],
    renders: Path,
    base: BaseFacts,
    dials: Dials,
    timings: Mapping[str, float],
) -> None:
    """Gather what the other stages left and write the page."""
    from talent_factory.report.gather import gather
    from talent_factory.report.page import write_report

    content = gather(
        cast=cast, run=run, kits=kits, renders=renders, base=base.name, dials=dials, timings=timings
    )
    write_report(content, target)


def make_choice_page(target: Path, *, run: Path) -> None:
    """Show how a measured run chose its checkpoint."""
    from talent_factory.core.errors import FileError
    from talent_factory.report.choice import gather_choice
    from talent_factory.report.page import write_choice_page

    content = gather_choice(run)
    if content is None:
        raise FileError(f"{run} was not measured", remedy="write choose: {measure: true} and train again")
    write_choice_page(content, target)


def page_digest() -> str:
    """sha256 over the page's template, style and script: a new design writes the page again."""
    folder = files("talent_factory.report")
    parts = [
        folder.joinpath(name).read_bytes()
        for name in ("page.html.j2", "choice.html.j2", "choice_page.html.j2", "page.css", "page.js")
    ]
    return sha256_bytes(b"\0".join(hashlib.sha256(part).digest() for part in parts))
