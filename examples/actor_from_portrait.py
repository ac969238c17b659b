"""One portrait in, the training images of an actor out, through the Python interface.

    python examples/actor_from_portrait.py                          # offline, free, the sample portrait
    python examples/actor_from_portrait.py me.jpg --sex woman
    REPLICATE_API_TOKEN=… python examples/actor_from_portrait.py me.jpg --provider replicate --budget 1

Without --provider it casts with the embedded painter, also when a token is set: nothing is paid unless you
say so. Run it again after a crash or a Ctrl-C: it collects what was paid and makes only what is missing.
"""

from __future__ import annotations

import argparse
import re
import sys
from importlib.resources import as_file, files
from pathlib import Path

from talent_factory import TalentError
from talent_factory.datagen import ActorTrainingDataGenerator, TrainingClient


def main() -> int:
    parser = argparse.ArgumentParser(description="Cast an actor from one portrait.")
    parser.add_argument("portrait", nargs="?", type=Path, help="a picture; default: the sample portrait")
    parser.add_argument("--provider", default="embedded", help="embedded (offline, free), replicate, fal, …")
    parser.add_argument("--actor", help="the actor's id; default: the name of the picture")
    parser.add_argument("--sex", choices=["man", "woman", "person"], help="of a human actor")
    parser.add_argument("--workspace", type=Path, default=Path("casting_example"))
    parser.add_argument("--recipe", default="actor-17", help="actor-17, actor-12, or a .toml file")
    parser.add_argument("--long-side", type=int, default=768, help="pixels; for painters that can choose")
    parser.add_argument("--budget", type=float, help="dollars that this actor may cost in all")
    parser.add_argument("--store", help="s3, s3://BUCKET or a folder; default: WORKSPACE/user_files")
    parser.add_argument("--train", action="store_true", help="go on to a Talent Kit of draft quality")
    args = parser.parse_args()
    sex = args.sex if args.portrait else "man"
    # two actors of one name would be one, and the second cast take the first one's place
    actor = args.actor or (
        re.sub(r"[^A-Za-z0-9_-]+", "_", args.portrait.stem) if args.portrait else "dot_kairo"
    )

    generator = ActorTrainingDataGenerator(
        debug_dir=args.workspace / "debug",
        batch_size=5,
        provider=args.provider,
        workspace=args.workspace,
        store=args.store,
        recipe=args.recipe,
        long_side=args.long_side,
        budget_usd=args.budget,
    )
    sample = files("talent_factory") / "assets" / "portraits" / "dot_kairo.png"
    with as_file(sample) as default:
        result = generator.generate_training_data(
            args.portrait or default, user_id="you", actor_id=actor, actor_sex=sex
        )

    for url in result["training_image_urls"]:
        print(url)
    print(f"{result['total_training_images']} of {result['target_training_images']} images", end=" ")
    print(f"by {result['provider']} for ${result['cost']:.2f}; look at {result['contact_sheet']}")
    for failure in result["failed"]:
        print(f"failed: {failure['slot']}: {failure['message']}")

    if args.train:
        client = TrainingClient(args.workspace, quality="draft", store=args.store)
        kit = client.train_actor(
            actor_id=actor, training_image_urls=result["training_image_urls"], actor_sex=sex
        )
        print(f"Talent Kit: {kit['kit_path']}")
    return 3 if result["failed"] else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except TalentError as error:
        sys.exit(f"error: {error}")
