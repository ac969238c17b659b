"""Let a portrait speak while its sound arrives, piece by piece.

python examples/speak_live.py --model RUN --image FACE --audio WAV

A real program would take the pieces from a microphone or a speech synthesiser and show the frames at once;
here a file is cut into pieces as they would come, and the frames are written as pictures.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from PIL import Image

from talent_factory.core.errors import TalentError
from talent_factory.lipsync.animate.faces import find_alignments
from talent_factory.lipsync.animate.film import open_still
from talent_factory.lipsync.animate.speaker import open_speaker
from talent_factory.lipsync.animate.stage import Stage
from talent_factory.lipsync.animate.stream import Stream, pieces_of
from talent_factory.lipsync.audio.wave import read_wave
from talent_factory.lipsync.preprocess.detect import open_detector


def main() -> None:
    """Speak, and say when each frame was ready."""
    options = _options()
    speaker = open_speaker(options.model)
    portrait = open_still(options.image, long_side=options.long_side)
    places = find_alignments(portrait, open_detector(options.detector))
    stream = Stream(Stage(portrait, places, speaker), speaker)
    options.out.mkdir(parents=True, exist_ok=True)
    shown = heard = 0
    wave = read_wave(options.audio)  # mono, 16,000 samples a second
    for piece in pieces_of(wave, seconds=options.piece):
        heard += len(piece)
        for frame in stream.push(piece):
            Image.fromarray(frame).save(options.out / f"{shown:06d}.png")
            shown += 1
        print(f"{heard / 16000:.2f} s heard, {shown / 25:.2f} s shown")
    for frame in stream.finish():
        Image.fromarray(frame).save(options.out / f"{shown:06d}.png")
        shown += 1
    print(f"{shown} frames in {options.out}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, required=True, help="a run of talent lipsync train")
    parser.add_argument("--image", type=Path, required=True, help="the portrait")
    parser.add_argument("--audio", type=Path, required=True, help="the speech")
    parser.add_argument("--out", type=Path, default=Path("frames"), help="folder of the frames")
    parser.add_argument("--detector", default="skimage", help="skimage, yunet:FILE.onnx or center")
    parser.add_argument("--piece", type=float, default=0.1, help="seconds of sound that arrive at a time")
    parser.add_argument("--long-side", type=int, default=None, help="shrink the portrait first")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main()
    except TalentError as error:
        sys.exit(f"error: {error}\n  next: {error.remedy}")
