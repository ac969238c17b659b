"""Killed trainings end in the same bytes: `python benchmarks/resume_kills.py [--kills 200]`.

The same proof as `talent selftest resume`: tiny trainings with accumulation, a moving average, aspect
buckets, low-rank layers of the text encoder, shuffled captions, preservation and validation. Leaves with
1 when one differs.
"""

from __future__ import annotations

import argparse

from record import record

from talent_factory.core.console import ConsoleReporter
from talent_factory.training.selftest import prove_resume


def main() -> None:
    """Kill, resume, compare, keep the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with ConsoleReporter() as reporter:
        proof = prove_resume(kills=options.kills, seed=options.seed, reporter=reporter)
    figures = proof.model_dump(mode="json", exclude={"details"})
    failed = [run.model_dump(mode="json") for run in proof.details if not run.identical]
    killed_at = sorted(step for run in proof.details for step in run.killed_at_steps)
    figures |= {
        "failed": failed,
        "kills_by_step": {step: killed_at.count(step) for step in sorted(set(killed_at))},
    }
    record("resume_kills", {**figures, "targets": {"identical": f"{options.kills} of {options.kills}"}})
    raise SystemExit(0 if proof.passed else 1)


if __name__ == "__main__":
    main()
