"""Samples a second of the clip loader against plain ones, from a real S3 server on loopback and from disk.

    python benchmarks/lipsync_loader.py [--samples 240] [--rounds 3]

Every loader gives the same samples of the same plan, ready to train on: the frame's pixels, its reference and
the audio of five frames. The plain S3 loader asks for the seven objects of each sample with boto3 in 16
threads; the plain local one reads two PNGs and five .npy of each sample in as many threads as there are
cores. The server is rclone, in a process of its own, on the same cores. Rounds take turns, so that a busy
machine meets all alike; the medians are compared.
"""

from __future__ import annotations

import argparse
import io
import itertools
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import torch
from botocore.config import Config
from PIL import Image
from record import record

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from servers.s3 import ACCESS, BUCKET, SECRET, S3Server, rclone_server
from talent_factory.lipsync.audio.conditioner import AudioConditioner
from talent_factory.lipsync.codec import open_codec
from talent_factory.lipsync.data.latents import LatentCache, pixels
from talent_factory.lipsync.data.loose import LooseClips
from talent_factory.lipsync.data.metadata import METADATA_FILE, read_metadata, write_metadata
from talent_factory.lipsync.data.open import ClipSettings, open_clips
from talent_factory.lipsync.data.pack import pack_clips
from talent_factory.lipsync.data.plan import PlanRules, SamplePlan, lengths_of
from talent_factory.lipsync.data.samples import SampleSource
from talent_factory.lipsync.masks import FaceMask
from talent_factory.lipsync.records import Draw, Metadata
from talent_factory.lipsync.synth.clips import Order, draw_clips

SIZE, BATCH, THREADS = 256, 12, 16
LISTEN = AudioConditioner()
Read = Callable[[str], bytes]
Run = Callable[[Sequence[Sequence[Draw]]], None]


def plain_sample(read: Read, metadata: Metadata, draw: Draw) -> tuple[Any, ...]:
    """What the usual dataset class does for one sample: seven files, decoded."""
    clip = metadata.clips[draw.clip]
    first, last = LISTEN.span(draw.target, len(clip.frames))
    rows = [
        np.load(io.BytesIO(read(f"audio/{clip.name}/{clip.frames[i]}.npy"))).reshape(10, 384)
        for i in range(first, last)
    ]
    pictures = [
        np.asarray(Image.open(io.BytesIO(read(f"aligned-frames/{clip.name}/{clip.frames[i]}.png"))))
        for i in (draw.target, draw.reference)
    ]
    window = LISTEN.window(np.stack(rows), first=first, index=draw.target, length=len(clip.frames))
    return window, *pictures


def plain(read: Read, metadata: Metadata, threads: int) -> Run:
    """A loader with a pool of threads, batch after batch, the next one under way."""

    def run(plan: Sequence[Sequence[Draw]]) -> None:
        with ThreadPoolExecutor(threads) as pool:
            futures = [[pool.submit(plain_sample, read, metadata, draw) for draw in draws] for draws in plan]
            for waiting in futures:
                made = [future.result() for future in waiting]
                LISTEN.embed(np.stack([one[0] for one in made]))
                for place in (1, 2):
                    pictures = np.stack([one[place] for one in made]).transpose(0, 3, 1, 2)
                    torch.from_numpy(pictures.copy()).float().div_(127.5).sub_(1.0)

    return run


def ours(settings: ClipSettings, latents: Path | None, *, images: bool, fresh: Path | None = None) -> Run:
    """Our loader; `fresh` is emptied before each run, so that nothing was fetched before.

    With `latents` (filled before) it gives latents as training takes them, else it decodes both pictures.
    """
    codec = open_codec("mini", device="cpu", dtype=torch.float32)

    def run(plan: Sequence[Sequence[Draw]]) -> None:
        if fresh is not None:
            shutil.rmtree(fresh, ignore_errors=True)
        clips = open_clips(settings)
        if latents is None:
            source: Any = Both(clips)
        else:
            cache = LatentCache(latents, clips, codec, FaceMask(), image_size=SIZE, kind="fp16")
            source = SampleSource(clips, LISTEN, cache, images=images)
        for _ in source.batches(plan):
            pass
        source.close()
        clips.close()

    return run


class Both(SampleSource):
    """Our loader giving what the plain ones give: two pictures and the audio, no latents."""

    def __init__(self, clips: Any) -> None:
        self._clips, self._conditioner, self._length = clips, LISTEN, 1
        self._pool = ThreadPoolExecutor(2)

    def expect(self, draws: Sequence[Draw]) -> None:
        """The same files as the plain loaders."""
        self._clips.expect([(d.clip, i, i + 1) for d in draws for i in (d.target, d.reference)], audio=False)
        spans = [(d.clip, d.target - LISTEN.left, d.target + 1 + LISTEN.right) for d in draws]
        self._clips.expect(spans, pictures=False)

    def _joined(self, draws: Sequence[Draw], begun: Any) -> Any:
        """Windows with positions, and the two pictures as tensors."""
        made = [future.result() for future in begun]
        LISTEN.embed(np.concatenate([one[0] for one in made]))
        return [pixels(np.stack([one[place] for one in made])) for place in (1, 2)]

    def _sample(self, draw: Draw) -> Any:
        frames = [self._clips.frame(draw.clip, i) for i in (draw.target, draw.reference)]
        return self._windows(draw, range(draw.target, draw.target + 1)), *frames


def upload(server: S3Server, root: Path) -> None:
    """Into the bucket, which is a folder of the server's."""
    assert server.folder is not None
    shutil.copytree(
        root, server.folder / BUCKET / "d", ignore=shutil.ignore_patterns("latents", "wav", "truth")
    )


def boto_read(server: S3Server) -> Read:
    """GET by boto3 with a pool of connections."""
    client = boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        aws_access_key_id=ACCESS,
        aws_secret_access_key=SECRET,
        region_name="us-west-1",
        config=Config(max_pool_connections=THREADS, signature_version="s3v4"),
    )
    return lambda key: client.get_object(Bucket=BUCKET, Key=f"d/{key}")["Body"].read()


def runs(server: S3Server, root: Path, work: Path, metadata: Metadata) -> dict[str, Run]:
    """All loaders by name."""
    far, environ = f"s3://{BUCKET}/d", server.environ()
    fresh = work / "cache"
    loose = ClipSettings(far=far, environ=environ, cache=fresh, packs="never")
    packs = ClipSettings(far=far, environ=environ, cache=fresh, packs="always")
    plain_packs = ClipSettings(far=f"{far}/plain", environ=environ, cache=fresh, packs="always")
    local = ClipSettings(local=root, packs="never")
    kept, kept_packs = work / "latents" / "never", work / "latents" / "always"
    cores = len(os.sched_getaffinity(0))
    return {
        "s3 boto3 16 threads": plain(boto_read(server), metadata, THREADS),
        "s3 loose, nothing kept": ours(loose, None, images=True, fresh=fresh),
        "s3 packs, nothing kept": ours(packs, None, images=True, fresh=fresh),
        "s3 plain packs, nothing kept": ours(plain_packs, None, images=True, fresh=fresh),
        "s3 packs, latents kept, pixels": ours(packs, kept_packs, images=True, fresh=fresh),
        "s3 packs, latents kept": ours(packs, kept_packs, images=False, fresh=fresh),
        "local PNG + npy": plain(lambda key: (root / key).read_bytes(), metadata, cores),
        "local loose, decoding both": ours(local, None, images=True),
        "local plain packs": ours(ClipSettings(local=root / "plain"), None, images=True),
        "local loose, latents kept, pixels": ours(local, kept, images=True),
        "local loose, latents kept": ours(local, kept, images=False),
    }


def fill(settings: ClipSettings, folder: Path) -> None:
    """Make all latents, as the first epoch of a training does."""
    clips = open_clips(settings)
    codec = open_codec("mini", device="cpu", dtype=torch.float32)
    cache = LatentCache(folder, clips, codec, FaceMask(), image_size=SIZE, kind="fp16")
    for number, clip in enumerate(clips.metadata.clips):
        cache.latents(number, range(len(clip.frames)))
    cache.close()
    clips.close()


def main() -> None:
    """Measure and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--samples", type=int, default=240)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=6.0)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, rclone_server(Path(folder) / "buckets") as server:
        root, work = Path(folder) / "d", Path(folder) / "work"
        draw_clips(root, Order(clips=asked.clips, seconds=asked.seconds, size=SIZE))
        metadata = read_metadata(root / METADATA_FILE)
        clips = open_clips(ClipSettings(local=root, packs="never"))
        assert isinstance(clips, LooseClips)
        pack_clips(clips, root)
        pack_clips(clips, root / "plain", pictures="rgb")
        write_metadata(root / "plain" / METADATA_FILE, metadata)
        upload(server, root)
        plan = SamplePlan(0, lengths_of(metadata.clips), rules=PlanRules(dropped_share=0.0))
        draws = list(itertools.islice(plan.batches(0, BATCH), asked.samples // BATCH))
        for kind in ("never", "always"):
            fill(ClipSettings(local=root, packs=kind), work / "latents" / kind)
        seconds: dict[str, list[float]] = {}
        for _ in range(asked.rounds):
            for name, run in runs(server, root, work, metadata).items():
                begun = time.perf_counter()
                run(draws)
                seconds.setdefault(name, []).append(time.perf_counter() - begun)
    report(asked.samples, seconds)


def report(samples: int, seconds: dict[str, list[float]]) -> None:
    """Samples a second and the ratios that are promised."""
    rate = {name: samples / statistics.median(values) for name, values in seconds.items()}
    far, near = rate["s3 boto3 16 threads"], rate["local PNG + npy"]
    record(
        "lipsync_loader",
        {
            "samples": samples,
            "samples_per_s": {name: round(value, 1) for name, value in rate.items()},
            "s3 loose / boto3 (target 3)": round(rate["s3 loose, nothing kept"] / far, 2),
            "s3 packs / boto3": round(rate["s3 packs, nothing kept"] / far, 2),
            "s3 plain packs / boto3 (target 10)": round(rate["s3 plain packs, nothing kept"] / far, 2),
            "local plain packs / PNG + npy (target 2)": round(rate["local plain packs"] / near, 2),
            "s3 packs with kept latents / boto3": round(rate["s3 packs, latents kept, pixels"] / far, 2),
            "local loose with kept latents / PNG + npy (target 2)": round(
                rate["local loose, latents kept, pixels"] / near, 2
            ),
            "local without pixels / PNG + npy": round(rate["local loose, latents kept"] / near, 2),
            "local decoding both / PNG + npy": round(rate["local loose, decoding both"] / near, 2),
        },
    )


if __name__ == "__main__":
    main()
