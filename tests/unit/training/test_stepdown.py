"""After an out-of-memory: the same rows in the same order in smaller pieces, kept for the resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from talent_factory.core.errors import TrainingDiverged, TrainingTooLarge
from talent_factory.core.events import SilentReporter
from talent_factory.training.config import TrainConfig
from talent_factory.training.spill import CardWatch, SpillWatch, watch_card
from talent_factory.training.stepdown import (
    Execution,
    execution_of,
    load_execution,
    out_of_memory,
    stepped_down,
    with_step_down,
)

GB = 1 << 30


def _config(**keys: Any) -> TrainConfig:
    base: dict[str, Any] = {
        "id": "avatar.identity.someone",
        "kind": "lora",
        "sdx_version": "1.5",
        "base_model": "mini",
        "train_data_dir": "nowhere",
        "resolution": 512,
        "lora_rank": 16,
        "max_train_steps": 10,
        "learning_rate": 1e-4,
        "batch_size": 4,
        "token": "someone",
    }
    return TrainConfig(**{**base, **keys})


def test_the_ladder_goes_down_to_one_image_and_then_says_what_helps() -> None:
    config, execution = _config(batch_size=6), execution_of(_config(batch_size=6))
    seen = []
    for _ in range(4):
        execution = stepped_down(execution, config, "the memory ran out")
        seen.append((execution.gradient_checkpointing, execution.splits))
    assert seen == [(True, 1), (True, 2), (True, 3), (True, 6)]
    assert len(execution.reasons) == 4
    with pytest.raises(TrainingTooLarge, match="not even one image of 512 pixels") as caught:
        stepped_down(execution, config, "the memory ran out")
    assert "resolution 384" in caught.value.remedy
    assert "precision bf16" in caught.value.remedy


@pytest.mark.parametrize(("rows", "splits"), [(4, 1), (4, 2), (4, 4), (6, 3), (5, 2), (1, 4), (7, 4)])
def test_pieces_hold_every_row_once_in_order(rows: int, splits: int) -> None:
    pieces = list(Execution(splits=splits).pieces(rows))
    assert [row for piece in pieces for row in range(rows)[piece]] == list(range(rows))
    assert all(range(rows)[piece] for piece in pieces)
    if rows % splits == 0:
        assert {len(range(rows)[piece]) for piece in pieces} == {rows // splits}


def test_pieces_add_up_to_the_gradient_of_the_whole() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(3, generator=generator, dtype=torch.float64, requires_grad=True)
    data = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    (data @ weight).square().mean().backward()
    whole = weight.grad
    weight.grad = None
    for piece in Execution(splits=3).pieces(6):
        part = data[piece]
        ((part @ weight).square().mean() * (len(part) / 6)).backward()
    assert whole is not None
    assert weight.grad is not None
    torch.testing.assert_close(weight.grad, whole)


@pytest.mark.parametrize(
    ("error", "is_it"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 17 GB)"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
        (TrainingDiverged("loss is nan, out of memory of good values"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_counts_as_out_of_memory(error: BaseException, is_it: bool) -> None:
    assert out_of_memory(error) is is_it


def test_a_real_allocation_that_fails_is_recognised() -> None:
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert out_of_memory(caught.value)


def test_work_goes_on_smaller_and_the_next_process_begins_there(tmp_path: Path) -> None:
    config, tried = _config(), []
    held: list[Any] = []

    def work(execution: Execution) -> str:
        import weakref

        assert all(reference() is None for reference in held)  # the failed step's tensors are gone
        tensor = torch.zeros(4)
        held.append(weakref.ref(tensor))
        tried.append((execution.gradient_checkpointing, execution.splits))
        if execution.splits < 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return "done"

    class Heard(SilentReporter):
        texts: list[str]

        def __init__(self) -> None:
            self.texts = []

        def message(self, text: str) -> None:
            self.texts.append(text)

    heard = Heard()
    assert with_step_down(tmp_path, config, work, reporter=heard) == "done"
    assert tried == [(False, 1), (True, 1), (True, 2)]
    assert "same images in the same order" in heard.texts[-1]
    # a kill here, and the resume does not try the larger ones again
    assert load_execution(tmp_path, config).splits == 2
    tried.clear()
    assert with_step_down(tmp_path, config, work, reporter=heard) == "done"
    assert tried == [(True, 2)]


def test_other_errors_pass(tmp_path: Path) -> None:
    def work(_: Execution) -> None:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes"):
        with_step_down(tmp_path, _config(), work, reporter=SilentReporter())
    assert not list(tmp_path.iterdir())


def test_nothing_smaller_is_left(tmp_path: Path) -> None:
    def work(_: Execution) -> None:
        raise MemoryError

    with pytest.raises(TrainingTooLarge):
        with_step_down(tmp_path, _config(batch_size=1), work, reporter=SilentReporter())


def _watched(seconds: list[float], *, reserved: int, free: int) -> list[str]:
    watch = SpillWatch(total=8 * GB)
    said = [watch.observe(value, reserved=reserved, free=free) for value in seconds]
    return [text for text in said if text]


def test_spill_is_told_once_when_steps_slow_down_on_a_full_card() -> None:
    steps = [0.2] * 30 + [1.9] * 30
    (text,) = _watched(steps, reserved=int(7.9 * GB), free=0)
    assert "9.5 times" in text
    assert "gradient_checkpointing" in text


def test_spill_is_not_told_for_one_sign_alone_or_a_single_slow_step() -> None:
    assert not _watched([0.2] * 30 + [1.9] * 30, reserved=3 * GB, free=5 * GB)
    assert not _watched([0.2] * 60, reserved=int(7.9 * GB), free=0)
    single = [0.2] * 30 + [5.0] + [0.2] * 30
    assert not _watched(single, reserved=int(7.9 * GB), free=0)


def test_more_held_than_there_is_needs_no_other_sign() -> None:
    assert len(_watched([0.2], reserved=9 * GB, free=0)) == 1


def test_a_watch_with_a_clock_divides_by_the_steps() -> None:
    now = [0.0]
    card = CardWatch(total=8 * GB, memory=lambda: (8 * GB, 0), clock=lambda: now[0])
    said = []
    for seconds in [99.0] + [1.6] * 20 + [16.0] * 10:  # sixteen steps each; the first holds the preparations
        now[0] += seconds
        said.append(card.note(16))
    (text,) = [item for item in said if item]
    assert "10.0 times" in text
    assert card.note(0) is None
    assert watch_card(torch.device("cpu")) is None


@pytest.mark.gpu
def test_a_real_card_is_watched() -> None:
    card = watch_card(torch.device("cuda"))
    assert card is not None
    assert card.note(1) is None
    assert card.note(1) is None
