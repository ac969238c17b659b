"""Measure the validator and the index over 1,000 kits: `python benchmarks/kits_index.py [--kits N]`.

Both commands run as users run them, each in a fresh process, and each opens every file of every kit. The kits
are distinct: full LoRAs of rank 8 for the embedded base and three examples each.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from record import record

from talent_factory.kits.keys import ModuleShape, expected_modules
from talent_factory.kits.lora_file import lora_bytes
from talent_factory.kits.manifest import PromptSet
from talent_factory.kits.pack import KitSpec, pack_kit

RANK = 8
# Looks, subjects, places and media that the kits speak of; their mixtures make some thousand descriptions.
WORDS = tuple(
    line.split()
    for line in (
        "cheerful gloomy ancient tiny gigantic elegant rusty glowing sleepy brave striped spotted",
        "knight robot wizard gardener pilot fox dragon sailor dancer baker owl astronaut",
        "harbour forest desert castle market volcano library mountain lagoon station",
        "watercolour charcoal gouache woodcut pastel pixels marker collage etching vector",
    )
)


def main() -> None:
    """Make the kits, time both commands, print and keep the figures."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--kits", type=int, default=1000)
    parser.add_argument("--folder", type=Path, help="keep the kits here and use them again")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = options.folder or Path(temporary)
        root = work / "talents" / "avatar"
        if not root.is_dir():
            make_kits(root, work, count=options.kits)
        size = next(root.iterdir()).joinpath("weights.safetensors").stat().st_size
        validator = timed("validator", root, "--json")
        index = timed("index_avatar_talents", root, "--output", str(work / "index.json"))
        listed = len(json.loads((work / "index.json").read_text()))
    if listed != options.kits:
        raise SystemExit(f"only {listed} of {options.kits} kits are valid")
    figures = {
        "kits": options.kits,
        "rank": RANK,
        "modules": len(trained()),
        "weights_kib": round(size / 1024),
        "wall_seconds": {
            "validator": validator[0],
            "index": index[0],
            "both": round(validator[0] + index[0], 2),
        },
        "cpu_seconds": {
            "validator": validator[1],
            "index": index[1],
            "both": round(validator[1] + index[1], 2),
        },
        "targets": {"wall_seconds.both": "< 5"},
    }
    record("kits_index", figures)


def make_kits(root: Path, work: Path, *, numbers: range) -> None:
    """Pack one distinct kit below `root` for each of `numbers`: own weights, own pictures, own words."""
    work.mkdir(parents=True, exist_ok=True)
    modules = trained()
    lora = work / f"lora{numbers.start}.safetensors"
    for number in numbers:
        rng = np.random.default_rng(number)
        images = [draw(work / f"{numbers.start}_{index}.png", 3 * number + index) for index in range(3)]
        tensors = {}
        for name, shape in modules.items():
            down, up = rng.uniform(-0.08, 0.08, shape.down(RANK)), rng.normal(0, 0.02, shape.up(RANK))
            tensors[f"{name}.lora_down.weight"] = down.astype(np.float32)
            tensors[f"{name}.lora_up.weight"] = up.astype(np.float32)
            tensors[f"{name}.alpha"] = np.array(RANK, dtype=np.float32)
        lora.write_bytes(lora_bytes(tensors, precision="fp32", words={}))
        pack_kit(spec(number), lora=lora, examples=images, root=root)


def trained() -> dict[str, ModuleShape]:
    """Return what a training adapts by default, the text encoder included."""
    modules = expected_modules("mini")
    return {name: shape for name, shape in modules.items() if "_attentions_" in name or "_te_" in name}


def spec(number: int) -> KitSpec:
    """Return what kit `number` says about itself; every third one is a style."""
    rng = np.random.default_rng((7, number))
    look, who, place, medium = (str(rng.choice(words)) for words in WORDS)
    style = number % 3 == 2
    token = f"{who}_{number}" if not style else f"{medium}_{number}"
    return KitSpec(
        id=f"avatar.{'style' if style else 'identity'}.{token}",
        token=token,
        base_model="mini",
        rank=RANK,
        alpha=RANK,
        created_at=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=number),
        description=f"A {look} {who} of the {place}, drawn in {medium}",
        tags=(look, medium),
        prompts=PromptSet(
            positive_prompts=(
                f"portrait of {token} {who}, white background",
                f"{token} {who} in the {place}, {look}, {medium}",
            )
        ),
        training_config={"resolution": 128, "max_train_steps": 600, "learning_rate": 1e-3, "batch_size": 4},
    )


def draw(path: Path, number: int) -> Path:
    """Draw a face of 128 pixels, about what the embedded base renders."""
    image = Image.new("RGB", (128, 128), (210, 180 + 20 * (number % 3), 160))
    pen = ImageDraw.Draw(image)
    pen.ellipse((30, 20, 98, 108), fill=(240, 200, 170), outline=(40, 30, 30), width=3)
    for x in (48, 80):
        pen.ellipse((x - 5, 52, x + 5, 62), fill=(30, 60, 120))
    pen.arc((48, 60, 80, 92), 20, 160, fill=(120, 30, 40), width=3)
    noise = np.random.default_rng(number).normal(0, 4, (128, 128, 3))
    Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8)).save(path)
    return path


def timed(module: str, root: Path, *arguments: str) -> tuple[float, float]:
    """Run one of the two commands in a fresh process; returns its wall and its processor time in seconds.

    The second is what counts when other programs hold the machine.
    """
    command = [sys.executable, "-m", f"talent_factory.image.{module}", "--base-dir", str(root), *arguments]
    before, started = os.times(), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - started, os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return round(wall, 2), round(used, 2)


if __name__ == "__main__":
    main()
