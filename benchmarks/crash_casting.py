"""Kills and broken connections, and what they cost: `python benchmarks/crash_casting.py --injections 1000`.

Sets of images are cast against a Replicate-shaped server in its own process, a hundred times as fast as real.
The caster is killed (SIGKILL) at random moments, and connections are reset before and after a submission was
accepted, until enough of both have happened. Counted at the server: images paid twice, paid images that the
cast does not hold, sets that are not complete.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from record import record

from talent_factory.core.errors import TalentError
from talent_factory.core.events import SilentReporter
from talent_factory.datagen.actor import CastOptions, cast_actor
from talent_factory.datagen.cast import load_cast
from talent_factory.datagen.ledger import LEDGER_FILE, Ledger
from talent_factory.providers.replicate import ReplicateEditor

ROOT = Path(__file__).resolve().parent.parent
PORTRAIT = ROOT / "src/talent_factory/assets/portraits/dot_kairo.png"
TOKEN = "r8_loopback_token_0123456789"
SCALE = 0.01
RESETS = ("reset-before", "reset-after")
PATIENCE = 40


def main() -> None:
    """Cast set after set until there were enough injections, and keep the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--injections", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=8, help="at most so many in one set")
    parser.add_argument("--rate", type=float, default=0.08, help="of each kind of reset, by submission")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    dice = random.Random(options.seed)
    total: Counter[str] = Counter()
    started = time.monotonic()
    while sum(total[kind] for kind in ("kills", *RESETS)) < options.injections:
        folder = Path(tempfile.mkdtemp(prefix="crash-casting-"))
        with server(folder / "journal", options.rate, seed=dice.randrange(2**31)) as url:
            kills = cast_with_kills(folder / "cast", url, dice, most=options.kills)
        found = audit(folder)
        total += Counter({"sets": 1}) + kills + found
        spoiled = sum(found[kind] for kind in ("paid_twice", "paid_and_lost", "incomplete_sets"))
        print(json.dumps(total), f"{time.monotonic() - started:.0f} s", flush=True)
        if spoiled:
            print(f"kept for a look: {folder}", flush=True)
        else:
            shutil.rmtree(folder)
    names = ("paid_twice", "paid_and_lost", "incomplete_sets", "wrong_sums")
    figures = {**total, **{name: total[name] for name in names}}
    record("crash_casting", {**figures, "seconds": round(time.monotonic() - started), "target": 0})


def cast_with_kills(out: Path, url: str, dice: random.Random, *, most: int) -> Counter[str]:
    """Run and kill the caster until `most` kills, then run it to its end.

    Returns how often it was killed, and how often with paid work under way.
    """
    kills: Counter[str] = Counter()
    while kills["kills"] < most:
        child = fork(lambda: cast(out, url))
        # a whole run takes a second or two; what lies before the first submission is worth less kills
        time.sleep(dice.uniform(0.05, 1.2))
        ended, _ = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        kills["kills"] += 1
        kills["kills_with_work_under_way"] += under_way(out)
    for _ in range(PATIENCE):
        os.waitpid(fork(lambda: cast(out, url)), 0)
        if (out / "cast.json").is_file() and len(load_cast(out).done) == load_cast(out).target:
            break
    return kills


def under_way(out: Path) -> bool:
    """Whether the ledger knows of work that is asked for and not yet home."""
    if not (out / LEDGER_FILE).is_file():
        return False
    ledger = Ledger(out / LEDGER_FILE, provider="replicate", remote=True)
    live = ledger.all_live()
    ledger.close()
    return bool(live)


def cast(out: Path, url: str) -> None:
    """One run of the caster."""
    options = CastOptions(long_side=128, in_flight=8, time_scale=SCALE)
    cast_actor(
        PORTRAIT,
        out=out,
        token="bench",
        options=options,
        editor=ReplicateEditor(token=TOKEN, base_url=url, upload=True),
        reporter=SilentReporter(),
    )


def fork(work: Callable[[], None]) -> int:
    """The id of a forked process that does `work`: forks skip the seconds of imports."""
    child = os.fork()
    if child:
        return child
    try:
        work()
    except TalentError as error:
        print(f"  ended early: {error.message[:150]}", file=sys.stderr, flush=True)
    finally:
        os._exit(0)


def audit(folder: Path) -> Counter[str]:
    """Compare what the server was paid for with what the cast holds."""
    journal = [json.loads(line) for line in (folder / "journal").read_text("utf-8").splitlines()]
    accepted = [line for line in journal if line["event"] == "accepted" and line["fate"] == "succeeded"]
    found = Counter(line["fault"] for line in journal if line["event"] == "refused")
    found["reset-after"] = sum(line["event"] == "cut" for line in journal)
    made = load_cast(folder / "cast")
    held = {slot.seed for slot in made.done if (folder / "cast" / slot.file).is_file()}
    paid = Counter(line["prompt"] for line in accepted)
    found["images"] = len(held)
    found["paid"] = len(accepted)
    found["paid_twice"] = sum(count - 1 for count in paid.values())
    found["paid_and_lost"] = sum(line["seed"] not in held for line in accepted)
    found["incomplete_sets"] = int(len(made.done) != made.target)
    ledger = Ledger(folder / "cast" / LEDGER_FILE, provider="replicate", remote=True)
    found["wrong_sums"] = int(ledger.spent() != 40_000 * len(accepted) or bool(ledger.all_live()))
    ledger.close()
    return +found


@contextmanager
def server(journal: Path, rate: float, *, seed: int) -> Iterator[str]:
    """The loopback server in a process of its own, which outlives every kill of the caster."""
    script = [sys.executable, str(ROOT / "tests/servers/replicate.py"), "--journal", str(journal)]
    script += ["--time-scale", str(SCALE), "--long-side", "128", "--seed", str(seed)]
    for kind in RESETS:
        script += ["--rate", f"submit:{kind}={rate}"]
    process = subprocess.Popen(script, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
