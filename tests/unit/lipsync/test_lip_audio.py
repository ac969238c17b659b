from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from contract.lip_extractor import LipExtractorContract, babble
from talent_factory.core.errors import BaseError, UsageError
from talent_factory.lipsync.audio.features import MelExtractor, open_extractor
from talent_factory.lipsync.audio.mel import filters, log_mel
from talent_factory.lipsync.audio.whisper import WhisperExtractor, open_whisper
from talent_factory.lipsync.ports import Extractor

SR = 16_000


class TestMelExtractor(LipExtractorContract):
    @pytest.fixture
    def extractor(self) -> Extractor:
        return open_extractor("mel")


@pytest.fixture(scope="module")
def whisper_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _whisper(tmp_path_factory.mktemp("whisper"))


class TestWhisperExtractor(LipExtractorContract):
    @pytest.fixture
    def extractor(self, whisper_folder: Path) -> Extractor:
        return open_extractor(whisper_folder)


def _whisper(folder: Path, *, layers: int = 4) -> Path:
    from transformers import WhisperConfig, WhisperModel

    torch.manual_seed(0)
    config = WhisperConfig(
        d_model=384, encoder_layers=layers, encoder_attention_heads=6, encoder_ffn_dim=32,
        decoder_layers=1, decoder_attention_heads=2, decoder_ffn_dim=8, vocab_size=20, num_mel_bins=80,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=3,
        suppress_tokens=None, begin_suppress_tokens=None,
    )  # fmt: skip
    WhisperModel(config).save_pretrained(folder)
    return folder


def test_the_spectrum_is_whispers() -> None:
    from transformers import WhisperFeatureExtractor

    theirs = WhisperFeatureExtractor()
    assert np.allclose(filters(), theirs.mel_filters.T, atol=1e-9)
    wave = babble(5 * SR)
    wanted = theirs(wave, sampling_rate=SR, return_tensors="np").input_features[0].T[:500]
    padded = np.pad(np.concatenate([wave, np.zeros(25 * SR)]), 200, mode="reflect")
    logs = log_mel(padded)[:-1]
    ours = (np.maximum(logs, logs.max() - 8) + 4) / 4
    assert np.abs(ours[:500] - wanted).max() < 1e-3


def test_silence_is_zero_and_speech_is_of_the_size_of_one() -> None:
    extractor = open_extractor()
    assert not extractor.features(np.zeros(SR, np.float32)).any()
    rows = extractor.features(babble(3 * SR))
    assert rows.min() == 0
    assert 1 < rows.max() < 4
    assert not rows[..., 320:].any()


def test_mel_features_never_look_ahead() -> None:
    extractor = open_extractor()
    wave = babble(4 * SR)
    whole = extractor.features(wave)
    for frames in (1, 2, 37, 99):
        assert (extractor.features(wave[: frames * 640]) == whole[:frames]).all()


def test_mel_features_depend_on_no_more_than_their_memory() -> None:
    extractor = MelExtractor()
    wave = babble(6 * SR)
    whole = extractor.features(wave)
    before = -(-MelExtractor.memory // 640)
    part = extractor.features(wave[(80 - before) * 640 :])
    assert (part[before:] == whole[80:]).all()
    shorter = extractor.features(wave[(80 - before // 2) * 640 :])
    assert not (shorter[before // 2 :] == whole[80:]).all()


def test_mel_features_fit_into_sixteen_bits() -> None:
    rows = open_extractor().features(babble(2 * SR))
    assert (rows.astype(np.float16).astype(np.float32) == rows).all()


def test_mel_features_are_what_they_were() -> None:
    """Datasets and models made earlier stay usable only while `mel-1` means the same numbers."""
    rows = open_extractor().features(babble(SR)).reshape(25, 2, 5, 384)
    found = [float(rows[at]) for at in ((5, 1, 2, 5), (10, 1, 4, 250), (12, 0, 4, 245), (4, 0, 0, 245))]
    assert found == pytest.approx([1.1621094, 0.0371094, 1.6347656, 0.5917969], abs=1.5 / 512)
    assert float(rows.sum()) == pytest.approx(6955.3457, abs=3)


def test_wide_levels_hear_more_of_the_past() -> None:
    click = np.zeros(2 * SR, np.float32)
    click[SR : SR + 160] = 0.5
    rows = open_extractor().features(click).reshape(100, 5, 384)
    heard = [int((rows[:, level].max(axis=1) > 0).sum()) for level in range(5)]
    assert heard == sorted(heard)
    assert heard[0] in (2, 3)
    assert heard[4] in (32, 33)


def test_long_sound_is_cut_without_a_seam(whisper_folder: Path) -> None:
    """Without positions the first level is a convolution, that of the whole also where windows meet."""
    extractor = open_whisper(whisper_folder)
    assert isinstance(extractor, WhisperExtractor)
    encoder = extractor._encoder
    torch.nn.init.zeros_(encoder.embed_positions.weight)
    wave = babble(65 * SR)
    rows = extractor.features(wave)
    assert rows.shape == (1625, 10, 384)
    logs = log_mel(np.pad(np.concatenate([wave, np.zeros(30 * SR)]), 200, mode="reflect"))[:-1]
    spectrum = torch.from_numpy((np.maximum(logs, logs.max() - 8) + 4) / 4).float().T[None]
    gelu = torch.nn.functional.gelu
    with torch.no_grad():
        wanted = gelu(encoder.conv2(gelu(encoder.conv1(spectrum))))[0].T.numpy()
    steps = rows.reshape(3250, 5, 384)[:, 0]
    assert np.abs(steps - wanted[:3250]).max() < 1e-4


def test_whisper_gives_all_hidden_states_time_by_time(whisper_folder: Path) -> None:
    from transformers import WhisperFeatureExtractor, WhisperModel

    wave = babble(2 * SR)
    model = WhisperModel.from_pretrained(whisper_folder).get_encoder().eval()
    spectrum = WhisperFeatureExtractor()(wave, sampling_rate=SR, return_tensors="pt").input_features
    with torch.no_grad():
        states = model(spectrum, output_hidden_states=True).hidden_states
    rows = open_extractor(whisper_folder).features(wave)
    for token in (0, 3, 9):
        wanted = states[token % 5][0, 2 * 7 + token // 5].numpy()
        assert rows[7, token] == pytest.approx(wanted, abs=2e-3)


def test_extractors_of_other_kinds_are_refused(tmp_path: Path, whisper_folder: Path) -> None:
    with pytest.raises(UsageError, match="no extractor"):
        open_extractor("melody")
    with pytest.raises(BaseError, match=r"\(384, 2, 80\)"):
        open_extractor(_whisper(tmp_path / "small", layers=2))
    shutil.copytree(whisper_folder, tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(BaseError, match="broken"):
        open_extractor(tmp_path / "cut")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BaseError, match=r"config\.json"):
        open_extractor(tmp_path / "empty")


def test_ids(whisper_folder: Path) -> None:
    assert open_extractor("mel-1").id == "mel-1"
    assert open_extractor(whisper_folder).id.startswith("whisper:")
