"""The SyncNet: it finds offsets, doubts foreign sound, learns, and can be a loss."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from talent_factory.core.errors import Cancelled, ClipError, FileError, UsageError
from talent_factory.core.stop import StopSignal
from talent_factory.lipsync.audio.features import open_extractor
from talent_factory.lipsync.sync.judge import judge
from talent_factory.lipsync.sync.network import EMBEDDED, SyncNet, load_syncnet, save_syncnet
from talent_factory.lipsync.sync.training import Material, SyncOptions, contrast, train_syncnet
from talent_factory.lipsync.synth.clips import Order, make_take
from talent_factory.lipsync.synth.face import draw_face

ORDER = Order(clips=2, seconds=4, size=64, seed=72)


@pytest.fixture(scope="module")
def clips() -> list[tuple[np.ndarray, np.ndarray]]:
    """Two clips of people the embedded network never saw: frames and features."""
    found = []
    for index in range(2):
        take = make_take(ORDER, index)
        frames = np.stack([draw_face(take.person, look, 64) for look in take.looks])
        found.append((frames, open_extractor("mel").features(take.speech.wave)))
    return found


def test_the_embedded_network_judges_people_it_never_saw(clips: list[tuple[np.ndarray, np.ndarray]]) -> None:
    network = load_syncnet(EMBEDDED)
    assert network.extractor == open_extractor("mel").id
    (frames, sound), (_, foreign) = clips
    true = judge(network, frames, sound)
    assert true.offset == 0
    assert true.confidence > 0.4
    assert judge(network, frames[:-3], sound[3:]).offset == 3
    assert judge(network, frames[5:], sound[:-5]).offset == -5
    assert judge(network, frames, foreign).confidence < 0.5 * true.confidence
    assert judge(network, frames[:1].repeat(100, axis=0), sound).confidence < 0.1
    with pytest.raises(ClipError, match="too few"):
        judge(network, frames[:15], sound)


def test_it_is_a_loss_whose_gradient_opens_mouths(clips: list[tuple[np.ndarray, np.ndarray]]) -> None:
    network = load_syncnet(EMBEDDED)
    frames, sound = clips[0]
    faces = torch.from_numpy(frames[30:37].astype(np.float32) / 127.5 - 1).permute(0, 3, 1, 2)[None]
    faces.requires_grad_(True)
    heard = torch.from_numpy(sound[30:37])[None]
    cosine = network.agreement(faces, heard)
    assert cosine.shape == (1,)
    cosine.sum().backward()  # type: ignore[no-untyped-call]
    assert faces.grad is not None
    assert float(faces.grad[:, :, :, 32:].abs().sum()) > 0
    assert float(faces.grad[:, :, :, :32].abs().sum()) == 0
    assert network.agreement(torch.zeros(2, 5, 3, 96, 96), torch.zeros(2, 5, 10, 384)).shape == (2,)
    with pytest.raises(UsageError, match="5 frames"):
        network.agreement(faces[:, :4], heard[:, :4])


def test_training_is_a_function_of_its_seed_and_learns(clips: list[tuple[np.ndarray, np.ndarray]]) -> None:
    material = [Material.of(frames, sound) for frames, sound in clips]
    options = SyncOptions(steps=25, clips=4, windows=4, seed=5)
    one, other = train_syncnet(material, options), train_syncnet(material, options)
    for name, weight in one.state_dict().items():
        assert torch.equal(weight, other.state_dict()[name])
    stop = StopSignal()
    stop.request()
    with pytest.raises(Cancelled):
        train_syncnet(material, options, stop=stop)
    network = load_syncnet(EMBEDDED)
    starts = list(range(0, 96, 8))
    halves = torch.stack([material[0].halves[k : k + 5].float() for k in starts])
    features = torch.stack([material[0].features[k : k + 5].float() for k in starts])
    places = torch.tensor([(0, k) for k in starts])
    with torch.no_grad():
        trained, right = contrast(network, halves, features, places)
        fresh, _ = contrast(SyncNet(), halves, features, places)
    assert float(trained) < 0.7 * float(fresh)
    assert float(right) > 0.4


def test_files_keep_the_extractor_and_foreign_files_are_refused(tmp_path: Path) -> None:
    network = SyncNet("whisper:abc")
    save_syncnet(tmp_path / "sync.safetensors", network, clips=3)
    again = load_syncnet(tmp_path / "sync.safetensors")
    assert again.extractor == "whisper:abc"
    assert not any(weight.requires_grad for weight in again.parameters())
    (tmp_path / "broken.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{}      ")
    with pytest.raises(FileError, match=r"broken\.safetensors"):
        load_syncnet(tmp_path / "broken.safetensors")
    with pytest.raises(FileError, match=r"absent\.safetensors"):
        load_syncnet(tmp_path / "absent.safetensors")
