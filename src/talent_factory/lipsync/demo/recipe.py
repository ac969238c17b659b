"""What the demo draws, trains and says: fixed numbers, so that its figures can be compared."""

from __future__ import annotations

from pathlib import Path

from talent_factory.core.records import Record
from talent_factory.lipsync.config import LipsyncConfig
from talent_factory.lipsync.config_files import read_config
from talent_factory.lipsync.synth.clips import Order

CONFIGS = Path(__file__).resolve().parents[2] / "assets" / "lipsync" / "demo"
SEED = 2026
# Orders of one seed share nothing when their numbers do not meet.
_UNSEEN_FROM = 5001
SENTENCE_FROM = 9001


class Size(Record):
    """How much the demo does; `steps` None trains as long as the recipe says."""

    clips: int = 120
    seconds: float = 3.0
    unseen: int = 6
    unseen_seconds: float = 8.0
    sentence_seconds: float = 8.0
    steps: int | None = None


FULL = Size()
QUICK = Size(clips=6, seconds=2.0, unseen=2, unseen_seconds=3.0, sentence_seconds=3.0, steps=12)
"""Shows in a minute that everything runs; nothing is learnt."""


class Places(Record):
    """Where the demo keeps what it makes; all below one folder."""

    root: Path

    @property
    def clips(self) -> Path:
        """Clips to train on."""
        return self.root / "clips"

    @property
    def unseen(self) -> Path:
        """Clips of other speakers who say other things."""
        return self.root / "unseen"

    @property
    def run(self) -> Path:
        """The training."""
        return self.root / "run"

    @property
    def videos(self) -> Path:
        """Sound, portrait, source video and the videos that were made."""
        return self.root / "videos"

    @property
    def result(self) -> Path:
        """All figures."""
        return self.root / "demo.json"

    @property
    def page(self) -> Path:
        """The page."""
        return self.root / "report.html"


def recipe(places: Places, size: Size) -> LipsyncConfig:
    """The config that ships with the package, for the folders of `places`."""
    changes: dict[str, object] = {
        "local_data_base_url": str(places.clips),
        "metadata_url": str(places.clips / "metadata.npz"),
        "output_dir": str(places.run),
        "resume_from_checkpoint": "latest",
    }
    if size.steps is not None:
        changes |= {
            "max_train_steps": size.steps,
            "validation_steps": 0,
            "checkpointing_steps": size.steps,
            "lr_warmup_steps": 1,
        }
    return read_config(CONFIGS, changes)


def train_order(config: LipsyncConfig, size: Size) -> Order:
    """The clips to train on."""
    return Order(clips=size.clips, seconds=size.seconds, size=config.data.image_size, seed=SEED)


def unseen_order(config: LipsyncConfig, size: Size) -> Order:
    """The clips to score on: nobody and nothing of them was trained on."""
    return Order(
        clips=size.unseen,
        seconds=size.unseen_seconds,
        size=config.data.image_size,
        seed=SEED,
        first=_UNSEEN_FROM,
    )
