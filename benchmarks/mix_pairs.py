"""Does the chosen mix beat the plain sum? `python benchmarks/mix_pairs.py [--identities FOLDER...]`.

Ten drawn identities (those of `choice.py`) and five looks that the embedded base never saw, each a kit. For
each of the fifty pairs, `choose_mix` draws its candidates and chooses one; then the plain sum and the chosen
mix draw other prompts with other seeds, and are read: identity by the attribute probe (only the marks that it
reads from true drawings of that character in that look), style by the judge of `looks.py`, prompt by the
probe. What is done in `--folder` is not done again; `--identities` are folders of `choice.py` to take
trained runs from, what is missing there is trained here.
"""

from __future__ import annotations

import argparse
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from choice import MINI, RATE, SIDE, make_dataset, unseen_character
from looks import LOOKS, make_style_dataset, recognised, sheet, token, train_judge
from looks import drawn as drawn_truth
from numpy.typing import NDArray
from record import record
from reference_loop import Work
from train_speed import run_one

from talent_factory.core.events import SilentReporter
from talent_factory.core.files import read_json, write_json
from talent_factory.foundry.blend import Mix
from talent_factory.foundry.choose_mix import Asked, Judges, ask, choose_mix, draw_mix, draw_ways
from talent_factory.foundry.compat import compatibility
from talent_factory.foundry.discover import Ingredient, load_kit
from talent_factory.foundry.ways import PLAIN_SUM, questions, ways
from talent_factory.kits.manifest import PromptSet
from talent_factory.kits.pack import KitSpec, pack_kit
from talent_factory.training.families import load_base
from talent_factory.training.likeness.book import candidate_path, read_choice
from talent_factory.training.likeness.drawn import marks_of
from talent_factory.training.likeness.records import Shot
from talent_factory.training.mini.autoencoder import to_tensor
from talent_factory.training.mini.reader import load_probe
from talent_factory.training.probe import Probe, read
from talent_factory.training.runs import LORA_FILE
from talent_factory.training.sampler import Manner
from talent_factory.world import Character, palette

CREATED = datetime(2026, 1, 1, tzinfo=UTC)
STYLE_STEPS = 500
READABLE = 0.7


def main() -> None:
    """Train what is missing, choose and read all pairs, and keep the figures."""
    options = _options()
    talents = options.folder / "talents" / "avatar"
    styles = [style_kit(look, talents, options.folder) for look in LOOKS[: options.styles]]
    identities = [identity_kit(number, talents, options) for number in range(options.characters)]
    if options.train_only:
        return
    work = Studio(options.folder, load_probe())
    done = []
    for number, identity in enumerate(identities):
        for look, style in zip(LOOKS, styles, strict=False):
            place = options.folder / "pairs" / f"{identity.rsplit('.', 1)[1]}_{look}"
            pair = (_ingredient(talents, identity), _ingredient(talents, style))
            if not (place / "figures.json").is_file():
                write_json(place / "figures.json", one_pair(work, pair, number, look, place))
            one = {**read_json(place / "figures.json"), "overlap": compatibility(pair)[0].model_dump()}
            done.append(one)
            told = f"{one['sum']['harmonic']:.3f} -> {one['chosen']['harmonic']:.3f}"
            print(f"{place.name:24} {told}  {one['way']}  (score {one['overlap']['score']})", flush=True)
    keep(done, work)


def keep(done: Sequence[Mapping[str, Any]], work: Studio) -> None:
    """Record the means and every pair; leaves with 1 when the chosen mix is worse than the plain sum."""
    means = {
        kind: {key: round(statistics.fmean(one[kind][key] for one in done), 4) for key in done[0][kind]}
        for kind in ("sum", "chosen")
    }
    changed = [one for one in done if one["way"] != PLAIN_SUM]
    gains = [one["chosen"]["harmonic"] - one["sum"]["harmonic"] for one in changed]
    scores = [one["overlap"]["score"] for one in done]
    held = means["chosen"]["harmonic"] >= means["sum"]["harmonic"]
    record(
        "mix_pairs",
        {
            "pairs": len(done),
            "means": means,
            "changed": len(changed),
            "better": sum(gain > 0 for gain in gains),
            "worse": sum(gain < 0 for gain in gains),
            "mean_gain_where_changed": round(statistics.fmean(gains), 4) if gains else 0.0,
            "ways": dict(Counter(one["way"] for one in done)),
            "score_and_harmonic_of_the_sum": round(
                float(np.corrcoef(scores, [one["sum"]["harmonic"] for one in done])[0, 1]), 3
            ),
            "judge_accuracy": round(work.judge.accuracy, 4),
            "targets": {"chosen harmonic": ">= sum"},
            "held": held,
            "each": done,
        },
    )
    raise SystemExit(0 if held else 1)


class Studio:
    """What all pairs share: base, judges, and the pictures of each kit alone."""

    def __init__(self, folder: Path, probe: Probe) -> None:
        self.folder, self.probe, self.judge = folder, probe, train_judge(probe)
        self.base = load_base("mini")
        self.judges = Judges.open(self.base)
        self._alone: dict[tuple[str, str], NDArray[np.uint8]] = {}

    def alone(self, pair: tuple[Ingredient, Ingredient], asked: Asked) -> dict[str, NDArray[np.uint8]]:
        """The pictures of each kit alone, drawn once for all pairs that ask the same."""
        found = {}
        for name, use in zip(("identity", "style"), pair, strict=True):
            shots = [getattr(question, name) for question in asked.questions]
            key = (use.kit.id, shots[0].prompt)
            if key not in self._alone:
                self._alone[key] = draw_mix(self.base, Mix(ingredients=(use,)), shots, asked.manner)
            found[name] = self._alone[key]
        return found


def one_pair(
    work: Studio, pair: tuple[Ingredient, Ingredient], number: int, look: str, place: Path
) -> dict[str, Any]:
    """Choose for one pair, then read the plain sum and what was chosen from pictures that chose nothing."""
    who, (identity, style) = unseen_character(number), pair
    asked = ask(identity, style, work.base, noun=who.kind)
    drawn = draw_ways(work.base, pair, asked, reporter=SilentReporter(), known=work.alone(pair, asked))
    choice = choose_mix(work.base, pair, asked, drawn, judges=work.judges)
    sums, chosen = ways(*pair)[PLAIN_SUM], ways(*pair)[choice.chosen]
    shots = [
        one.both for one in questions(identity.kit, style.kit, noun=who.kind, drawn=True, seeds=2, seed=8)
    ]
    manner = Manner(steps=16, guidance=work.base.guidance)
    pictures = {"sum": draw_mix(work.base, sums, shots, manner)}
    pictures["chosen"] = draw_mix(work.base, chosen, shots, manner) if chosen != sums else pictures["sum"]
    place.mkdir(parents=True, exist_ok=True)
    sheet(list(drawn.values())).save(place / "ways.png")
    sheet([pictures["sum"][:8], pictures["chosen"][:8]]).save(place / "held_out.png")
    marks = readable(work.probe, who, look)
    return {
        "identity": identity.kit.id,
        "style": style.kit.id,
        "way": choice.chosen,
        "reason": choice.reason,
        "tried": {one.name: {**one.marks.model_dump(), "better": one.better} for one in choice.tried},
        "marks": marks,
        "weights": [use.weight for use in pair],
        **{name: read_pictures(work, rows, shots, marks, look) for name, rows in pictures.items()},
    }


def readable(probe: Probe, who: Character, look: str) -> dict[str, Any]:
    """The permanent marks that the probe reads from most true drawings of `who` in `look`."""
    seen = read(probe, to_tensor(drawn_truth(who, look, 16, seed="ceiling")))
    found = {
        name: value
        for name, value in marks_of(who).items()
        if statistics.fmean(reading[name] == value for reading in seen) >= READABLE
    }
    if "dots" not in found:
        found.pop("dot_colour", None)
    places = [palette.SCENES[index // len(palette.MOODS) % len(palette.SCENES)] for index in range(16)]
    right = [reading["background"] == place for reading, place in zip(seen, places, strict=True)]
    return {"identity": found, "background": statistics.fmean(right) >= READABLE}


def read_pictures(
    work: Studio, pictures: NDArray[np.uint8], shots: Sequence[Shot], marks: Mapping[str, Any], look: str
) -> dict[str, float]:
    """Identity, style and prompt as shares of what could be read, and their harmonic mean."""
    seen = read(work.probe, to_tensor(pictures))
    own = [reading[name] == value for reading in seen for name, value in marks["identity"].items()]
    told = [reading["mood"] == shot.ask.mood for reading, shot in zip(seen, shots, strict=True) if shot.ask]
    if marks["background"]:
        told += [
            reading["background"] == shot.ask.background
            for reading, shot in zip(seen, shots, strict=True)
            if shot.ask
        ]
    parts = [
        statistics.fmean(own) if own else 1.0,
        float(recognised(work.judge, pictures, look).mean()),
        statistics.fmean(told),
    ]
    both = statistics.harmonic_mean(parts)
    names = ("identity", "style", "prompt", "harmonic")
    return {name: round(value, 4) for name, value in zip(names, (*parts, both), strict=True)}


def _ingredient(talents: Path, talent_id: str) -> Ingredient:
    kit = load_kit(talents, talent_id)
    return Ingredient(kit=kit, weight=kit.manifest.default_weight)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--characters", type=int, default=10)
    parser.add_argument("--styles", type=int, default=len(LOOKS))
    parser.add_argument("--steps", type=int, default=300, help="of an identity's training")
    parser.add_argument("--folder", type=Path, default=Path("bench/mix_pairs"))
    parser.add_argument("--identities", type=Path, nargs="*", default=[])
    parser.add_argument("--train-only", action="store_true")
    return parser.parse_args()


def style_kit(look: str, talents: Path, folder: Path) -> str:
    """The id of a look's kit, trained and packed when it is not there."""
    talent_id = f"avatar.style.{token(look)}"
    if (talents / talent_id).is_dir():
        return talent_id
    place = folder / look
    data = place / "dataset"
    if not data.is_dir():
        make_style_dataset(data, look)
    work = _work(data, place / "run", steps=STYLE_STEPS, rank=16)
    extra = {"id": talent_id, "token": token(look), "targets": "transformer+conv"}
    if not (work.out / LORA_FILE).is_file():
        run_one("ours", work, 1, extra)
    _pack(talent_id, work.out / LORA_FILE, talents, rank=16, token=token(look), weight=1.0)
    return talent_id


def identity_kit(number: int, talents: Path, options: argparse.Namespace) -> str:
    """The id of a character's kit, from a finished run of `choice.py` or trained as there."""
    who = unseen_character(number)
    word = f"bench_{'abcdefghijklmnopqrstuvwxyz'[number % 26]}{number}"
    talent_id = f"avatar.identity.{word}"
    if (talents / talent_id).is_dir():
        return talent_id
    name = f"character_{number}_{options.steps}"
    run = _finished([*(place / name / "ours" / "run" for place in options.identities)])
    if run is None:
        run = options.folder / name / "run"
        data = options.folder / name / "dataset"
        if not data.is_dir():
            make_dataset(data, who, token=word, number=number)
        extra = {
            "id": talent_id,
            "token": word,
            "class_noun": who.kind,
            "prior_weight": 0.2,
            "targets": "transformer+conv",
            "captions": {"dropout": 0.05},
            "checkpoint_every": options.steps,
            "validation": {"share": 0.125},
            "choose": {"measure": True},
        }
        run_one("ours", _work(data, run, steps=options.steps, rank=16), 1, extra)
    choice = read_choice(run)
    assert choice is not None
    file = candidate_path(run, choice.measured_step)
    _pack(talent_id, file, talents, rank=16, token=word, weight=choice.default_weight)
    return talent_id


def _finished(places: Sequence[Path]) -> Path | None:
    """The first run that was trained and measured to its end."""
    return next((run for run in places if (run / "choice.json").is_file()), None)


def _work(data: Path, out: Path, *, steps: int, rank: int) -> Work:
    out.parent.mkdir(parents=True, exist_ok=True)
    return Work(
        base=MINI,
        dataset=data,
        out=out,
        resolution=SIDE,
        rank=rank,
        alpha=float(rank),
        steps=steps,
        batch=4,
        learning_rate=RATE,
        precision="fp32",
    )


def _pack(talent_id: str, lora: Path, talents: Path, *, rank: int, token: str, weight: float) -> None:
    spec = KitSpec(
        id=talent_id,
        base_model="mini",
        rank=rank,
        alpha=float(rank),
        created_at=CREATED,
        token=token,
        prompts=PromptSet(positive_prompts=(f"flat portrait of a {token}",)),
        default_weight=weight,
    )
    pack_kit(spec, lora=lora, examples=(), root=talents)


if __name__ == "__main__":
    main()
