"""Checkpoints come back bit for bit, and a broken one is never chosen."""

from __future__ import annotations

import resource
import signal
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from talent_factory.core.errors import DiskFull, ResumeRefused
from talent_factory.training.checkpoints import (
    RECORD,
    TENSORS,
    flatten_optimizer,
    load_latest,
    restore_optimizer,
    save_checkpoint,
)


def _model() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(16, 2))


def _steps(model: torch.nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()


def _state(model: torch.nn.Module) -> list[torch.Tensor]:
    return [value.clone() for value in model.state_dict().values()]


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_adamw_goes_on_bit_for_bit(tmp_path: Path, fused: bool, layout: torch.memory_format) -> None:
    def fresh() -> tuple[torch.nn.Module, torch.optim.AdamW]:
        model = _model().to(memory_format=layout)  # type: ignore[call-overload]
        return model, torch.optim.AdamW(model.parameters(), lr=1e-2, betas=(0.8, 0.95), fused=fused)

    model, optimizer = fresh()
    _steps(model, optimizer, range(6))
    whole = _state(model)

    model, optimizer = fresh()
    _steps(model, optimizer, range(3))
    moments, meta = flatten_optimizer(optimizer)
    weights = {f"model.{name}": value for name, value in model.state_dict().items()}
    save_checkpoint(tmp_path, step=3, tensors={**weights, **moments}, meta={"optimizer": meta})

    model, optimizer = fresh()
    found = load_latest(tmp_path)
    assert found is not None
    assert found.step == 3
    assert found.skipped == ()
    model.load_state_dict({k[6:]: v for k, v in found.tensors.items() if k.startswith("model.")})
    restore_optimizer(optimizer, found.tensors, found.meta["optimizer"])  # type: ignore[arg-type]
    assert optimizer.param_groups[0]["betas"] == (0.8, 0.95)
    _steps(model, optimizer, range(3, 6))
    assert all(torch.equal(a, b) for a, b in zip(whole, _state(model), strict=True))


def test_moments_keep_their_own_precision() -> None:
    weight = torch.nn.Parameter(torch.zeros(2, dtype=torch.bfloat16))
    optimizer = torch.optim.AdamW([weight], lr=1e-3)
    optimizer.state[weight]["exp_avg"] = torch.tensor([1.0000001, 2.0000002])
    optimizer.state[weight]["step"] = torch.tensor(3.0)
    tensors, meta = flatten_optimizer(optimizer)
    other = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(2, dtype=torch.bfloat16))], lr=1e-3)
    restore_optimizer(other, tensors, meta)
    restored = next(iter(other.state.values()))
    assert restored["exp_avg"].dtype == torch.float32
    assert torch.equal(restored["exp_avg"], torch.tensor([1.0000001, 2.0000002]))


def test_another_optimizer_is_refused() -> None:
    tensors, meta = flatten_optimizer(torch.optim.AdamW(_model().parameters(), lr=1e-3))
    with pytest.raises(ResumeRefused, match="AdamW"):
        restore_optimizer(torch.optim.SGD(_model().parameters(), lr=1e-3), tensors, meta)


def _save(root: Path, step: int, keep: int = 2) -> Path:
    return save_checkpoint(root, step=step, tensors={"x": torch.full((3,), float(step))}, meta={}, keep=keep)


def test_no_folder_is_no_checkpoint(tmp_path: Path) -> None:
    assert load_latest(tmp_path / "nowhere") is None


def test_prune_keeps_the_newest(tmp_path: Path) -> None:
    for step in (1, 2, 3, 10):
        _save(tmp_path, step)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step_00000003", "step_00000010"]


@settings(max_examples=25, deadline=None)
@given(data=st.data(), victim=st.sampled_from([TENSORS, RECORD]))
def test_any_damage_falls_back_to_the_one_before(
    data: st.DataObject, victim: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("checkpoints")
    _save(root, 1)
    broken = _save(root, 2) / victim
    content = bytearray(broken.read_bytes())
    if data.draw(st.booleans(), label="truncate"):
        content = content[: data.draw(st.integers(0, len(content) - 2))]
    elif victim == TENSORS:
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    else:
        content = bytearray(b"{}")
    broken.write_bytes(bytes(content))
    found = load_latest(root)
    assert found is not None
    assert found.step == 1
    assert len(found.skipped) == 1
    assert "step_00000002" in found.skipped[0]


def test_a_rewritten_past_wins_over_a_broken_future(tmp_path: Path) -> None:
    _save(tmp_path, 2)
    (_save(tmp_path, 5) / TENSORS).write_bytes(b"")
    _save(tmp_path, 4)
    found = load_latest(tmp_path)
    assert found is not None
    assert found.step == 4
    assert found.skipped == ()


def test_file_times_do_not_choose(tmp_path: Path) -> None:
    _save(tmp_path, 1)
    _save(tmp_path, 2)
    (tmp_path / "step_00000001" / RECORD).touch()
    found = load_latest(tmp_path)
    assert found is not None
    assert found.step == 2


def test_a_full_disk_is_named_although_safetensors_writes(tmp_path: Path) -> None:
    _save(tmp_path, 1)
    limit, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limit[1]))
    try:
        with pytest.raises(DiskFull, match="step_00000002"):
            save_checkpoint(tmp_path, step=2, tensors={"x": torch.zeros(100_000)}, meta={})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000001"]
