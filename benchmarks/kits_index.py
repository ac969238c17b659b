"""Measure the validator, the catalog and the search over 10,000 kits: `python benchmarks/kits_index.py`.

The commands run as users run them, each in a fresh process. The kits are distinct: full LoRAs of rank 8 for
the embedded base, three pictures of their own each, and words that mix some thousand descriptions. `cold`
opens every file of every kit, `warm` finds that nothing changed, `one_changed` reads one kit again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

import numpy as np
import psutil
from PIL import Image, ImageDraw
from record import record

from talent_factory.kits.catalog.catalog import Catalog
from talent_factory.kits.catalog.database import transaction
from talent_factory.kits.catalog.encoder import Pictures, Vectors
from talent_factory.kits.catalog.meaning import Meaning
from talent_factory.kits.catalog.vectors import key_of
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


QUERIES = (
    "dragon",
    "dragno",  # mistyped
    "gloomy dragon in the harbour charcoal",
    "portrait white background",  # what every kit says
    "owl_77",
    "volc",
    "nobody says this",
)
WIDTH = 512


def main() -> None:
    """Make the kits, time the commands and the search, print and keep the figures."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--kits", type=int, default=10_000)
    parser.add_argument("--folder", type=Path, help="keep the kits here and use them again")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = options.folder or Path(temporary)
        root = work / "talents" / "avatar"
        if not root.is_dir():
            make_all(root, work, count=options.kits)
        figures = measure(root, work, count=options.kits)
    record("kits_index", figures)


def measure(root: Path, work: Path, *, count: int) -> dict[str, object]:
    """Return all figures about the kits below `root`."""
    weights = next(root.iterdir()).joinpath("weights.safetensors").stat().st_size
    some = work / "tenth" / "talents" / "avatar"
    some.mkdir(parents=True, exist_ok=True)
    for kit in sorted(root.iterdir())[: count // 10]:
        if not (some / kit.name).exists():
            shutil.copytree(kit, some / kit.name)
    time.sleep(3)  # files that changed a moment ago are always read again
    runs = {"tenth": index_run(some, cold=True)}
    runs["cold"] = index_run(root, cold=True)
    runs["warm"] = index_run(root)
    first = sorted(root.iterdir())[0] / "LICENSE.txt"
    first.write_text(first.read_text())
    runs["one_changed"] = index_run(root)
    listed = len(json.loads((root.parents[1] / "index.json").read_text()))
    if listed != count:
        raise SystemExit(f"only {listed} of {count} kits are valid")
    return {
        "kits": count,
        "rank": RANK,
        "modules": len(trained()),
        "weights_kib": round(weights / 1024),
        **runs,
        "growth": round(runs["cold"]["cpu_s"] / runs["tenth"]["cpu_s"], 2),
        "search_ms": search_times(root),
        "meaning_ms": meaning_times(root),
        "targets": {
            "cold.wall_s": "<= 20",
            "warm.wall_s": "<= 1",
            "peak_mib": "<= 300",
            "growth": "about 10: ten times the kits",
            "search_ms": "<= 50",
        },
    }


def index_run(root: Path, *, cold: bool = False) -> dict[str, float]:
    """Write the index once in a fresh process: wall and processor seconds, and peak memory of all together.

    The processor's seconds are what counts when other programs hold the machine.
    """
    home = root.parents[1]
    if cold:
        shutil.rmtree(home / "cache", ignore_errors=True)
    command = [sys.executable, "-m", "talent_factory.image.index_avatar_talents"]
    arguments = ["--base-dir", str(root), "--output", str(home / "index.json")]
    before, started = os.times(), time.perf_counter()
    process = subprocess.Popen([*command, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        peak = max(peak, resident(process.pid))
        time.sleep(0.02)
    wall, after = time.perf_counter() - started, os.times()
    if process.returncode:
        raise SystemExit("the index failed")
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return {"wall_s": round(wall, 2), "cpu_s": round(used, 2), "peak_mib": round(peak / 2**20)}


def resident(pid: int) -> int:
    """Return the bytes that a process and its children hold now, what they share counted in each."""
    try:
        process = psutil.Process(pid)
        return sum(part.memory_info().rss for part in (process, *process.children(recursive=True)))
    except psutil.Error:
        return 0


def search_times(root: Path) -> dict[str, float]:
    """Return the median milliseconds of each query, and of the first one on a catalog just opened."""
    with Catalog(root) as catalog:
        catalog.update()
        times = {"first": once(lambda: catalog.search(QUERIES[2]))}
        for query in QUERIES:
            times[query] = median(once(lambda: catalog.search(query)) for _ in range(9))  # noqa: B023
    return times


def meaning_times(root: Path) -> dict[str, float]:
    """Return milliseconds of search by meaning over random vectors as wide as CLIP's, five a kit."""
    with Catalog(root) as catalog:
        catalog.update()
        eye = RandomEncoder()
        numbers = [number for (number,) in catalog.connection().execute("SELECT number FROM kits")]
        sources = ("texts:about", "texts:captions", *(f"pictures:{index}" for index in (1, 2, 3)))
        with transaction(catalog.connection()):
            for number in numbers:
                rows = eye.rows(number, len(sources)).astype("<f4")
                catalog.connection().executemany(
                    "INSERT OR REPLACE INTO vectors VALUES (?, ?, ?, ?, ?)",
                    [
                        (number, key_of(eye), source, "", row.tobytes())
                        for source, row in zip(sources, rows, strict=True)
                    ],
                )
        changed = once(lambda: Meaning(catalog, eye).search(QUERIES[2]))
        meaning = Meaning(catalog, eye)
        first = once(lambda: meaning.search(QUERIES[2]))
        later = median(once(lambda: meaning.search(QUERIES[2])) for _ in range(9))
        catalog.connection().execute("DELETE FROM vectors")
    sizes = {"vectors": len(numbers) * len(sources), "width": WIDTH}
    # `after_change` lays the vectors out anew, which an update does before any search
    return {**sizes, "after_change": changed, "first": first, "later": later}


class RandomEncoder:
    """Directions without meaning: what comparing costs does not depend on what they say."""

    name, revision = "random", "1"

    def rows(self, seed: int, count: int) -> Vectors:
        """(count, WIDTH) of length 1."""
        found = np.random.default_rng(seed).normal(size=(count, WIDTH)).astype(np.float32)
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    def embed(self, pictures: Pictures) -> Vectors:
        """Random rows."""
        return self.rows(1, len(pictures))

    def texts(self, texts: Sequence[str]) -> Vectors:
        """Random rows."""
        return self.rows(2, len(texts))


def once(work: Callable[[], object]) -> float:
    """Return the milliseconds that one call takes."""
    started = time.perf_counter()
    work()
    return round((time.perf_counter() - started) * 1000, 1)


def make_all(root: Path, work: Path, *, count: int) -> None:
    """Pack `count` kits, some in each of as many processes as there are processors."""
    parts = os.cpu_count() or 1
    code = "import sys, kits_index as k; k.make_kits(k.Path(sys.argv[1]), k.Path(sys.argv[2]), numbers=range("
    code += "int(sys.argv[3]), int(sys.argv[4])))"
    edges = [count * part // parts for part in range(parts + 1)]
    makers = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(root), str(work), str(first), str(last)],
            cwd=Path(__file__).parent,
        )
        for first, last in itertools.pairwise(edges)
    ]
    codes = [maker.wait() for maker in makers]
    if any(codes):
        raise SystemExit("not all kits could be made")


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


if __name__ == "__main__":
    main()
