"""Talent Factory turns one portrait into a digital actor; this is its public face."""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from talent_factory.client import TrainingClient as TrainingClient
    from talent_factory.core.config import load_yaml as load_yaml
    from talent_factory.core.errors import TalentError as TalentError
    from talent_factory.core.workspace import Workspace as Workspace
    from talent_factory.core.workspace import workspace_from as workspace_from
    from talent_factory.datagen.actor import cast_actor as cast_actor
    from talent_factory.datagen.generator import ActorTrainingDataGenerator as ActorTrainingDataGenerator
    from talent_factory.datagen.prompts import get_actor_descriptor as get_actor_descriptor
    from talent_factory.datagen.prompts import get_actor_training_prompts as get_actor_training_prompts
    from talent_factory.datagen.style import cast_style as cast_style
    from talent_factory.datagen.style_generator import TrainingDataGenerator as TrainingDataGenerator
    from talent_factory.dataset.prepare import prepare_cast as prepare_cast
    from talent_factory.dataset.prepare import prepare_folder as prepare_folder
    from talent_factory.kits.catalog.catalog import index_kits as index_kits
    from talent_factory.kits.validate import validate_kit as validate_kit
    from talent_factory.pipeline import run as run
    from talent_factory.pipeline import train_kit as train_kit
    from talent_factory.service.client import FoundryClient as FoundryClient
    from talent_factory.training.families import load_base as load_base
    from talent_factory.training.loop import train as train

__version__ = "0.1.0"

# Diffusers loads it wherever it is installed, and it then remarks on kernels for language models, which
# nothing here uses. Its errors are still heard.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

# name -> the module that owns it; loaded on first use so that `import talent_factory` stays free
_PUBLIC = {
    "ActorTrainingDataGenerator": "talent_factory.datagen.generator",
    "FoundryClient": "talent_factory.service.client",
    "TalentError": "talent_factory.core.errors",
    "TrainingClient": "talent_factory.client",
    "TrainingDataGenerator": "talent_factory.datagen.style_generator",
    "Workspace": "talent_factory.core.workspace",
    "cast_actor": "talent_factory.datagen.actor",
    "cast_style": "talent_factory.datagen.style",
    "get_actor_descriptor": "talent_factory.datagen.prompts",
    "get_actor_training_prompts": "talent_factory.datagen.prompts",
    "index_kits": "talent_factory.kits.catalog.catalog",
    "load_base": "talent_factory.training.families",
    "load_yaml": "talent_factory.core.config",
    "prepare_cast": "talent_factory.dataset.prepare",
    "prepare_folder": "talent_factory.dataset.prepare",
    "run": "talent_factory.pipeline",
    "train": "talent_factory.training.loop",
    "train_kit": "talent_factory.pipeline",
    "validate_kit": "talent_factory.kits.validate",
    "workspace_from": "talent_factory.core.workspace",
}

__all__ = ["__version__", *sorted(_PUBLIC)]  # noqa: PLE0604

if not TYPE_CHECKING:  # a checker reads the imports above, and says so when a name is not public

    def __getattr__(name: str) -> object:
        """Load a public name from the room that owns it."""
        try:
            module = _PUBLIC[name]
        except KeyError:
            raise AttributeError(f"module 'talent_factory' has no attribute {name!r}") from None
        value: object = getattr(import_module(module), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return list(__all__)
