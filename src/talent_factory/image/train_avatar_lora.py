"""`python -m talent_factory.image.train_avatar_lora`: train a LoRA from a config and pack its Talent Kit."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from talent_factory.cli.common import reporter, run_guarded


def main(argv: Sequence[str] | None = None) -> int:
    """Train as the config says; the kit lands in talents/avatar/<talent_id>/."""
    parser = argparse.ArgumentParser(prog="talent_factory.image.train_avatar_lora", description=main.__doc__)
    parser.add_argument(
        "--config", metavar="FILE", type=Path, required=True, help="YAML as in configs/avatar/"
    )
    options = parser.parse_args(argv)
    # torch is needed from here on, not for --help
    from talent_factory.pipeline import train_kit

    with reporter() as listener:
        kit = train_kit(options.config, reporter=listener)
    print(kit)
    return 0


if __name__ == "__main__":
    with run_guarded():
        raise SystemExit(main())
