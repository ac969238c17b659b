"""Make endless hostile headers, LoRA files, archives and pictures, each from its number alone.

As a program it offers them, and the whole corpus of hostile things by name, to the code that takes kits in,
in a process whose memory and time are bounded, and prints what came of it as JSON:
`python tests/fuzzing.py --count 1000`.
"""

from __future__ import annotations

import argparse
import functools
import io
import json
import random
import resource
import shutil
import signal
import struct
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import hostile_archives
import hostile_images
import hostile_loras
from hostile_kits import HOSTILE
from kit_maker import make_base, make_kit, raw_file, raw_tensors
from talent_factory.kits.images import image_problem, tells_place
from talent_factory.kits.intake.bring import bring
from talent_factory.kits.intake.outcome import Order
from talent_factory.kits.lora_file import lora_bytes
from talent_factory.kits.validate import validate_kit


class Item(NamedTuple):
    """One file to offer; `kind` says which generator made it."""

    kind: str
    name: str
    data: bytes


def fuzzed(number: int, *, seed: int = 0) -> Item:
    """Item `number`; equal numbers and seeds give equal bytes."""
    draw = random.Random(seed * 1_000_003 + number)
    kind, make = _MAKERS[number % len(_MAKERS)]
    name, data = make(draw)
    return Item(kind, name, data)


def _splice(draw: random.Random, data: bytes) -> bytes:
    """Damage bytes as disks, networks and people do: flip, cut, double, swap, overwrite with odd numbers."""
    raw = bytearray(data)
    for _ in range(draw.randint(1, 8)):
        if not raw:
            break
        place = draw.randrange(len(raw))
        length = min(draw.choice((1, 1, 2, 4, 8, 64, 1024)), len(raw) - place)
        deed = draw.randrange(6)
        if deed == 0:
            raw[place] ^= 1 << draw.randrange(8)
        elif deed == 1:
            del raw[place : place + length]
        elif deed == 2:
            raw[place:place] = raw[place : place + length]
        elif deed == 3:
            raw[place : place + length] = draw.randbytes(length)
        elif deed == 4:
            odd = draw.choice((0, 1, 0x7F, 0xFF, 0x80, 0x7FFF, 0xFFFFFFFF, 0x7FFFFFFF, 2**63, 2**64 - 1))
            packed = struct.pack("<Q", odd)[: max(1, length)]
            raw[place : place + len(packed)] = packed
        else:
            del raw[place:]
    return bytes(raw)


@functools.cache
def _good_loras() -> tuple[bytes, ...]:
    small = hostile_loras.small()
    return (
        raw_tensors(small),
        lora_bytes(
            small, precision="fp16", words={"ss_tag_frequency": '{"1_a": {"b": 3}}', "modelspec.title": "x"}
        ),
        raw_tensors(hostile_loras.small("sdxl"), dtype="BF16"),
    )


@functools.cache
def _good_archives() -> tuple[tuple[str, bytes], ...]:
    entries = {**hostile_archives.GOOD, "kit/examples/01.png": hostile_images.picture("PNG")}
    return (
        ("a.zip", hostile_archives.zip_bytes(entries)),
        ("a.tar.gz", hostile_archives.tar_bytes(entries)),
        ("a.tar", hostile_archives.tar_bytes(entries, packed=False)),
        ("a.tar", hostile_archives.tar_bytes({"k" * 180 + "/x.txt": b"1" * 700}, packed=False)),
        ("a.zip", hostile_archives.overlapping(3, 1000)),
    )


@functools.cache
def _good_pictures() -> tuple[bytes, ...]:
    return (
        hostile_images.picture("PNG"),
        hostile_images.picture("JPEG"),
        hostile_images.picture("JPEG", progressive=True),
        hostile_images.picture("WEBP"),
        hostile_images.picture("WEBP", lossless=True),
        hostile_images.place(),
        hostile_images.png(24, 24, extra=hostile_images.png_chunk(b"tEXt", b"parameters\0hello")),
    )


def _damaged_lora(draw: random.Random) -> tuple[str, bytes]:
    return "a.safetensors", _splice(draw, draw.choice(_good_loras()))


def _damaged_header(draw: random.Random) -> tuple[str, bytes]:
    """Damage inside the header alone, whose stated length is mended, so that the parser sees it."""
    raw = draw.choice(_good_loras())
    length = int.from_bytes(raw[:8], "little")
    return "a.safetensors", raw_file(_splice(draw, raw[8 : 8 + length]), raw[8 + length :])


def _written_header(draw: random.Random) -> tuple[str, bytes]:
    """A header of right and wrong values in the right places."""
    odd: Sequence[Any] = (
        -1,
        0,
        1,
        2,
        3,
        2**31,
        2**63,
        2**64,
        1.5,
        True,
        None,
        "",
        "F32",
        [],
        {},
        [[]],
        {"a": 1},
        "\ud800",
    )
    names = (
        "__metadata__",
        "",
        "a",
        "a.alpha",
        hostile_loras.Q + ".lora_up.weight",
        "x" * 3000,
        "\u202e",
        "..",
        "a\0b",
    )
    position, document = 0, {}
    for _ in range(draw.randint(0, 12)):
        name = draw.choice(names) + draw.choice(("", "1", "2", ".lora_down.weight"))
        shape: Any = [draw.choice((1, 2, 4, 320)) for _ in range(draw.randint(0, 3))]
        size = 4
        for side in shape:
            size *= side
        entry: Any = {"dtype": "F32", "shape": shape, "data_offsets": [position, position + size]}
        position += size
        if draw.random() < 0.3:
            entry[draw.choice(("dtype", "shape", "data_offsets", "more"))] = draw.choice(odd)
        if draw.random() < 0.1:
            entry = draw.choice(odd)
        document[name] = entry
    text = json.dumps(document)
    if draw.random() < 0.2:
        text = text.replace('"a1"', '"a2"')
    return "a.safetensors", raw_file(text.encode(), draw.randbytes(min(position, 4000)))


def _damaged_archive(draw: random.Random) -> tuple[str, bytes]:
    name, data = draw.choice(_good_archives())
    return name, _splice(draw, data)


def _written_archive(draw: random.Random) -> tuple[str, bytes]:
    """Entries with odd names, kinds and sizes, packed as they should be."""
    parts = (
        "kit",
        "..",
        ".",
        "",
        "a",
        "A",
        "\u00e9",
        "e\u0301",
        "con",
        "x.txt",
        "x.TXT",
        "x.pt",
        "talent.json",
        "/",
        "\\",
        "~",
    )
    entries = {}
    for _ in range(draw.randint(1, 8)):
        name = "/".join(draw.choice(parts) for _ in range(draw.randint(1, 4)))
        entries[name or "x"] = draw.choice((b"", b"{}", draw.randbytes(300), bytes(5000)))
    if draw.random() < 0.5:
        return "a.zip", hostile_archives.zip_bytes(entries)
    kept = {name: data for name, data in entries.items() if name.strip("/.")}
    return "a.tar.gz", hostile_archives.tar_bytes(kept or {"x": b""}, packed=draw.random() < 0.5)


def _archive_of_damage(draw: random.Random) -> tuple[str, bytes]:
    """A sound archive whose files are damaged: it is unpacked, and then they are judged."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("x.safetensors", _damaged_lora(draw)[1])
        archive.writestr("x.json", _splice(draw, b'{"activation text": "a, b", "preferred weight": 0.5}'))
        archive.writestr("x.png", _splice(draw, draw.choice(_good_pictures())))
    return "a.zip", stream.getvalue()


def _damaged_picture(draw: random.Random) -> tuple[str, bytes]:
    return "a.png", _splice(draw, draw.choice(_good_pictures()))


_Maker = Callable[[random.Random], tuple[str, bytes]]
_MAKERS: tuple[tuple[str, _Maker], ...] = (
    ("damaged header", _damaged_header),
    ("damaged archive", _damaged_archive),
    ("written header", _written_header),
    ("written archive", _written_archive),
    ("damaged LoRA", _damaged_lora),
    ("archive of damage", _archive_of_damage),
    ("damaged picture", _damaged_picture),
    ("damaged archive", _damaged_archive),
)


def offer(item: Item, folder: Path) -> str:
    """Hand the item to the code that a user would hand it to; returns what it said, for counting.

    Anything but a report or a refusal is a fault of ours and comes out as the exception it is.
    """
    if item.kind == "damaged picture":
        problem = image_problem(item.data)
        tells_place(item.data)
        return "refused" if problem else "accepted"
    path = folder / item.name
    path.write_bytes(item.data)
    root = folder / "talents"
    taken = bring([path], Order(root=root))
    inside = {entry.name for entry in root.iterdir()} if root.exists() else set()
    held = {entry.id for entry in taken if entry.status == "imported"}
    if inside != held:
        raise AssertionError(f"{inside} are in the folder, {held} were reported")
    return "accepted" if held else taken[0].code


class Watch:
    """Keeps what items said, the slowest of them, and those that broke something."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.said: Counter[str] = Counter()
        self.slowest: tuple[float, str] = (0.0, "")
        self.broken: list[str] = []

    def see(self, name: str, deed: Callable[[], str], wanted: str | None = None) -> None:
        """Do it; `wanted` is what it must say."""
        signal.setitimer(signal.ITIMER_REAL, self.seconds)
        started = time.perf_counter()
        try:
            said = deed()
        except Exception:  # noqa: BLE001 - whatever gets through is what we look for
            said = "broken"
            self.broken.append(f"{name}: {traceback.format_exc(limit=-3)}")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        self.slowest = max(self.slowest, (time.perf_counter() - started, name))
        if wanted is not None and said != wanted and said != "broken":
            self.broken.append(f"{name}: {said}, not {wanted}")
        self.said[said] += 1


def offer_corpus(watch: Watch) -> None:
    """Offer each hostile thing that has a name; it must be refused by its code."""
    for kind, table in (("archive", hostile_archives.FILES), ("LoRA", hostile_loras.LORAS)):
        for case, (name, data, code) in table.items():
            with tempfile.TemporaryDirectory() as folder:
                item = Item(kind, name, data)
                watch.see(f"{kind}: {case}", functools.partial(offer, item, Path(folder)), code)
    for case, (data, _) in hostile_images.IMAGES.items():
        item = Item("damaged picture", "a.png", data)
        watch.see(f"picture: {case}", functools.partial(offer, item, Path()), "refused")
    with tempfile.TemporaryDirectory() as folder:
        base = make_base(Path(folder) / "base")
        good = make_kit(Path(folder) / "good", base, work=Path(folder) / "work")
        for number, (case, (spoil, code)) in enumerate(HOSTILE.items()):
            kit = Path(folder) / str(number) / good.name
            shutil.copytree(good, kit)
            spoil(kit, base)
            if case == "folder renamed":
                kit = kit.rename(kit.with_name("avatar.identity.other"))
            watch.see(f"kit: {case}", functools.partial(_judge, kit, base, code), code)
            shutil.rmtree(kit.parent)


def _judge(kit: Path, base: Path, code: str) -> str:
    report = validate_kit(kit, base_folder=base)
    errors = [finding.code for finding in report.errors]
    return code if code in errors else ", ".join(errors) or "accepted"


def main() -> None:
    """Offer items FIRST to FIRST + COUNT in this process, bounded, and print the figures."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--corpus", action="store_true", help="offer the corpus by name, too")
    parser.add_argument("--memory", type=int, default=512, help="MiB that may be allocated")
    parser.add_argument("--seconds", type=float, default=5.0, help="the most that one item may take")
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_DATA, (options.memory << 20, options.memory << 20))
    watch = Watch(options.seconds)

    def too_long(*_: object) -> None:
        raise TimeoutError(f"more than {options.seconds} s")

    signal.signal(signal.SIGALRM, too_long)
    if options.corpus:
        offer_corpus(watch)
    for number in range(options.first, options.first + options.count):
        item = fuzzed(number, seed=options.seed)
        with tempfile.TemporaryDirectory() as folder:
            watch.see(f"{item.kind} {number}", functools.partial(offer, item, Path(folder)))
    figures = {
        "items": sum(watch.said.values()),
        "said": dict(sorted(watch.said.items())),
        "slowest_seconds": round(watch.slowest[0], 3),
        "slowest": watch.slowest[1],
        "peak_mb": peak_mb(),
        "broken": watch.broken[:20],
    }
    print(json.dumps(figures))


def peak_mb() -> int:
    """The most memory that this process held, without what its parent held when it was started."""
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text("ascii").splitlines() if line.startswith("VmHWM"))
        return round(int(line.split()[1]) / 1024)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


if __name__ == "__main__":
    main()
