"""One picture in, square training images of many subjects in its style out, through the Python interface.

    python examples/style_from_picture.py                           # offline, free, the sample portrait
    python examples/style_from_picture.py painting.jpg --count 20
    REPLICATE_API_TOKEN=… python examples/style_from_picture.py painting.jpg --provider replicate

Offline the look of the picture is carried over to drawn subjects, which shows the way and tests a pipeline;
an image model paints new pictures. With OPENAI_API_KEY set, too, a model looks at the style and at every
tile, but only where --provider is one that works online.
"""

from __future__ import annotations

import argparse
import sys
from importlib.resources import as_file, files
from pathlib import Path

from talent_factory import TalentError
from talent_factory.datagen import TrainingDataGenerator


def main() -> int:
    parser = argparse.ArgumentParser(description="Cast a style from one picture.")
    parser.add_argument("picture", nargs="?", type=Path, help="a picture; default: the sample portrait")
    parser.add_argument("--provider", default="embedded", help="embedded (offline, free), replicate, fal, …")
    parser.add_argument("--count", type=int, default=20, help="images to keep")
    parser.add_argument("--mode", choices=["grid", "direct"], default="grid")
    parser.add_argument("--long-side", type=int, default=1600, help="pixels of a sheet of nine")
    parser.add_argument("--workspace", type=Path, default=Path("casting_example"))
    parser.add_argument("--budget", type=float, help="dollars that this style may cost in all")
    parser.add_argument("--store", help="s3, s3://BUCKET or a folder; default: WORKSPACE/user_files")
    args = parser.parse_args()

    generator = TrainingDataGenerator(
        debug_dir=args.workspace / "debug_style",
        provider=args.provider,
        workspace=args.workspace,
        store=args.store,
        mode=args.mode,
        long_side=args.long_side,
        budget_usd=args.budget,
    )
    generator.target_training_images = args.count
    sample = files("talent_factory") / "assets" / "portraits" / "dot_kairo.png"
    with as_file(sample) as default:
        result = generator.generate_training_data(args.picture or default, user_id="you", actor_id="my_style")

    for url in result["training_image_urls"]:
        print(url)
    print(f"{result['total_training_images']} of {result['target_training_images']} images", end=" ")
    print(f"from {result['total_grids_generated']} sheets by {result['provider']}", end=" ")
    print(f"for ${result['cost']:.2f}; look at {result['contact_sheet']}")
    for failure in result["failed"]:
        print(f"failed: {failure['slot']}: {failure['message']}")
    return 3 if result["failed"] else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except TalentError as error:
        sys.exit(f"error: {error}")
