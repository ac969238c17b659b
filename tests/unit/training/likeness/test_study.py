"""The study of a run on a tiny random base: resumable at any point, and what it leaves can be shipped."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file
from torch import Tensor

from talent_factory.core.errors import ConfigError, FileError
from talent_factory.core.events import SilentReporter
from talent_factory.core.files import sha256_file
from talent_factory.core.records import write_record
from talent_factory.dataset.manifest import load_dataset
from talent_factory.training import runs
from talent_factory.training.adapters import strength_of
from talent_factory.training.config import TrainConfig
from talent_factory.training.families import Base
from talent_factory.training.likeness import book
from talent_factory.training.likeness.plan import measure_calls, measure_plan
from talent_factory.training.likeness.study import Study, ship, veto
from talent_factory.training.lora import LoraNetwork, attach

STEPS = (2, 4, 6)
KEYS = {"measure": True, "encoder": "probe", "prompts": 2, "seeds": 1, "steps": 2, "weights": (0.5, 1.0)}


@pytest.fixture
def config(make_config: Callable[..., TrainConfig]) -> TrainConfig:
    return make_config(choose=KEYS)


@pytest.fixture
def network(base: Base) -> LoraNetwork:
    return attach(base.unet, rank=2, alpha=2.0, seed=3)


def state_at(network: LoraNetwork, step: int) -> dict[str, Tensor]:
    """Weights as a training of `step` steps might leave them."""
    return {
        name: tensor + 0.02 * step if name.endswith("lora_up.weight") else tensor
        for name, tensor in network.state().items()
    }


class Walk:
    """A stand-in of the training loop: load a state, measure it, finish."""

    def __init__(self, base: Base, network: LoraNetwork, config: TrainConfig, dataset: Path) -> None:
        self.base, self.network, self.config, self.dataset = base, network, config, dataset
        self.states = {step: state_at(network, step) for step in STEPS}

    def study(self, run: Path, progress: Any = None) -> Study:
        return Study(
            self.base,
            config=self.config,
            manifest=load_dataset(self.dataset),
            dataset=self.dataset,
            run=run,
            progress=progress or SilentReporter(),
        )

    def measure(self, study: Study, step: int) -> None:
        self.network.load_state(self.states[step])
        study.measure(step, self.states[step], strength_of([self.network]))

    def finish(self, study: Study) -> None:
        study.finish(STEPS[-1], strength_of([self.network]), self.network.load_state)

    def whole(self, run: Path) -> Path:
        study = self.study(run)
        for step in STEPS:
            self.measure(study, step)
        self.finish(study)
        return run


@pytest.fixture
def walk(base: Base, network: LoraNetwork, config: TrainConfig, dataset: Path) -> Walk:
    return Walk(base, network, config, dataset)


def contents(run: Path) -> dict[str, str]:
    return {path.relative_to(run).as_posix(): sha256_file(path) for path in run.rglob("*") if path.is_file()}


def test_a_study_leaves_measures_candidates_sheets_and_the_chosen_lora(walk: Walk, tmp_path: Path) -> None:
    run = walk.whole(tmp_path / "run")
    assert [item.step for item in book.read_measures(run)] == [0, *STEPS]
    assert list(book.candidates(run)) == list(STEPS)
    choice = book.read_choice(run)
    assert choice is not None
    assert choice.step in STEPS
    assert sha256_file(run / runs.LORA_FILE) == sha256_file(book.candidate_path(run, choice.step))
    shipped = load_file(run / runs.LORA_FILE)
    assert all((shipped[name] == tensor).all() for name, tensor in walk.states[choice.step].items())
    assert {item.weight for item in choice.sweep} == {0.5, 1.0}
    assert choice.report is not None
    assert choice.report.by == "probe answers"
    # a second reading by the same network, hence on prompts and seeds of its own
    plan = book.read_plan(run)
    assert not {shot.prompt for shot in plan.report} & {shot.prompt for shot in plan.subject}
    assert not {shot.seed for shot in plan.report} & {shot.seed for shot in plan.subject}


def test_the_network_holds_the_chosen_weights_at_full_strength_afterwards(walk: Walk, tmp_path: Path) -> None:
    run = walk.whole(tmp_path / "run")
    choice = book.read_choice(run)
    assert choice is not None
    assert walk.network.scale == 1.0
    for name, tensor in walk.network.state().items():
        assert (tensor == walk.states[choice.step][name]).all()


@pytest.mark.parametrize(
    "cut", ["measures.jsonl", "measures", "candidates", "choice.json", "lora.safetensors"]
)
def test_a_run_that_lost_a_part_ends_in_the_same_bytes(walk: Walk, tmp_path: Path, cut: str) -> None:
    whole = contents(walk.whole(tmp_path / "whole"))
    run = walk.whole(tmp_path / "cut")
    lost = run / cut
    shutil.rmtree(lost) if lost.is_dir() else lost.unlink()
    walk.whole(run)
    assert contents(run) == whole


def test_a_stop_after_any_step_and_another_process_change_nothing(walk: Walk, tmp_path: Path) -> None:
    whole = contents(walk.whole(tmp_path / "whole"))
    run = tmp_path / "stopped"
    for count in range(1, len(STEPS) + 1):
        study = walk.study(run)  # as a new process would
        walk.measure(study, STEPS[count - 1])
    walk.finish(walk.study(run))
    assert contents(run) == whole


def test_a_damaged_sheet_of_the_base_is_drawn_again(walk: Walk, tmp_path: Path) -> None:
    whole = contents(walk.whole(tmp_path / "whole"))
    run = tmp_path / "damaged"
    walk.measure(walk.study(run), STEPS[0])
    book.sheet_path(run, 0).write_bytes(b"\x89PNG not a picture")
    for step in STEPS[1:]:
        walk.measure(walk.study(run), step)
    walk.finish(walk.study(run))
    assert contents(run) == whole


def test_the_base_at_strength_zero_is_what_step_0_is(walk: Walk, tmp_path: Path) -> None:
    """Measured while a trained network is attached: `at(0)` must switch it off."""
    study = walk.study(tmp_path / "run")
    walk.measure(study, STEPS[-1])
    plan = study.plan
    count = len(plan.subject) + len(plan.unrelated)
    drawn = book.read_sheet(book.sheet_path(tmp_path / "run", 0), count, plan.size)
    trained = book.read_sheet(book.sheet_path(tmp_path / "run", STEPS[-1]), count, plan.size)
    walk.network.detach()
    from talent_factory.training.likeness.checkpoint import draw

    bare = np.concatenate([draw(walk.base, shots, plan) for shots in (plan.subject, plan.unrelated)])
    assert (drawn == bare).all()
    assert (trained != bare).any()


def test_a_plateau_stops_the_run(
    base: Base, network: LoraNetwork, make_config: Callable[..., TrainConfig], dataset: Path, tmp_path: Path
) -> None:
    walk = Walk(base, network, make_config(choose={**KEYS, "patience": 1}), dataset)
    study = walk.study(tmp_path)
    walk.measure(study, 2)
    first = book.read_measures(tmp_path)[-1]
    better = first.model_copy(update={"identity": tuple(value + 0.3 for value in first.identity)})
    book.write_measure(tmp_path, better)
    assert not study.should_stop(2)
    walk.measure(study, 4)
    assert study.should_stop(4)
    assert not study.should_stop(2)  # what a resume at step 2 asks must not know of step 4
    assert walk.study(tmp_path).should_stop(4)


def test_a_person_may_choose_otherwise(walk: Walk, tmp_path: Path) -> None:
    run = walk.whole(tmp_path / "run")
    with pytest.raises(FileError, match="no choice to change"):
        veto(run, 2)
    lora = run / runs.LORA_FILE
    write_record(
        run / runs.RESULT_FILE,
        runs.TrainResult(
            run=str(run), lora=str(lora), lora_sha256=sha256_file(lora), steps=6, final_loss=0.1,
            seconds=1.0, base_revision="0" * 64, dataset_fingerprint="0" * 64,
        ),
    )  # fmt: skip
    measured = book.read_choice(run)
    assert measured is not None
    other = next(step for step in STEPS if step != measured.step)
    choice = veto(run, other, weight=0.8)
    back = veto(run, measured.step)
    assert back.default_weight == measured.default_weight
    assert back.reason == f"a person chose step {measured.step}; measured: {measured.reason}"
    assert veto(run, other, weight=0.8) == choice
    assert (choice.step, choice.default_weight, choice.chosen_by) == (other, 0.8, "person")
    assert measured.reason in choice.reason
    assert choice.scores == measured.scores
    assert book.read_choice(run) == choice
    assert sha256_file(lora) == sha256_file(book.candidate_path(run, other))
    assert runs.finished(run) is not None
    with pytest.raises(FileError, match="no weights of step 5; it has: 2, 4, 6"):
        ship(run, 5)


def test_a_plan_is_a_function_of_config_data_and_base(
    base: Base, dataset: Path, make_config: Callable[..., TrainConfig]
) -> None:
    manifest = load_dataset(dataset)
    plan = measure_plan(make_config(choose=KEYS, class_noun="robot"), manifest, base)
    assert plan == measure_plan(make_config(choose=KEYS, class_noun="robot"), manifest, base)
    assert plan != measure_plan(make_config(choose=KEYS, seed=1), manifest, base)
    held = measure_plan(make_config(choose=KEYS), manifest, base, held_out=["images/00.png", "images/03.png"])
    assert held.references == ("images/00.png", "images/03.png")
    assert held.held_out
    assert not set(held.references) & set(held.training)
    assert not plan.held_out
    assert plan.references == plan.training
    assert all("selftest" in shot.prompt for shot in plan.subject)
    assert not any("selftest" in shot.prompt for shot in plan.unrelated)
    assert [" robot" in shot.prompt for shot in plan.unrelated] == [True, False]
    assert not any("selftest" in shot.plain for shot in plan.subject)


def test_a_style_is_measured_by_its_medium_and_asked_for_in_it(
    base: Base, dataset: Path, make_config: Callable[..., TrainConfig]
) -> None:
    config = make_config(
        id="avatar.style.wobble", token="wobble", class_noun="woman", choose={"measure": True}
    )
    plan = measure_plan(config, load_dataset(dataset), _as_mini(base))
    assert (plan.encoder, plan.adherence, plan.reporter) == ("probe:style", "probe:style", "answers:style")
    assert all(shot.prompt.startswith("wobble portrait of a woman, ") for shot in plan.subject)
    assert not any(shot.ask is None or shot.ask.medium in ("flat", "comic") for shot in plan.subject)


def test_about_eight_checkpoints_are_measured_and_always_the_last(
    base: Base, dataset: Path, make_config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    def due(**changes: Any) -> list[int]:
        config = make_config(**changes)
        walk = Walk(base, attach(base.unet, rank=2), config, dataset)
        study = walk.study(tmp_path / "run")
        walk.network.detach()
        last, every = config.max_train_steps, config.checkpoint_every
        return [step for step in (*range(every, last, every), last) if study.due(step)]

    assert due(max_train_steps=400, checkpoint_every=50, choose=KEYS) == list(range(50, 401, 50))
    assert due(max_train_steps=1200, checkpoint_every=50, choose=KEYS) == list(range(150, 1201, 150))
    assert due(max_train_steps=110, checkpoint_every=50, choose={**KEYS, "every": 20}) == [50, 100, 110]


def test_the_forecast_counts_every_picture_that_is_drawn(
    walk: Walk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = 0
    own = Base.predict

    def counted(base: Base, latents: Tensor, *rest: Any) -> Tensor:
        nonlocal seen
        seen += len(latents)
        return own(base, latents, *rest)

    monkeypatch.setattr(Base, "predict", counted)
    walk.whole(tmp_path / "run")
    spared = 2 * 2 * len(book.read_plan(tmp_path / "run").report)  # chosen and last were the same here
    assert measure_calls(walk.config) - spared == seen


def test_what_cannot_be_measured_is_said_before_the_first_step(
    base: Base, dataset: Path, make_config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    manifest = load_dataset(dataset)
    with pytest.raises(ConfigError, match="needs an encoder"):
        measure_plan(make_config(choose={"measure": True}), manifest, base)
    with pytest.raises(ConfigError, match=r"names no encoder"):
        Walk(
            base, attach(base.unet, rank=2), make_config(choose={**KEYS, "encoder": "magic"}), dataset
        ).study(tmp_path)
    with pytest.raises(ConfigError, match="different ones"):
        measure_plan(make_config(choose={**KEYS, "prompts": 64}), manifest, _as_mini(base))


def _as_mini(base: Base) -> Base:
    base.name = "mini"
    return base


def test_a_damaged_log_is_refused_with_its_remedy(walk: Walk, tmp_path: Path) -> None:
    (tmp_path / book.MEASURES_FILE).write_text('{"step": 1}\n')
    with pytest.raises(FileError, match=r"measures\.jsonl is damaged"):
        book.read_measures(tmp_path)
