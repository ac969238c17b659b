"""From one picture to a set of training images: reading it, recipes, casting, curation, delivery."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from talent_factory.client import TrainingClient as TrainingClient
    from talent_factory.datagen.generator import ActorTrainingDataGenerator as ActorTrainingDataGenerator
    from talent_factory.datagen.prompts import get_actor_descriptor as get_actor_descriptor
    from talent_factory.datagen.prompts import get_actor_training_prompts as get_actor_training_prompts
    from talent_factory.datagen.style_generator import TrainingDataGenerator as TrainingDataGenerator

# name -> the module that owns it, loaded on first use; the client stands above this room and is only named
_PUBLIC = {
    "ActorTrainingDataGenerator": "talent_factory.datagen.generator",
    "TrainingClient": "talent_factory.client",
    "TrainingDataGenerator": "talent_factory.datagen.style_generator",
    "get_actor_descriptor": "talent_factory.datagen.prompts",
    "get_actor_training_prompts": "talent_factory.datagen.prompts",
}

__all__ = sorted(_PUBLIC)  # noqa: PLE0605


def __getattr__(name: str) -> object:
    """Load a public name from the module that owns it."""
    try:
        module = _PUBLIC[name]
    except KeyError:
        raise AttributeError(f"module 'talent_factory.datagen' has no attribute {name!r}") from None
    value: object = getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return list(__all__)
