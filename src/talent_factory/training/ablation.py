"""Take the trigger out of the prompt and see whether the picture changes: does the word call the subject?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import numpy as np
from numpy.typing import NDArray

from talent_factory.core.records import Record
from talent_factory.core.seeds import derive_seed
from talent_factory.training.families.port import Base
from talent_factory.training.sampler import sample

Pictures = NDArray[np.uint8]
"""(N, H, W, 3)."""
Embed = Callable[[Pictures], NDArray[np.float32]]
"""Pictures to (N, D)."""
Context = Callable[[], AbstractContextManager[object]]

# One level of 255: two renders that differ by less look alike to everybody.
_VISIBLE = 1.0 / 255.0
# A LoRA that does so much of its work without its word is not bound to it.
_BOUND = 0.9


class Ablation(Record):
    """What the trigger does, over `pictures` prompts and seeds; each a mean absolute difference, 0..1.

    `called`: adapted model against the bare base, trigger in the prompt. `trigger`: adapted model with the
    word against without. `word`: the same for the bare base, to which the word is just a word. `leak`:
    adapted against bare, the word out of both prompts. The `…_seen` values are cosine distances by an
    encoder, where there is one.
    """

    token: str
    pictures: int
    called: float
    trigger: float
    word: float
    leak: float
    trigger_seen: float | None = None
    word_seen: float | None = None
    leak_seen: float | None = None

    @property
    def works(self) -> bool:
        """Whether the LoRA shows, and the picture changes when its word is taken away."""
        return self.called > _VISIBLE and self.trigger > _VISIBLE

    @property
    def remark(self) -> str:
        """One line for people, "" when all is well."""
        if self.called <= _VISIBLE:
            return f"the LoRA changes nothing that can be seen with {self.token} in the prompt"
        if self.trigger <= _VISIBLE:
            return f"the picture stays the same without {self.token}: the captions may not hold it"
        if self.leak >= _BOUND * self.called:
            return (
                f"pictures change without {self.token} too, by {self.leak:.3f} where it does by "
                f"{self.called:.3f}: a higher prior_weight binds what is learnt to the word"
            )
        return ""


def without_trigger(prompt: str, token: str) -> str:
    """The prompt with the word taken out, wherever it stands as a word of its own.

    >>> without_trigger("ink portrait of dot_kairo robot, smiling", "dot_kairo")
    'ink portrait of robot, smiling'
    """
    tags = [" ".join(word for word in tag.split() if word != token) for tag in prompt.split(",")]
    return ", ".join(tag for tag in tags if tag)


def ablate(
    base: Base,
    *,
    adapted: Context,
    bare: Context,
    token: str,
    prompts: Sequence[str],
    seed: int,
    steps: int = 12,
    embed: Embed | None = None,
) -> Ablation:
    """Draw each prompt with and without `token`, by the adapted base and by the bare one.

    Within `adapted()` the base answers with the LoRA, within `bare()` without it; one of them is nullcontext.
    Prompts without the word are left out; ValueError when none has it. Seeds depend on `seed` and the place
    in the list.
    """
    chosen = [prompt for prompt in prompts if without_trigger(prompt, token) != prompt]
    if not chosen:
        raise ValueError(f"no prompt holds {token!r}")
    bare_prompts = [without_trigger(prompt, token) for prompt in chosen]
    seeds = [derive_seed(seed, "ablation", index) for index in range(len(chosen))]

    def draw(texts: Sequence[str]) -> Pictures:
        return sample(base, prompts=texts, seeds=seeds, steps=steps, guidance=base.guidance)

    with adapted():
        own, own_without = draw(chosen), draw(bare_prompts)
    with bare():
        plain, plain_without = draw(chosen), draw(bare_prompts)
    seen: list[float | None] = [None, None, None]
    if embed is not None:
        pairs = ((own, own_without), (plain, plain_without), (own_without, plain_without))
        seen = [_apart(embed(one), embed(other)) for one, other in pairs]
    return Ablation(
        token=token,
        pictures=len(chosen),
        called=difference(own, plain),
        trigger=difference(own, own_without),
        word=difference(plain, plain_without),
        leak=difference(own_without, plain_without),
        trigger_seen=seen[0],
        word_seen=seen[1],
        leak_seen=seen[2],
    )


def difference(one: Pictures, other: Pictures) -> float:
    """The mean absolute difference of two lists of pictures, 0..1."""
    return float(np.abs(one.astype(np.float32) - other.astype(np.float32)).mean() / 255.0)


def _apart(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """The mean cosine distance of corresponding rows."""
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return float((1.0 - (one * other).sum(axis=1) / np.maximum(lengths, 1e-12)).mean())
