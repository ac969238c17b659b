"""A run goes on exactly, refuses what would make it another run, and loses nothing when it must stop."""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from talent_factory.core.errors import (
    BaseError,
    Cancelled,
    ConfigError,
    DatasetError,
    DeviceLost,
    DiskFull,
    FileError,
    ResumeRefused,
    TrainingDiverged,
    WorkspaceBusy,
)
from talent_factory.core.events import SilentReporter
from talent_factory.core.files import read_json, write_json
from talent_factory.core.stop import StopSignal
from talent_factory.core.workspace import exclusive
from talent_factory.kits.keys import expected_modules
from talent_factory.training import loop, runs, steps
from talent_factory.training.checkpoints import TENSORS
from talent_factory.training.config import TrainConfig
from talent_factory.training.engine import Engine
from talent_factory.training.goal import Goal
from talent_factory.training.machine import reproducible
from talent_factory.training.stepdown import load_execution
from talent_factory.training.tiny_data import make_tiny_dataset
from talent_factory.training.windows import Batch

MakeConfig = Callable[..., TrainConfig]


class _StopAt(SilentReporter):
    """Asks to stop when a step has ended, as a signal would."""

    def __init__(self, step: int) -> None:
        self.stop = StopSignal()
        self._step = step

    def event(self, kind: str, **fields: object) -> None:
        if kind == "step" and fields["step"] == self._step:
            self.stop.request()


def _stopped(config: TrainConfig, dataset: Path, run: Path, step: int) -> Path:
    reporter = _StopAt(step)
    with pytest.raises(Cancelled, match=f"step {step} of") as caught:
        loop.train(config, dataset=dataset, run=run, reporter=reporter, stop=reporter.stop)
    assert "talent train resume" in caught.value.remedy
    return run


def _bytes(run: Path) -> dict[str, bytes]:
    samples = {path.name: path.read_bytes() for path in (run / runs.SAMPLES).glob("*.png")}
    own = {name: (run / name).read_bytes() for name in (runs.LORA_FILE, runs.LOSS_FILE)}
    return {**samples, **own}


RICH = {
    "sample_every": 3,
    "flip": True,
    "captions": {"dropout": 0.3},
    "prior_weight": 0.5,
    "train_text_encoder": True,
    "targets": "transformer+conv",
}


@pytest.mark.parametrize(
    "changes", [{}, RICH, {"precision": "bf16", "scheduler": "linear", "warmup_steps": 2}]
)
def test_stopped_and_resumed_is_uninterrupted(
    make_config: MakeConfig, dataset: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    config = make_config(**changes)
    whole = loop.train(config, dataset=dataset, run=tmp_path / "whole")
    run = _stopped(config, dataset, tmp_path / "parts", 1)
    reporter = _StopAt(3)
    with pytest.raises(Cancelled):
        loop.resume(run, reporter=reporter, stop=reporter.stop)
    result = loop.resume(run)
    assert result.resumed_from == 3
    assert result.steps == whole.steps == 6
    assert result.lora_sha256 == whole.lora_sha256
    assert _bytes(run) == _bytes(tmp_path / "whole")


def test_what_a_run_leaves(make_config: MakeConfig, dataset: Path, tmp_path: Path) -> None:
    config = make_config(sample_every=3, lora_alpha=1.0)
    result = loop.train(config, dataset=dataset, run=tmp_path / "run")
    tensors = load_file(result.lora)
    base = Path(config.base_model)
    assert {key.partition(".")[0] for key in tensors} <= set(expected_modules(base))
    assert all(float(value) == 1.0 for key, value in tensors.items() if key.endswith(".alpha"))
    assert any(value.abs().max() > 0 for key, value in tensors.items() if "lora_up" in key)
    lines = [json.loads(line) for line in (tmp_path / "run/loss.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert sorted(path.name for path in (tmp_path / "run/samples").iterdir()) == [
        "step_00000000.png",
        "step_00000003.png",
        "step_00000006.png",
    ]
    events = [json.loads(line)["event"] for line in (tmp_path / "run/events.jsonl").read_text().splitlines()]
    assert events[0] == "begin"
    assert events[-1] == "finished"
    assert runs.run_status(tmp_path / "run").state == "finished"


def test_a_finished_run_is_not_done_again(
    make_config: MakeConfig, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(max_train_steps=2)
    first = loop.train(config, dataset=dataset, run=tmp_path / "run")
    monkeypatch.setattr(steps, "set_up", lambda *_, **__: pytest.fail("it began to train again"))
    assert loop.train(config, dataset=dataset, run=tmp_path / "run") == first
    assert loop.resume(tmp_path / "run") == first


def test_activations_computed_twice_are_the_same_ones(
    make_config: MakeConfig, dataset: Path, tmp_path: Path
) -> None:
    config = make_config(max_train_steps=4, targets="transformer+conv", train_text_encoder=True)
    loop.train(config, dataset=dataset, run=tmp_path / "kept")
    twice = config.model_copy(update={"gradient_checkpointing": True})
    loop.train(twice, dataset=dataset, run=tmp_path / "twice")
    assert _bytes(tmp_path / "kept") == _bytes(tmp_path / "twice")


def test_a_damaged_result_is_made_again(make_config: MakeConfig, dataset: Path, tmp_path: Path) -> None:
    config = make_config(max_train_steps=2)
    first = loop.train(config, dataset=dataset, run=tmp_path / "run")
    Path(first.lora).write_bytes(b"")
    assert loop.train(config, dataset=dataset, run=tmp_path / "run").lora_sha256 == first.lora_sha256


def test_a_broken_checkpoint_is_passed_over(make_config: MakeConfig, dataset: Path, tmp_path: Path) -> None:
    config = make_config()
    whole = loop.train(config, dataset=dataset, run=tmp_path / "whole")
    run = _stopped(config, dataset, tmp_path / "run", 4)
    newest = run / runs.CHECKPOINTS / "step_00000004" / TENSORS
    newest.write_bytes(newest.read_bytes()[:-1])
    result = loop.resume(run)
    assert result.resumed_from == 2
    assert result.lora_sha256 == whole.lora_sha256
    assert _bytes(run) == _bytes(tmp_path / "whole")
    assert "passed over a broken checkpoint" in (run / runs.EVENTS_FILE).read_text()


def test_losing_all_checkpoints_begins_again(make_config: MakeConfig, dataset: Path, tmp_path: Path) -> None:
    config = make_config()
    run = _stopped(config, dataset, tmp_path / "run", 4)
    for path in (run / runs.CHECKPOINTS).glob("*/*"):
        path.unlink()
    result = loop.resume(run)
    assert result.resumed_from == 0
    assert [line["step"] for line in runs.read_losses(run)] == [1, 2, 3, 4, 5, 6]


def test_another_config_is_refused(make_config: MakeConfig, dataset: Path, tmp_path: Path) -> None:
    run = _stopped(make_config(), dataset, tmp_path / "run", 1)
    with pytest.raises(ResumeRefused, match=r"learning_rate was 0\.001 and is 0\.002.*seed") as caught:
        loop.train(make_config(seed=1, learning_rate=2e-3), dataset=dataset, run=run)
    assert caught.value.exit_code == 3


def test_other_words_are_no_other_config(make_config: MakeConfig, dataset: Path, tmp_path: Path) -> None:
    run = _stopped(make_config(), dataset, tmp_path / "run", 1)
    result = loop.train(make_config(description="new", checkpoint_every=1), dataset=dataset, run=run)
    assert result.resumed_from == 1
    assert runs.read_run(run).config.description == "new"


def test_what_never_made_a_step_may_be_mended(make_config: MakeConfig, dataset: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(DatasetError, match="painted mask"):
        loop.train(make_config(loss={"mask": "file"}, sample_every=3), dataset=dataset, run=run)
    make_tiny_dataset(dataset, images=6)
    result = loop.train(make_config(max_train_steps=1), dataset=dataset, run=run)
    assert (result.resumed_from, result.steps) == (0, 1)
    for path in (run / runs.CHECKPOINTS).glob("*/*"):
        path.unlink()
    with pytest.raises(ResumeRefused, match="max_train_steps"):
        loop.train(make_config(), dataset=dataset, run=run)


def test_weights_that_are_no_numbers_are_never_kept(
    make_config: MakeConfig, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Engine.step

    def spoiling(engine: Engine, number: int) -> None:
        step(engine, number)
        if number == 3:  # the figures of this step are sound, what it leaves is not
            engine.flat.weights()[0][0] = torch.nan

    monkeypatch.setattr(Engine, "step", spoiling)
    with pytest.raises(TrainingDiverged, match=r"no finite numbers.*step_00000002"):
        loop.train(make_config(), dataset=dataset, run=tmp_path / "run")
    assert [path.name for path in (tmp_path / "run" / runs.CHECKPOINTS).iterdir()] == ["step_00000002"]


@pytest.mark.parametrize(
    "lost",
    [torch.AcceleratorError("CUDA error: unspecified launch failure"), RuntimeError("HIP error: gone")],
)
def test_a_lost_device_is_one_line_and_goes_on_from_the_last_checkpoint(
    make_config: MakeConfig,
    dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lost: RuntimeError,
) -> None:
    whole = loop.train(make_config(), dataset=dataset, run=tmp_path / "whole")
    step = Engine.step

    def failing(engine: Engine, number: int) -> None:
        if number == 3:
            raise lost
        step(engine, number)

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "step", failing)
        with pytest.raises(DeviceLost, match=r"^the device stopped .*step_00000002\n  try: talent train res"):
            loop.train(make_config(), dataset=dataset, run=tmp_path / "run")
    result = loop.resume(tmp_path / "run")
    assert (result.resumed_from, result.lora_sha256) == (2, whole.lora_sha256)


def test_a_disk_that_fills_up_within_a_line_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = runs.LossLog(tmp_path / "loss.jsonl", size=0)

    class Short:
        def write(self, line: bytes) -> int:
            return len(line) - 1

    stream = log._stream
    monkeypatch.setattr(log, "_stream", Short())
    with pytest.raises(DiskFull, match=r"loss\.jsonl"):
        log.append(1, {"loss": 0.5})
    stream.close()


def test_an_edited_record_is_refused(make_config: MakeConfig, dataset: Path, tmp_path: Path) -> None:
    run = _stopped(make_config(), dataset, tmp_path / "run", 1)
    record = read_json(run / runs.RUN_FILE)
    record["config"]["max_train_steps"] = 9
    write_json(run / runs.RUN_FILE, record)
    with pytest.raises(ResumeRefused, match="edited"):
        loop.resume(run)


def test_another_dataset_is_refused(make_config: MakeConfig, dataset: Path, tmp_path: Path) -> None:
    run = _stopped(make_config(), dataset, tmp_path / "run", 1)
    make_tiny_dataset(dataset, images=6)
    with pytest.raises(ResumeRefused, match=r"images/05\.png was added"):
        loop.resume(run)


def test_one_image_less_is_named_and_not_the_renumbered_rest(
    make_config: MakeConfig, dataset: Path, tmp_path: Path
) -> None:
    run = _stopped(make_config(), dataset, tmp_path / "run", 1)
    record = read_json(run / runs.RUN_FILE)
    items = list(record["dataset_items"].items())
    files = [name for name, _ in items]
    one_more = ["f" * 16, *(digest for _, digest in items)]
    record["dataset_items"] = dict(zip([*files, "images/99.png"], one_more, strict=True))
    write_json(run / runs.RUN_FILE, record)
    with pytest.raises(ResumeRefused, match=rf"began with: {re.escape(files[0])} was removed\n") as caught:
        loop.resume(run)
    assert "talent train CONFIG," in caught.value.remedy


def test_a_changed_image_is_refused(make_config: MakeConfig, dataset: Path, tmp_path: Path) -> None:
    run = _stopped(make_config(), dataset, tmp_path / "run", 1)
    (dataset / "images/02.png").write_bytes((dataset / "images/03.png").read_bytes())
    with pytest.raises(ResumeRefused, match=r"images/02\.png"):
        loop.resume(run)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [("base_revision", "0" * 64, "revision"), ("machine", {"torch": "1.0"}, "torch was 1.0")],
)
def test_another_base_or_torch_is_refused(
    make_config: MakeConfig, dataset: Path, tmp_path: Path, key: str, value: Any, said: str
) -> None:
    run = _stopped(make_config(), dataset, tmp_path / "run", 1)
    record = read_json(run / runs.RUN_FILE)
    record[key] = {**record[key], **value} if isinstance(value, dict) else value
    write_json(run / runs.RUN_FILE, record)
    with pytest.raises(ResumeRefused, match=said):
        loop.resume(run)


def test_the_threads_of_the_beginning_are_used_again(
    make_config: MakeConfig, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = _stopped(make_config(), dataset, tmp_path / "run", 1)
    record = read_json(run / runs.RUN_FILE)
    record["machine"]["threads"] = 2
    write_json(run / runs.RUN_FILE, record)
    seen: list[int] = []
    reproducible = loop.reproducible

    def watched(threads: int, *, exact: bool) -> AbstractContextManager[None]:
        assert exact
        seen.append(threads)
        return reproducible(1)

    monkeypatch.setattr(loop, "reproducible", watched)
    loop.resume(run)
    assert seen == [2]


def test_settings_of_torch_come_back() -> None:
    before = torch.get_num_threads()
    with reproducible(before + 1):
        assert torch.get_num_threads() == before + 1
        assert torch.are_deterministic_algorithms_enabled()
    assert torch.get_num_threads() == before
    assert not torch.are_deterministic_algorithms_enabled()


def test_two_at_once_are_refused(make_config: MakeConfig, dataset: Path, tmp_path: Path) -> None:
    with exclusive(tmp_path / "run"), pytest.raises(WorkspaceBusy):
        loop.train(make_config(), dataset=dataset, run=tmp_path / "run")


def test_no_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="holds no run"):
        loop.resume(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_a_loss_that_is_no_number_stops(
    make_config: MakeConfig, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Goal.__call__
    steps: list[int] = []

    def poisoned(self: Goal, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        steps.append(1)
        loss, values = whole(self, batch)
        return (loss * float("nan"), values * float("nan")) if len(steps) == 4 else (loss, values)

    monkeypatch.setattr(Goal, "__call__", poisoned)
    with pytest.raises(TrainingDiverged, match=r"step 4: loss is nan.*step_00000002") as caught:
        loop.train(make_config(), dataset=dataset, run=tmp_path / "run")
    assert "learning_rate" in caught.value.remedy
    assert not (tmp_path / "run" / runs.LORA_FILE).exists()


def test_a_full_disk_keeps_the_last_checkpoint(
    make_config: MakeConfig, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from talent_factory.training import checkpoints

    whole = loop.train(make_config(), dataset=dataset, run=tmp_path / "whole")
    write = checkpoints.save_file
    calls: list[int] = []

    def full(*arguments: Any, **options: Any) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(*arguments, **options)

    monkeypatch.setattr(checkpoints, "save_file", full)
    with pytest.raises(DiskFull):
        loop.train(make_config(), dataset=dataset, run=tmp_path / "run")
    result = loop.resume(tmp_path / "run")
    assert result.resumed_from == 2
    assert result.lora_sha256 == whole.lora_sha256


def test_bad_input_before_anything_is_written(make_config: MakeConfig, dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(BaseError, match="no base model"):
        loop.train(make_config(base_model="nowhere"), dataset=dataset, run=tmp_path / "a")
    with pytest.raises(ConfigError, match="sdx_version"):
        loop.train(make_config(sdx_version="xl"), dataset=dataset, run=tmp_path / "b")
    with pytest.raises(DatasetError):
        loop.train(make_config(), dataset=tmp_path / "nothing", run=tmp_path / "c")
    (dataset / "images/00.png").unlink()
    with pytest.raises(DatasetError, match=r"00\.png"):
        loop.train(make_config(), dataset=dataset, run=tmp_path / "d")
    assert not any((tmp_path / name / runs.RUN_FILE).exists() for name in "abcd")


def test_preservation_holds_the_base_in_place(make_config: MakeConfig, dataset: Path, tmp_path: Path) -> None:
    def drift(weight: float) -> float:
        config = make_config(max_train_steps=12, learning_rate=1e-2, prior_weight=max(weight, 1e-6))
        loop.train(config, dataset=dataset, run=tmp_path / f"run{weight}")
        return runs.read_losses(tmp_path / f"run{weight}")[-1]["preserve"]

    assert drift(5.0) < 0.6 * drift(0.0)


def test_set_aside(make_config: MakeConfig, dataset: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert runs.set_aside(run) is None
    _stopped(make_config(), dataset, run, 1)
    assert runs.set_aside(run) == tmp_path / "run.old1"
    _stopped(make_config(), dataset, run, 1)
    assert runs.set_aside(run) == tmp_path / "run.old2"
    assert runs.run_status(tmp_path / "run.old2").state == "stopped"


def test_memory_that_runs_out_is_stepped_down_from(
    make_config: MakeConfig, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(max_train_steps=6, batch_size=2, prior_weight=0.3)
    whole = loop.train(config, dataset=dataset, run=tmp_path / "whole")
    calls: list[int] = []
    real = Goal.__call__

    def short(self: Goal, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        calls.append(len(batch.rows_B))
        if len(calls) > 3 and len(batch.rows_B) > 1:
            raise torch.OutOfMemoryError("out of memory")
        return real(self, batch)

    monkeypatch.setattr(Goal, "__call__", short)
    result = loop.train(config, dataset=dataset, run=tmp_path / "run")
    assert calls[-1] == 1
    execution = load_execution(tmp_path / "run", config)
    assert (execution.splits, execution.gradient_checkpointing) == (2, True)
    assert result.steps == 6
    left, right = (runs.read_losses(tmp_path / name) for name in ("whole", "run"))
    for before, after in zip(left, right, strict=True):
        assert before == pytest.approx(after, rel=1e-3)
    assert whole.final_loss == pytest.approx(result.final_loss, rel=1e-3)


def test_held_out_images_are_measured_and_not_trained_on(
    make_config: MakeConfig, dataset: Path, tmp_path: Path
) -> None:
    config = make_config(max_train_steps=5, checkpoint_every=2, validation={"share": 0.4})
    loop.resume(_stopped(config, dataset, tmp_path / "run", 3))
    loop.train(config, dataset=dataset, run=tmp_path / "whole")
    found = runs.read_validation(tmp_path / "run")
    assert [line["step"] for line in found] == [2, 4, 5]
    assert found == runs.read_validation(tmp_path / "whole")
    digests = {(tmp_path / name / runs.LORA_FILE).read_bytes() for name in ("run", "whole")}
    assert len(digests) == 1
