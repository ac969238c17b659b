"""The whole path, top to bottom: portrait, cast, dataset, weights, kit, renders, report.

Every stage hands over paths, remembers what it was made from, and is skipped while nothing changed; so a run
may be killed at any moment and simply be started again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from talent_factory import stages
from talent_factory.aftermath import enter_in_registry, tell_findings
from talent_factory.base_facts import base_facts, check_version
from talent_factory.core.config import parse
from talent_factory.core.errors import ConfigError, KitError, TalentError
from talent_factory.core.events import EventLog, Fanout, Reporter, SilentReporter
from talent_factory.core.files import clear_leftovers
from talent_factory.core.plan import Plan
from talent_factory.core.records import Record
from talent_factory.core.stop import StopSignal, graceful_stop
from talent_factory.core.workspace import Workspace, check_token, exclusive, workspace_from
from talent_factory.quality import Dials, derive_dials
from talent_factory.stage_book import StageBook, StageOutcome
from talent_factory.stage_work import check_folder
from talent_factory.stages import Actor, Floor
from talent_factory.training.company import help_out, helps, leading
from talent_factory.training.config import TrainConfig, load_train_config
from talent_factory.training.runs import RunRecord, read_run


class RunOptions(Record):
    """What may be chosen for a run; `dials` overrides the numbers that `quality` stands for.

    `style` is a training config whose kit is mixed with the actor; `recipe` and the words about the portrait
    are those of `CastOptions`.
    """

    quality: str = "standard"
    dials: Dials | None = None
    base: str = "mini"
    style: Path | None = None
    recipe: str = "actor-17"
    actor_type: str = "human"
    sex: str | None = None
    portrait_medium: str = ""
    portrait_words: tuple[str, ...] = ()
    seed: int = 0


class RunResult(Record):
    """What a run left: paths, and which stages were made now or kept from before; `seconds` of this call."""

    token: str
    talent_id: str
    kit: Path
    style_kit: Path | None
    report: Path
    changed: bool
    seconds: float
    stages: tuple[StageOutcome, ...]


def run(
    portrait: Path,
    *,
    token: str,
    workspace: Workspace | None = None,
    reporter: Reporter | None = None,
    stop: StopSignal | None = None,
    options: RunOptions | None = None,
) -> RunResult:
    """Turn a portrait into a rendered Talent Kit and a report page.

    Goes on where an earlier run stopped, and does nothing when nothing changed. Raises WorkspaceBusy when
    another run works here, PartialResult when training images are missing, Cancelled when asked to stop, and
    whatever the stages raise; what was finished is kept.
    """
    started, place, wanted = time.monotonic(), workspace or workspace_from(), options or RunOptions()
    check_token(token)
    with exclusive(place.root), _stoppable(stop) as signal:
        log = EventLog(place.reports / token / "events.jsonl")
        floor = _floor(place, wanted, Fanout(log, reporter or SilentReporter()), signal, replace=True)
        records = _records(place, f"avatar.identity.{token}")
        _sweep(place, records, place.reports / token)
        book = StageBook(place.root, records, floor.reporter, signal)
        actor, style = _walk(floor, book, portrait, token=token, options=wanted)
    return RunResult(
        token=token,
        talent_id=actor.talent_id,
        kit=actor.kit,
        style_kit=style,
        report=actor.report,
        changed=any(outcome.state == "made" for outcome in book.outcomes),
        seconds=round(time.monotonic() - started, 2),
        stages=tuple(book.outcomes),
    )


def plan(
    portrait: Path, *, token: str, workspace: Workspace | None = None, options: RunOptions | None = None
) -> Plan:
    """What `run` would do, with time, memory, disk and cost; writes nothing and loads no model.

    Raises what makes the run impossible from the start, such as PortraitError or a style without images.
    """
    from talent_factory.datagen.portrait import normalise

    place, wanted = workspace or workspace_from(), options or RunOptions()
    records = _records(place, f"avatar.identity.{check_token(token)}")
    normalise(portrait)
    book = StageBook(place.root, records, SilentReporter(), plan_only=True)
    _walk(_floor(place, wanted), book, portrait, token=token, options=wanted)
    return book.plan(f"{portrait.name} to a Talent Kit of {token}")


def _walk(
    floor: Floor, book: StageBook, portrait: Path, *, token: str, options: RunOptions
) -> tuple[Actor, Path | None]:
    """The path itself; a book that only plans is told by the same lines what there would be to do."""
    from talent_factory.datagen.actor import CastOptions
    from talent_factory.datagen.recipes import class_noun, load_recipe

    shared = {"recipe", "actor_type", "sex", "seed", "portrait_medium", "portrait_words"}
    asked = {**options.model_dump(include=shared), "long_side": floor.dials.cast_long_side}
    casting = parse(CastOptions, asked, source="the options of the run", remedy="talent run --help")
    noun = class_noun(options.actor_type, options.sex)
    actor = Actor.at(floor.place, token=token, class_noun=noun, seed=options.seed)
    style_config = _style_config(floor, options.style)

    book.do(stages.cast_stage(floor, actor, portrait, casting))
    book.do(stages.cast_dataset_stage(floor, actor, images=len(load_recipe(options.recipe).slots)))
    training = _train(floor, book, stages.identity_config(floor, actor), actor.dataset)
    style = None
    if style_config is not None:
        chapter = book.chapter(_records(floor.place, style_config.id), label="style")
        style = _kit(floor, chapter, style_config)
    book.do(stages.renders_stage(floor, actor, style))
    book.do(stages.report_stage(floor, actor, run=training, style=style, done=book.outcomes))
    return actor, style


def _train(floor: Floor, book: StageBook, config: TrainConfig, dataset: Path) -> Path:
    """Dataset to kit; returns the folder of the training."""
    training = floor.place.runs / config.id
    book.do(stages.train_stage(floor, config, dataset=dataset, run=training))
    book.do(stages.kit_stage(floor, config, dataset=dataset, run=training))
    if config.choose.measure:
        book.do(stages.choice_stage(floor, config, run=training))
    if not book.plan_only:
        enter_in_registry(floor.place, floor.reporter)
    return training


def _style_config(floor: Floor, path: Path | None) -> TrainConfig | None:
    """The style to mix with, checked before the actor's minutes of work begin."""
    if path is None:
        return None
    config = load_train_config(path)
    if config.subject != "style":
        raise ConfigError(
            f"{path} trains {config.id}, which is no style",
            remedy="give --style a config whose id begins with avatar.style.",
        )
    check_version(floor.base, config)
    if config.base_model != floor.base.name:
        raise KitError(
            f"{path} trains for {config.base_model}, this run uses {floor.base.name}",
            remedy="choose a style for the same base, or another base with --base",
        )
    check_folder(config, data_folder(floor.place, config))
    return config


def _kit(floor: Floor, book: StageBook, config: TrainConfig) -> Path:
    """A user's folder of images to a kit."""
    folder, dataset = _check_material(floor, config), floor.place.datasets / config.id
    book.do(stages.folder_dataset_stage(config, folder=folder, out=dataset))
    if not book.plan_only:
        tell_findings(dataset, floor.reporter)
    _train(floor, book, config, dataset)
    return floor.place.talents / config.id


def _check_material(floor: Floor, config: TrainConfig) -> Path:
    """The folder of images, when it and the base suit the config."""
    check_version(floor.base, config)
    folder = data_folder(floor.place, config)
    check_folder(config, folder)
    return folder


def train_kit(
    config_path: Path,
    *,
    workspace: Workspace | None = None,
    choices: Mapping[str, str] | None = None,
    replace: bool = False,
    reporter: Reporter | None = None,
    stop: StopSignal | None = None,
) -> Path:
    """Train the config's LoRA on its folder of images and return the kit, packed and validated.

    `choices` says `preset` or `quality` in the config's stead. Goes on with an interrupted training, and does
    nothing when nothing changed. Of several processes that a launcher started, the first does this and the
    others train with it. When the last training of this id had another config or dataset it is put aside
    and kept with `replace`; without, ResumeRefused says so.
    """
    place = workspace or workspace_from()
    config = load_train_config(config_path, choices=choices, place=place)
    options = RunOptions(base=config.base_model)
    if helps():
        with _stoppable(stop) as signal:
            # what the first process will be refused is refused here as well, so that nobody waits for it
            _check_material(_floor(place, options, reporter, signal), config)
            help_out(place.runs / config.id, stop=signal)
        return place.talents / config.id
    records = _records(place, config.id)
    with _remedy_for(config_path), exclusive(records), _stoppable(stop) as signal, leading():
        floor = _floor(place, options, reporter, signal, replace=replace)
        _sweep(place, records)
        return _kit(floor, StageBook(place.root, records, floor.reporter, signal), config)


def resume_kit(
    run: Path,
    *,
    workspace: Workspace | None = None,
    reporter: Reporter | None = None,
    stop: StopSignal | None = None,
) -> Path:
    """Go on with the run in a workspace's folder `run` as it was begun, and return its kit, packed.

    Several processes share it as in `train_kit`. Raises as that, FileError when there is no run, KitError
    when it lies in another workspace.
    """
    place, record = workspace or workspace_from(), _own_run(run, workspace)
    config, records = record.config, _records(place, record.config.id)
    if helps():
        with _stoppable(stop) as signal:
            help_out(run, stop=signal)
        return place.talents / config.id
    with exclusive(records), _stoppable(stop) as signal, leading():
        floor = _floor(place, RunOptions(base=record.base), reporter, signal)
        _sweep(place, records)
        book = StageBook(place.root, records, floor.reporter, signal)
        _train(floor, book, config, Path(record.dataset))
    return place.talents / config.id


def _own_run(run: Path, workspace: Workspace | None) -> RunRecord:
    """What `run` was begun with; raises KitError unless it is a run of this workspace."""
    record, place = read_run(run), workspace or workspace_from()
    if (place.runs / record.config.id).resolve() != run.resolve():
        raise KitError(
            f"{run} is no run of the workspace {place.root}", remedy="name its workspace with --workspace"
        )
    return record


def choose_step(
    run: Path,
    step: int,
    *,
    weight: float | None = None,
    workspace: Workspace | None = None,
    reporter: Reporter | None = None,
) -> Path:
    """Let a person's choice ship: pack the kit of a measured run again with the weights of `step`.

    `weight` is the strength to recommend; the measured one, or 1 for another step, when None. Returns the
    kit. Raises FileError when the run is not finished, was not measured or keeps no such step, KitError when
    it lies in another workspace.
    """
    from talent_factory.training.likeness.study import veto

    record = _own_run(run, workspace)
    place, config = workspace or workspace_from(), record.config
    records = _records(place, config.id)
    with exclusive(records), _stoppable(None) as signal:
        floor = _floor(place, RunOptions(base=config.base_model), reporter, signal)
        with exclusive(run):
            veto(run, step, weight=weight)
        book = StageBook(place.root, records, floor.reporter, signal)
        _train(floor, book, config, Path(record.dataset))
    return place.talents / config.id


def plan_kit(
    config_path: Path, *, workspace: Workspace | None = None, choices: Mapping[str, str] | None = None
) -> Plan:
    """What `train_kit` would do; writes nothing and loads no model. Raises DatasetError without images."""
    place = workspace or workspace_from()
    config = load_train_config(config_path, choices=choices, place=place)
    book = StageBook(place.root, _records(place, config.id), SilentReporter(), plan_only=True)
    kit = _kit(_floor(place, RunOptions(base=config.base_model)), book, config)
    return book.plan(f"{config_path.name} to the kit {kit.name}")


def train_images(
    source: Path,
    *,
    token: str,
    class_noun: str,
    workspace: Workspace | None = None,
    options: RunOptions | None = None,
    reporter: Reporter | None = None,
    stop: StopSignal | None = None,
) -> Path:
    """Train an actor on finished images and return the kit, packed and validated.

    `source` is a cast (its captions come from its recipe, its review is heeded) or a folder of captioned
    images. Goes on with an interrupted training, does nothing when nothing changed, and puts a training of
    other images aside.
    """
    from talent_factory.datagen.cast import CAST_FILE, load_cast

    place, wanted = workspace or workspace_from(), options or RunOptions()
    actor = Actor.at(place, token=check_token(token), class_noun=class_noun, seed=wanted.seed)
    records = _records(place, actor.talent_id)
    with exclusive(records), _stoppable(stop) as signal:
        floor = _floor(place, wanted, reporter, signal, replace=True)
        _sweep(place, records)
        book = StageBook(place.root, records, floor.reporter, signal)
        config = stages.identity_config(floor, actor)
        if (source / CAST_FILE).is_file():
            images = len(load_cast(source).done)
            book.do(stages.cast_dataset_stage(floor, replace(actor, cast=source), images=images))
        else:
            book.do(stages.folder_dataset_stage(config, folder=source, out=actor.dataset))
        _train(floor, book, config, actor.dataset)
    return actor.kit


def data_folder(place: Workspace, config: TrainConfig) -> Path:
    """The folder of images: as written, from here or from the workspace."""
    folder = Path(config.train_data_dir).expanduser()
    return folder if folder.exists() or folder.is_absolute() else place.root / folder


def _floor(
    place: Workspace,
    options: RunOptions,
    reporter: Reporter | None = None,
    stop: StopSignal | None = None,
    *,
    replace: bool = False,
) -> Floor:
    # only work may download: a plan changes nothing
    base = base_facts(options.base, fetch=stop is not None)
    if reporter is not None and base.note:
        reporter.message(base.note)
    return Floor(
        place=place,
        reporter=reporter or SilentReporter(),
        stop=stop or StopSignal(),
        dials=options.dials or derive_dials(options.quality, readable=base.embedded),
        base=base,
        replace=replace,
    )


def _records(place: Workspace, talent_id: str) -> Path:
    return place.cache / "stages" / talent_id


def _sweep(place: Workspace, *folders: Path) -> None:
    """Clear what killed runs left half-written where this one writes."""
    for folder in (place.talents, place.datasets, *folders):
        clear_leftovers(folder)


@contextmanager
def _remedy_for(config: Path) -> Iterator[None]:
    """Within this context the command that an error names is the one for `config`."""
    try:
        yield
    except TalentError as error:
        error.remedy = error.remedy.replace("talent train CONFIG", f"talent train {config}")
        raise


@contextmanager
def _stoppable(stop: StopSignal | None) -> Iterator[StopSignal]:
    """The caller's stop signal, or one that listens to Ctrl-C and SIGTERM."""
    if stop is not None:
        yield stop
        return
    with graceful_stop() as signal:
        yield signal
