"""`python -m talent_factory.image.index_avatar_talents`: list the Talent Kits of a folder as a JSON array."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from talent_factory.cli.common import run_guarded
from talent_factory.cli.kit import index_folder


def main(argv: Sequence[str] | None = None) -> int:
    """Write the index as `argv` asks, to stdout when no file is named."""
    parser = argparse.ArgumentParser(
        prog="talent_factory.image.index_avatar_talents", description=main.__doc__
    )
    parser.add_argument("--output", metavar="FILE", type=Path, help="write to this file in one step")
    parser.add_argument("--pretty", action="store_true", help="indent the JSON")
    parser.add_argument("--include-invalid", action="store_true", help="list invalid kits too")
    parser.add_argument(
        "--base-dir", metavar="DIR", type=Path, default=Path("talents/avatar"), help="folder of kits"
    )
    options = parser.parse_args(argv)
    index_folder(
        options.base_dir,
        output=options.output,
        pretty=options.pretty,
        include_invalid=options.include_invalid,
    )
    return 0


if __name__ == "__main__":
    with run_guarded():
        raise SystemExit(main())
