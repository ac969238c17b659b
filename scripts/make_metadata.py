"""Write the metadata.npz of a dataset of clips: the same as `talent lipsync metadata`, with its arguments.

python scripts/make_metadata.py --mode scan --input DATASET --output metadata.npz
python scripts/make_metadata.py --mode json --input clips.json --output metadata.npz
"""

from __future__ import annotations

import sys

from talent_factory.cli.app import main

if __name__ == "__main__":
    main(["lipsync", "metadata", *sys.argv[1:]])
