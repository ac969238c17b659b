"""A recorded batch does what the batch itself does: same gradients, same figures, whatever came before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from talent_factory.training import loop, runs, session
from talent_factory.training.capture import CaptureRefused, Play, Replay, cuda_graph
from talent_factory.training.config import TrainConfig
from talent_factory.training.windows import Batch


def played_again(work: Callable[[], None]) -> Play:
    """What a GPU's graph does, without one: the work on the same tensors, after some runs to get warm."""
    for _ in range(2):
        work()
    return work


def _batch(number: int, side: int = 4) -> Batch:
    return Batch(
        size=(side, side),
        rows_B=torch.tensor([number, 0]),
        texts_B=torch.tensor([0, number]),
        classes_E=torch.tensor([1]),
        timesteps_B=torch.tensor([number, number]),
        posterior_BCHW=torch.full((2, 4, side, side), float(number)),
        noise_BCHW=torch.full((2, 4, side, side), float(2 * number)),
    )


def test_recording_leaves_no_trace_and_playing_reads_the_new_batch() -> None:
    total, seen = torch.zeros(1), torch.zeros(1)

    def work(batch: Batch) -> None:
        total.add_(batch.noise_BCHW.sum() + batch.rows_B.sum())
        seen.add_(1)

    replay = Replay(work, kept=[total, seen], record=played_again)
    expected = torch.zeros(1)
    for number, side in ((1, 4), (2, 4), (3, 6), (4, 4), (5, 6)):
        batch = _batch(number, side)
        replay(batch)
        expected += batch.noise_BCHW.sum() + batch.rows_B.sum()
    assert torch.equal(total, expected)
    assert seen == 5
    assert len(replay._recordings) == 2


def test_work_that_cannot_be_recorded_is_done_as_it_is() -> None:
    total, told = torch.zeros(1), []

    def work(batch: Batch) -> None:
        total.add_(batch.noise_BCHW.sum())

    def refuses(work: Callable[[], None]) -> Play:
        work()
        raise CaptureRefused("an op asked the host")

    replay = Replay(work, kept=[total], record=refuses, refused=told.append)
    for number in (1, 2, 3):
        replay(_batch(number))
    assert total == sum(2.0 * number * 2 * 4 * 4 * 4 for number in (1, 2, 3))
    assert told == ["an op asked the host"]


def test_a_run_from_recordings_is_the_run(
    make_config: Callable[..., TrainConfig],
    dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = make_config(max_train_steps=6, accumulation=2, train_text_encoder=True, prior_weight=0.3)
    plain = loop.train(config, dataset=dataset, run=tmp_path / "plain")
    monkeypatch.setattr(session, "recorder_for", lambda *_: played_again)
    recorded = loop.train(config, dataset=dataset, run=tmp_path / "recorded")
    assert plain.lora_sha256 == recorded.lora_sha256
    assert runs.read_losses(tmp_path / "plain") == runs.read_losses(tmp_path / "recorded")


@pytest.mark.gpu
def test_a_cuda_graph_is_the_work() -> None:
    weights = torch.randn(64, 64, device="cuda")
    total: Tensor = torch.zeros(64, 64, device="cuda")

    def work(batch: Batch) -> None:
        total.add_(weights @ weights * batch.noise_BCHW.mean())

    replay = Replay(work, kept=[total], record=cuda_graph)
    expected = torch.zeros_like(total)
    for number in (1, 2, 3):
        batch = _batch(number)
        placed = Batch(batch.size, *(tensor.cuda() for tensor in batch.tensors()))
        replay(placed)
        expected += weights @ weights * (2.0 * number)
    torch.testing.assert_close(total, expected, rtol=1e-4, atol=1e-3)
