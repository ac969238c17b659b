"""Does the chosen checkpoint beat the last one, and the reference loop? `python benchmarks/choice.py`.

For each of ten drawn characters that the embedded base has never seen (marks and all), LoRAs of the same 24
pictures and the same number of steps: the checkpoint that our trainer chooses by its measures, at the
strength that it recommends and at 1; its last checkpoint, also at both; and what the reference loop of
`reference_loop.py` ends with. Each draws the same prompts and seeds, none of which chose anything, and the
attribute probe reads marks and obedience; the figure is their harmonic mean. Characters are done one by one,
and what is done in `--folder` is not done again.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from record import record
from reference_loop import Work
from safetensors.torch import load_file
from train_speed import MINI, run_one

from talent_factory.core.files import read_json, sha256_bytes, sha256_file, write_json
from talent_factory.core.records import write_record
from talent_factory.core.seeds import derive_seed
from talent_factory.dataset.manifest import DATASET_FILE, IMAGES, DatasetManifest, Item
from talent_factory.training.families import Base, load_base
from talent_factory.training.likeness.book import candidate_path, read_choice
from talent_factory.training.likeness.drawn import asks, likeness, marks_of
from talent_factory.training.likeness.scoring import harmonic
from talent_factory.training.lora import merge_into
from talent_factory.training.mini.reader import load_probe
from talent_factory.training.sampler import sample
from talent_factory.world import Character, palette
from talent_factory.world.character import phrases, sample_character
from talent_factory.world.draw import draw_character

PICTURES = 24
SIDE = 128
RATE = 8e-4
KINDS = ("base", "reference", "last", "last_at_strength", "chosen_at_one", "chosen")


def main() -> None:
    """Train and read all characters, and keep the means."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--characters", type=int, default=10)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--checkpoints", type=int, default=6)
    parser.add_argument("--renders", type=int, default=48)
    parser.add_argument("--folder", type=Path, default=Path("bench/choice"))
    options = parser.parse_args()
    done = []
    for number in range(options.characters):
        place = options.folder / f"character_{number}_{options.steps}"
        if not (place / "figures.json").is_file():
            write_json(place / "figures.json", one_character(number, place, options))
        done.append(read_json(place / "figures.json"))
        told = {name: round(done[-1][name]["harmonic"], 3) for name in KINDS}
        one = done[-1]
        print(f"character {number}: {told}, step {one['chosen_step']} at {one['strength']}", flush=True)
    means = {
        name: {key: round(statistics.fmean(one[name][key] for one in done), 4) for key in done[0][name]}
        for name in KINDS
    }
    held = means["chosen"]["harmonic"] >= max(means["last"]["harmonic"], means["reference"]["harmonic"])
    record(
        "choice",
        {
            "characters": len(done),
            "steps": options.steps,
            "renders_each": options.renders,
            "means": means,
            "chosen_steps": [one["chosen_step"] for one in done],
            "strengths": [one["strength"] for one in done],
            "targets": {"chosen harmonic": ">= last and >= reference"},
            "held": held,
            "each": done,
        },
    )
    raise SystemExit(0 if held else 1)


def one_character(number: int, place: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Three LoRAs of one character, and what is read from their pictures."""
    who = unseen_character(number)
    token = f"bench_{'abcdefghijklmnopqrstuvwxyz'[number % 26]}{number}"
    shutil.rmtree(place, ignore_errors=True)
    data = make_dataset(place / "dataset", who, token=token, number=number)
    work = Work(
        base=MINI,
        dataset=data,
        out=place / "ours" / "run",
        resolution=SIDE,
        steps=options.steps,
        batch=4,
        learning_rate=RATE,
        precision="fp32",
    )
    extra = {
        "id": f"avatar.identity.{token}",
        "token": token,
        "class_noun": who.kind,
        "prior_weight": 0.2,
        "targets": "transformer+conv",
        "captions": {"dropout": 0.05},
        "checkpoint_every": max(1, options.steps // options.checkpoints),
        "keep_checkpoints": options.checkpoints + 1,
        "validation": {"share": 0.125},
        "choose": {"measure": True},
    }
    for trainer, out in (("ours", work.out), ("reference-cached", place / "reference" / "run")):
        out.parent.mkdir(parents=True)
        run_one(trainer, replace(work, out=out), 1, extra if trainer == "ours" else {})
    choice = read_choice(work.out)
    if choice is None:
        raise SystemExit(f"{work.out} was not measured")
    last, chosen = candidate_path(work.out, choice.last_step), candidate_path(work.out, choice.measured_step)
    strength = choice.default_weight
    files = {
        "base": (None, 1.0),
        "reference": (next((place / "reference" / "run").glob("*.safetensors")), 1.0),
        "last": (last, 1.0),
        "last_at_strength": (last, strength),
        "chosen_at_one": (chosen, 1.0),
        "chosen": (chosen, strength),
    }
    read: dict[tuple[Path | None, float], dict[str, float]] = {}
    for file, weight in dict.fromkeys(files.values()):
        read[file, weight] = read_lora(file, who, token=token, renders=options.renders, weight=weight)
    reported = None if choice.report is None else choice.report.model_dump(mode="json")
    return {
        **{name: read[key] for name, key in files.items()},
        "chosen_step": choice.measured_step,
        "strength": strength,
        "marks": marks_of(who),
        "own_report": reported,
    }


def read_lora(
    file: Path | None, who: Character, *, token: str, renders: int, weight: float = 1.0
) -> dict[str, float]:
    """Draw with a LoRA (None: the base) at a strength and let the probe read marks and obedience."""
    base = load_base("mini")
    if file is not None:
        merge(base, file, weight)
    asked = asks(renders, seed=77)
    prompts = [ask.prompt(f"a {token} {who.kind}") for ask in asked]
    seeds = list(range(31_000, 31_000 + renders))
    pictures = sample(base, prompts=prompts, seeds=seeds, steps=16, guidance=base.guidance, batch=16)
    found = likeness(load_probe(), pictures, asked, marks=marks_of(who))
    return {
        "marks": round(found.marks, 4),
        "obeyed": round(found.obeyed, 4),
        "harmonic": round(harmonic(found.marks, found.obeyed), 4),
    }


def merge(base: Base, file: Path, strength: float) -> None:
    """Add a LoRA file in our form or in diffusers' into the UNet's weights."""
    tensors = load_file(file)
    if not any(name.startswith("unet.") for name in tensors):
        merge_into(base.unet, tensors, strength)
        return
    for name, down in tensors.items():
        path, found, _ = name.removeprefix("unet.").partition(".lora_A.")
        if found:
            up = tensors[name.replace(".lora_A.", ".lora_B.")]
            weight = base.unet.get_submodule(path).weight
            # rank and alpha are equal in the reference, so the scale is 1
            weight.data += (up.flatten(1).float() @ down.flatten(1).float()).view(weight.shape)


def unseen_character(number: int) -> Character:
    """A character with hair and at least one permanent mark, a function of `number` alone."""
    rng = np.random.default_rng(derive_seed("choice", "character", number))
    while True:
        who = replace(sample_character(rng, unseen=True), framing="portrait", accessory="none", medium="flat")
        marked = who.signature.dot or who.signature.second_hair
        if marked and who.hair not in ("none", "bald") and who.kind in ("man", "woman"):
            return who


def make_dataset(folder: Path, who: Character, *, token: str, number: int) -> Path:
    """Pictures of `who` in changing moods, places, shirts and media; captions say only what changes."""
    (folder / IMAGES).mkdir(parents=True)
    items = []
    for index in range(PICTURES):
        rng = np.random.default_rng(derive_seed("choice", "picture", number, index))
        varied = sample_character(rng)
        one = replace(
            who,
            medium=palette.MEDIA[index % len(palette.MEDIA)],
            mood=palette.MOODS[index % len(palette.MOODS)],
            background=varied.background,
            shirt=varied.shirt,
        )
        said = [part for part in phrases(one) if part.endswith(("background", "shirt")) or part == one.mood]
        path = folder / IMAGES / f"{index:02d}.png"
        Image.fromarray(draw_character(one, rng, size=SIDE)).save(path)
        items.append(
            Item(
                file=f"{IMAGES}/{path.name}",
                sha256=sha256_file(path),
                caption=", ".join([f"{one.medium} portrait of a {token} {one.kind}", *said]),
                width=SIDE,
                height=SIDE,
                source="drawn world",
            )
        )
    manifest = DatasetManifest(
        kind="identity",
        token=token,
        class_noun=who.kind,
        resolution=SIDE,
        mode="crop",
        source_key=sha256_bytes(f"choice {number}".encode()),
        items=tuple(items),
    )
    write_record(folder / DATASET_FILE, manifest)
    return folder


if __name__ == "__main__":
    main()
