"""Read kits for another process: folder names come in as JSON lines, readings go out as JSON lines."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from talent_factory.kits.catalog.reading import read_kit


def main() -> None:
    """Answer each line, a list of folders, by a line with as many readings; end with the input."""
    for line in sys.stdin:
        readings = [read_kit(Path(folder)).model_dump(mode="json") for folder in json.loads(line)]
        sys.stdout.write(json.dumps(readings) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
