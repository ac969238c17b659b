"""Features from the encoder of a local Whisper model, the same for sound of any length."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from talent_factory.core.errors import BaseError, TalentError
from talent_factory.core.files import read_json, sha256_file
from talent_factory.lipsync.audio.mel import HOP, RATE, WINDOW, log_mel
from talent_factory.lipsync.records import STEPS, WIDTH

_SAMPLES = 640
_LAYERS = 4
_SHAPE = (WIDTH, _LAYERS, 80)
# The encoder hears 30 s at once, in 1,500 steps. Windows start every 20 s; of each the middle is kept, so
# that a step near an inner end is taken from the window in which it has five seconds of sound around it.
_STEPS = 1500
_STRIDE = 1000
_EDGE = 250
_AT_ONCE = 4


def open_whisper(folder: Path, *, device: str = "cpu") -> WhisperExtractor:
    """The Whisper model in `folder` (Hugging Face form, safetensors), its encoder alone.

    Raises BaseError when files are missing or broken, or when the encoder has not the shape of tiny: width
    384, four layers, 80 bands, so that a step is five levels of 384 numbers.
    """
    from safetensors import SafetensorError
    from transformers import WhisperModel

    weights = folder / "model.safetensors"
    try:
        config = read_json(folder / "config.json")
        shape = tuple(config.get(key) for key in ("d_model", "encoder_layers", "num_mel_bins"))
        if shape != _SHAPE:
            raise BaseError(
                f"{folder} has (d_model, encoder_layers, num_mel_bins) {shape}, not {_SHAPE}",
                remedy="hf download openai/whisper-tiny --local-dir whisper-tiny",
            )
        name = f"whisper:{sha256_file(weights)[:12]}"
        model = WhisperModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    except TalentError as error:
        raise BaseError(error.message, remedy=error.remedy or "fetch the model anew") from error
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        line = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise BaseError(f"{folder} is broken: {line}", remedy="fetch the model anew") from error
    encoder = model.get_encoder().float().requires_grad_(False).eval().to(device)
    return WhisperExtractor(encoder, name)


class WhisperExtractor:
    """All hidden states of Whisper's encoder: what enters its first layer, and what leaves each of the four.

    The last level has passed the final normalisation, as transformers gives it; features of forks that leave
    it out are another extractor. The spectrum is that of the whole sound, with one loudest moment.
    """

    memory: int | None = None
    """Samples before a frame that its features depend on; None means all of them."""

    def __init__(self, encoder: Any, name: str) -> None:
        self.id = name
        self._encoder = encoder

    @torch.no_grad()
    def features(self, wave: NDArray[Any]) -> NDArray[Any]:
        """(N,) float32 mono at 16 kHz to (ceil(N / 640), 10, 384) float32."""
        sound = np.asarray(wave, np.float32).reshape(-1)
        frames = -(-len(sound) // _SAMPLES)
        steps = 2 * frames
        if not steps:
            return np.zeros((0, STEPS, WIDTH), np.float32)
        spectrum = _spectrum(sound, frames)
        answer = np.empty((steps, _LAYERS + 1, WIDTH), np.float32)
        windows = 1 + -(-max(0, steps - _STEPS) // _STRIDE)
        for first in range(0, windows, _AT_ONCE):
            group = range(first, min(windows, first + _AT_ONCE))
            heard = self._hear([spectrum[2 * _STRIDE * k :][: 2 * _STEPS] for k in group])
            for k, states in zip(group, heard, strict=True):
                begin = 0 if k == 0 else _EDGE
                end = _STEPS if k == windows - 1 else _STRIDE + _EDGE
                place = _STRIDE * k
                end = min(end, steps - place)
                answer[place + begin : place + end] = states[begin:end]
        return answer.reshape(frames, STEPS, WIDTH)

    def _hear(self, spectra: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Windows of (3000, 80) to their hidden states (windows, 1500, 5, 384)."""
        device = next(self._encoder.parameters()).device
        stacked = torch.from_numpy(np.stack(spectra)).transpose(1, 2).to(device)
        states = self._encoder(stacked, output_hidden_states=True).hidden_states
        answer: NDArray[np.float32] = torch.stack(states, dim=2).cpu().numpy()
        return answer


def _spectrum(sound: NDArray[np.float32], frames: int) -> NDArray[np.float32]:
    """Whisper's input for the sound and 30 s of silence after it: (4·frames + 3000, 80)."""
    length = frames * _SAMPLES + 30 * RATE
    quiet = np.zeros(length, np.float32)
    quiet[: len(sound)] = sound
    half = WINDOW // 2
    logs = log_mel(np.pad(quiet, (half, half), mode="reflect"))[: length // HOP]
    return np.asarray((np.maximum(logs, logs.max() - 8) + 4) / 4, np.float32)
