"""Batches: the same bytes from every place, made ahead, with latents that are kept."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lip_clips import SIZE, make_clips, png
from servers.loopback import Exchange, Loopback
from servers.s3 import BUCKET, S3Server, moto_server, rclone_server
from talent_factory.core.errors import ClipError
from talent_factory.lipsync.audio.conditioner import AudioConditioner, positions
from talent_factory.lipsync.batch import Batch
from talent_factory.lipsync.codec import open_codec
from talent_factory.lipsync.data.latents import LatentCache, pixels
from talent_factory.lipsync.data.loose import LooseClips
from talent_factory.lipsync.data.open import ClipSettings, open_clips
from talent_factory.lipsync.data.pack import pack_clips
from talent_factory.lipsync.data.plan import PlanRules, SamplePlan, lengths_of
from talent_factory.lipsync.data.samples import SampleSource
from talent_factory.lipsync.masks import FaceMask
from talent_factory.lipsync.ports import Clips, Codec
from talent_factory.lipsync.records import Draw
from talent_factory.storage.catalog import open_store

NAMES = ("images", "target", "masked", "reference", "tokens")


@pytest.fixture(scope="module")
def codec() -> Codec:
    return open_codec("dct8", device="cpu", dtype=torch.float32)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Loose files and packs of the same clips; do not write there."""
    root = tmp_path_factory.mktemp("clips")
    make_clips(root)
    clips = open_clips(ClipSettings(local=root, packs="never"))
    assert isinstance(clips, LooseClips)
    pack_clips(clips, root)
    return root


def source(clips: Clips, codec: Codec, cache: Path | None = None, **more: Any) -> SampleSource:
    latents = LatentCache(cache, clips, codec, FaceMask(), image_size=SIZE)
    return SampleSource(clips, AudioConditioner(), latents, **more)


def batches(settings: ClipSettings, codec: Codec, cache: Path | None = None) -> list[Batch]:
    clips = open_clips(settings)
    made = source(clips, codec, cache)
    plan = SamplePlan(5, lengths_of(clips.metadata.clips))
    found = list(made.batches(itertools.islice(plan.batches(0, 6), 8), ahead=3))
    made.close()
    clips.close()
    return found


def same(one: list[Batch], other: list[Batch]) -> bool:
    pairs = zip(one, other, strict=True)
    return all(torch.equal(getattr(a, name), getattr(b, name)) for a, b in pairs for name in NAMES)


def served(kind: str, root: Path, tmp_path: Path) -> Iterator[tuple[str, dict[str, str] | None]]:
    """The dataset behind a server: its address and the environment that opens it."""
    files = [path for path in root.rglob("*") if path.is_file()]
    if kind == "web":

        def answer(exchange: Exchange) -> None:
            path = root / exchange.path.lstrip("/")
            known = path.is_file()
            data = path.read_bytes() if known and exchange.method == "GET" else b""
            exchange.send(200 if known else 404, data, "application/octet-stream")

        with Loopback(answer) as server:
            yield server.url, None
        return

    def filled(server: S3Server) -> tuple[str, dict[str, str]]:
        store = open_store("s3", environ=server.environ(), dotenv=tmp_path / "none")
        for path in files:
            store.put(f"d/{path.relative_to(root).as_posix()}", path.read_bytes())
        return f"s3://{BUCKET}/d", server.environ()

    with moto_server() if kind == "moto" else rclone_server(tmp_path / "buckets") as server:
        yield filled(server)


def test_loose_files_packs_and_far_places_give_the_same_samples(
    dataset: Path, codec: Codec, tmp_path: Path
) -> None:
    truth = batches(ClipSettings(local=dataset, packs="never"), codec)
    assert same(truth, batches(ClipSettings(local=dataset, packs="always"), codec))
    for kind in ("web", "moto", "rclone"):
        for far, environ in served(kind, dataset, tmp_path):
            cache = tmp_path / kind
            for packs in ("never", "always"):
                settings = ClipSettings(far=far, environ=environ, cache=cache, packs=packs, patience_s=30)
                assert same(truth, batches(settings, codec, cache / "latents")), (kind, packs)
            if kind == "moto":
                # without a disk for them, packs are read by pieces
                pieces = ClipSettings(far=far, environ=environ, packs="always", patience_s=30)
                assert same(truth, batches(pieces, codec))


def test_kept_latents_are_the_encoded_ones(dataset: Path, codec: Codec, tmp_path: Path) -> None:
    fresh = batches(ClipSettings(local=dataset), codec)
    first = batches(ClipSettings(local=dataset), codec, tmp_path)
    again = batches(ClipSettings(local=dataset, packs="never"), codec, tmp_path)
    assert same(fresh, first)
    assert same(fresh, again)


def test_what_a_sample_holds(dataset: Path, codec: Codec) -> None:
    clips = open_clips(ClipSettings(local=dataset))
    batch = source(clips, codec).batch([Draw(sample=0, clip=0, target=0, reference=9)])
    image = pixels(clips.frame(0, 0)[None])
    assert torch.equal(batch.images, image)
    assert image.min() >= -1
    assert image.max() <= 1
    assert torch.equal(batch.target, codec.encode(image))
    assert torch.equal(batch.masked, codec.encode(FaceMask().apply(image)))
    assert torch.equal(batch.reference, codec.encode(pixels(clips.frame(0, 9)[None])))
    whole = AudioConditioner().tokens(clips.audio(0, 0, 14), [0])
    assert torch.equal(batch.tokens, whole)
    assert torch.equal(batch.tokens[0, :20], positions(50)[:20]), "before the clip there is no sound"


def test_windows_of_frames_are_ordered_and_share_a_reference(dataset: Path, codec: Codec) -> None:
    clips = open_clips(ClipSettings(local=dataset))
    draws = [Draw(sample=0, clip=0, target=4, reference=12), Draw(sample=1, clip=1, target=5, reference=0)]
    batch = source(clips, codec, length=3).batch(draws)
    assert batch.length == 3
    assert batch.target.shape[0] == 6
    alone = source(clips, codec)
    for row, (clip, frame, reference) in enumerate(
        [(0, 4, 12), (0, 5, 12), (0, 6, 12), (1, 5, 0), (1, 6, 0), (1, 7, 0)]
    ):
        one = alone.batch([Draw(sample=0, clip=clip, target=frame, reference=reference)])
        assert all(torch.equal(getattr(batch, name)[row], getattr(one, name)[0]) for name in NAMES)


def test_silence_and_dropped_audio(dataset: Path, codec: Codec) -> None:
    clips = open_clips(ClipSettings(local=dataset))
    quiet = np.full((10, 384), 0.25, np.float32)
    made = source(clips, codec, silence=quiet)
    silent, dropped = made.batch(
        [
            Draw(sample=0, clip=0, target=0, reference=9, silent=True),
            Draw(sample=1, clip=0, target=0, reference=9, dropped=True),
        ]
    ).tokens
    assert torch.equal(dropped, torch.zeros(50, 384)), "without sound there are no positions either"
    assert torch.equal(silent[20:], positions(50)[20:] + 0.25)
    assert torch.equal(silent[:20], positions(50)[:20]), "silence has no more past than sound"


def test_pixels_are_left_out_where_nobody_looks(dataset: Path, codec: Codec) -> None:
    clips = open_clips(ClipSettings(local=dataset))
    made = source(clips, codec, images=False)
    assert made.batch([Draw(sample=0, clip=0, target=0, reference=9)]).images is None


def test_audio_of_another_extractor_is_refused(dataset: Path, codec: Codec) -> None:
    clips = open_clips(ClipSettings(local=dataset))
    latents = LatentCache(None, clips, codec, FaceMask(), image_size=SIZE)
    with pytest.raises(ClipError, match="of extractor mel-1, the model listens to whisper:00"):
        SampleSource(clips, AudioConditioner(extractor_id="whisper:00"), latents)


def test_an_error_comes_at_its_batch_and_ends_the_thread(codec: Codec, tmp_path: Path) -> None:
    make_clips(tmp_path)
    (tmp_path / "audio" / "HDTF-0001" / "000005.npy").unlink()
    clips = open_clips(ClipSettings(local=tmp_path))
    made = source(clips, codec)
    good, bad = (Draw(sample=0, clip=0, target=t, reference=0) for t in (0, 5))
    stream = made.batches([[good], [good], [bad], [good]], ahead=1)
    assert next(stream).target.shape[0] == next(stream).target.shape[0] == 1
    with pytest.raises(ClipError, match="000005"):
        next(stream)
    with pytest.raises(StopIteration):
        next(stream)
    # a loop that is left early leaves no thread behind, and none means: made when asked for
    endless = made.batches(itertools.repeat([good]), ahead=2)
    next(endless)
    endless.close()  # type: ignore[attr-defined]
    assert next(made.batches([[good]], ahead=0)).length == 1
    made.close()


def test_a_batch_is_begun_before_the_one_before_is_joined(dataset: Path, codec: Codec) -> None:
    clips = open_clips(ClipSettings(local=dataset))
    begun = threading.Event()
    heard: list[bool] = []

    class Waiting(AudioConditioner):
        """Joins the first batch when the second one is begun."""

        def window(self, rows: Any, *, first: int, index: int, length: int) -> Any:
            if index == 3:
                begun.set()
            return super().window(rows, first=first, index=index, length=length)

        def embed(self, windows: Any) -> torch.Tensor:
            heard.append(begun.wait(20))
            return super().embed(windows)

    latents = LatentCache(None, clips, codec, FaceMask(), image_size=SIZE)
    made = SampleSource(clips, Waiting(), latents)
    draws = [[Draw(sample=n, clip=0, target=n, reference=9)] for n in (2, 3, 4)]
    together = list(made.batches(draws, ahead=1))
    assert heard == [True] * 3
    truth = source(clips, codec)
    assert same(together, [truth.batch(one) for one in draws])
    made.close()


class Counting:
    """A codec that counts what it encodes."""

    def __init__(self, inner: Codec) -> None:
        self.inner, self.batches = inner, list[int]()
        self.id, self.channels, self.factor = inner.id, inner.channels, inner.factor

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(images))
        return self.inner.encode(images)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return self.inner.decode(latents)


def test_latents_are_made_once_and_again_when_a_picture_changes(codec: Codec, tmp_path: Path) -> None:
    make_clips(tmp_path / "d")
    counting = Counting(codec)

    def read(kind: str = "fp32", mask: FaceMask | None = None) -> tuple[np.ndarray, np.ndarray]:
        clips = open_clips(ClipSettings(local=tmp_path / "d"))
        cache = LatentCache(
            tmp_path / "c", clips, counting, mask or FaceMask(), image_size=SIZE, kind=kind, block=4
        )
        found = cache.latents(0, [3, 0, 13, 3])
        cache.close()
        counting.batches, seen = [], counting.batches
        assert not seen or seen == expected, seen
        return found

    expected = [4, 4, 2, 2]
    plain, masked = read()
    assert plain.shape == masked.shape == (4, 192, 4, 4)
    assert np.array_equal(plain[0], plain[3])
    expected = []
    assert np.array_equal(read()[0], plain)
    expected = [4, 4, 2, 2]
    assert np.abs(read("fp16")[0] - plain).max() < 0.01
    read(mask=FaceMask(top=0.6))
    (tmp_path / "d" / "aligned-frames" / "HDTF-0001" / "000003.png").write_bytes(png(99))
    changed, _ = read()
    assert not np.array_equal(changed[0], plain[0])
    assert np.array_equal(changed[1], plain[1])


def test_a_torn_record_of_latents_is_made_anew(dataset: Path, codec: Codec, tmp_path: Path) -> None:
    clips = open_clips(ClipSettings(local=dataset))
    cache = LatentCache(tmp_path, clips, codec, FaceMask(), image_size=SIZE)
    truth, _ = cache.latents(0, [0, 1])
    cache.close()
    path = next(tmp_path.rglob("*.latents"))
    data = bytearray(path.read_bytes())
    data[4096 + 100] ^= 1
    path.write_bytes(data)
    again = LatentCache(tmp_path, clips, codec, FaceMask(), image_size=SIZE)
    assert np.array_equal(again.latents(0, [0, 1])[0], truth)
    assert again.encoded == 1


def test_a_whole_clip_is_used_by_a_plan_without_repeating_itself(dataset: Path, codec: Codec) -> None:
    clips = open_clips(ClipSettings(local=dataset))
    plan = SamplePlan(0, lengths_of(clips.metadata.clips), rules=PlanRules(power=1.0, epoch=23))
    assert len({(d.clip, d.target) for d in plan.draws(np.arange(23))}) == 23
