"""`python -m talent_factory.image.validator`: validate one Talent Kit or all of a folder."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from talent_factory.cli.common import run_guarded
from talent_factory.cli.kit import validate_folder


def main(argv: Sequence[str] | None = None) -> int:
    """Validate as `argv` asks; 0 when every kit is valid, 1 when one is not."""
    parser = argparse.ArgumentParser(prog="talent_factory.image.validator", description=main.__doc__)
    parser.add_argument("--talent-id", metavar="ID", help="validate this kit only")
    parser.add_argument("--verbose", action="store_true", help="show remedies and warnings too")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument(
        "--base-dir", metavar="DIR", type=Path, default=Path("talents/avatar"), help="folder of kits"
    )
    options = parser.parse_args(argv)
    valid = validate_folder(
        options.base_dir, talent_id=options.talent_id, verbose=options.verbose, as_json=options.json
    )
    return 0 if valid else 1


if __name__ == "__main__":
    with run_guarded():
        raise SystemExit(main())
