"""Train the attribute probe on drawings, and keep it as one small file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from talent_factory.core.errors import BaseError
from talent_factory.core.events import Reporter
from talent_factory.core.files import atomic_path
from talent_factory.core.seeds import derive_seed
from talent_factory.training.mini.autoencoder import to_tensor
from talent_factory.training.mini.optimise import Course, Losses, optimise
from talent_factory.training.mini.recipe import ProbeRecipe
from talent_factory.training.probe import UNSEEN, Probe, labels, read, truth
from talent_factory.world import Character

PROBE_FILE = Path(__file__).resolve().parents[2] / "assets" / "probe" / "probe.safetensors"


def _altered(image_BCHW: Tensor, rng: np.random.Generator) -> Tensor:
    """The small faults of a rendered picture: shifted, softened, off in tone and grainy."""
    shifts = [int(value) for value in rng.integers(-6, 7, size=2)]
    image = torch.roll(image_BCHW, shifts=shifts, dims=(2, 3))
    if rng.random() < 0.5:
        soft = nn.functional.avg_pool2d(image, 3, stride=1, padding=1)
        image = torch.lerp(image, soft, float(rng.uniform(0.3, 1.0)))
    gain, bias = float(rng.uniform(0.88, 1.1)), float(rng.uniform(-0.08, 0.08))
    grain = torch.from_numpy(rng.normal(0, 0.04, image.shape).astype(np.float32))
    return (image * gain + bias + grain).clamp(-1, 1)


def train_probe(
    pictures: NDArray[np.uint8],
    who: list[Character],
    recipe: ProbeRecipe,
    *,
    seed: int,
    root: Path,
    reporter: Reporter,
) -> Probe:
    """Train on altered drawings (N, 128, 128, 3) uint8; the loss is the cross entropy of what they show."""
    torch.manual_seed(derive_seed("probe-start", seed))
    model = Probe(recipe.channels)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    answers = labels(who)

    def loss_at(step: int) -> Losses:
        rng = np.random.default_rng(derive_seed("probe", seed, step))
        rows = np.sort(rng.integers(len(who), size=recipe.batch))
        image = _altered(to_tensor(pictures[rows]), rng).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(image)
        picked = torch.from_numpy(rows)
        parts = []
        for name, values in logits.items():
            wanted = answers[name][picked]
            if bool((wanted != UNSEEN).any()):
                parts.append(nn.functional.cross_entropy(values.float(), wanted, ignore_index=UNSEEN))
        return {"entropy": torch.stack(parts).mean()}

    course = Course(
        name="probe",
        steps=recipe.steps,
        learning_rate=recipe.learning_rate,
        warmup=recipe.warmup,
        average=0.998,
        weight_decay=0.02,
    )
    optimise(model, course, loss_at=loss_at, root=root, reporter=reporter)
    return model


def save_probe(model: Probe, path: Path) -> None:
    """Write the probe as fp16 safetensors; its shape is in the header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = ",".join(str(stage.first.out_channels) for stage in model.stages)  # type: ignore[union-attr]
    tensors = {name: value.half().contiguous() for name, value in model.state_dict().items()}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"channels": channels})


def load_probe(path: Path = PROBE_FILE) -> Probe:
    """The shipped probe in float32. Raises BaseError when the package carries none."""
    if not path.is_file():
        raise BaseError(f"the attribute probe is missing at {path}", remedy="talent base build mini")
    tensors = load_file(path)
    stages = sorted({int(name.split(".")[1]) for name in tensors if name.startswith("stages.")})
    channels = [tensors[f"stages.{index}.first.weight"].shape[0] for index in stages]
    model = Probe(channels)
    model.load_state_dict({name: value.float() for name, value in tensors.items()})
    return model.eval()


def reading_rate(probe: Probe, pictures: NDArray[np.uint8], who: list[Character]) -> dict[str, float]:
    """Share of visible attributes of true drawings that the probe reads right: per attribute and "all"."""
    right: dict[str, list[bool]] = {}
    for start in range(0, len(who), 50):
        seen = read(probe, to_tensor(pictures[start : start + 50]))
        for character, reading in zip(who[start : start + 50], seen, strict=True):
            for name, value in truth(character).items():
                right.setdefault(name, []).append(reading[name] == value)
    rates = {name: sum(hits) / len(hits) for name, hits in sorted(right.items())}
    every = [hit for hits in right.values() for hit in hits]
    return {"all": sum(every) / len(every), **rates}
