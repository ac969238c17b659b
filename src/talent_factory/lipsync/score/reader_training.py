"""How the embedded mouth reader was made: fitted to drawn heads, with blur, noise and light as they come."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from talent_factory.core.events import Reporter, SilentReporter
from talent_factory.core.files import write_bytes
from talent_factory.lipsync.score.reader import SIDE, MouthReader, lower_halves
from talent_factory.lipsync.synth.dice import Dice
from talent_factory.lipsync.synth.easel import Pose
from talent_factory.lipsync.synth.face import Look, draw_face
from talent_factory.lipsync.synth.person import make_person

_FRAMES_A_PERSON = 4


def calibration_set(count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """`count` drawn frames (count, 64, 64, 3) and their (opening, width) (count, 2)."""
    frames, truths = [], []
    for index in range(count):
        person = make_person(Dice("reader", seed, "person", index // _FRAMES_A_PERSON))
        dice = Dice("reader", seed, "look", index)
        opening = 0.0 if dice.chance(0.2) else dice.number() ** 1.3
        width = dice.number()
        pose = Pose(
            x=dice.number(-0.03, 0.03),
            y=dice.number(-0.02, 0.02),
            roll=dice.number(-0.05, 0.05),
            turn=dice.number(-0.04, 0.04),
            zoom=dice.number(0.98, 1.02),
        )
        look = Look(opening, width, gain=dice.number(0.94, 1.06), pose=pose)
        frames.append(draw_face(person, look, SIDE))
        truths.append((opening, width))
    return np.stack(frames), np.array(truths, np.float32)


def fit_reader(
    frames: NDArray[np.uint8],
    truths: NDArray[np.float32],
    *,
    steps: int = 3000,
    batch: int = 64,
    seed: int = 0,
    reporter: Reporter | None = None,
) -> MouthReader:
    """A reader fitted to a calibration set by least absolute error."""
    shown = reporter or SilentReporter()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        reader = MouthReader()
    halves, wanted = lower_halves(frames), torch.from_numpy(truths)
    optimizer = torch.optim.AdamW(reader.parameters(), lr=2e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        dice = torch.Generator().manual_seed(seed * 1_000_003 + step)
        chosen = torch.randint(len(halves), (batch,), generator=dice)
        guess = reader(_weathered(halves[chosen], dice))
        loss = functional.l1_loss(guess, wanted[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        shown.progress("fit reader", step + 1, steps, note=f"error {float(loss.detach()):.4f}")
    return reader.eval()


def _weathered(halves: Tensor, dice: torch.Generator) -> Tensor:
    """Half of the pictures blurred, shifted and noisy, as networks paint them."""
    count = len(halves)
    shift_y, shift_x = (int(torch.randint(-1, 2, (), generator=dice)) for _ in range(2))
    halves = torch.roll(halves, (shift_y, shift_x), dims=(2, 3))
    blurred = functional.avg_pool2d(functional.pad(halves, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    share = torch.rand(count, 1, 1, 1, generator=dice) * (torch.rand(count, 1, 1, 1, generator=dice) < 0.5)
    level = 0.06 * torch.rand(count, 1, 1, 1, generator=dice)
    return halves + share * (blurred - halves) + level * torch.randn(halves.shape, generator=dice)


def write_reader(path: Path, reader: MouthReader, **notes: Any) -> None:
    """Write the weights with a header that says what made them."""
    from safetensors.torch import save

    header = {"format": "talent-mouth-reader-1", **{key: str(value) for key, value in notes.items()}}
    weights = {name: tensor.contiguous() for name, tensor in reader.state_dict().items()}
    write_bytes(path, save(weights, metadata=header))
