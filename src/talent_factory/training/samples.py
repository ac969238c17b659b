"""Draw the same few prompts at fixed points of a run, so that a person can see it learn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from talent_factory.core.files import atomic_path
from talent_factory.core.seeds import derive_seed
from talent_factory.training.families.port import Base
from talent_factory.training.sampler import sample

_STEPS = 12


def sample_strip(base: Base, *, prompts: Sequence[str], seed: int, path: Path) -> Path:
    """Render each prompt once, side by side, into one PNG; the seeds depend on `seed` and the place."""
    seeds = [derive_seed(seed, "sample", index) for index in range(len(prompts))]
    images_BHWC = sample(base, prompts=prompts, seeds=seeds, steps=_STEPS, guidance=base.guidance)
    with atomic_path(path) as temporary:
        Image.fromarray(np.concatenate(list(images_BHWC), axis=1)).save(temporary, format="PNG")
    return path


def default_prompts(captions: Sequence[str], class_prompts: Sequence[str]) -> tuple[str, ...]:
    """Three captions spread over the dataset, and one prompt without the token to see what leaks."""
    different = list(dict.fromkeys(captions))
    spread = different[:: max(1, len(different) // 3)][:3]
    return (*spread, *class_prompts[:1])
