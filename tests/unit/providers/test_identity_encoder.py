"""An identity encoder is loaded from a folder, sees the same picture the same way, and is never assumed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cast_maker import face
from talent_factory.core.errors import UsageError
from talent_factory.datagen.quality.identity import identity_checks
from talent_factory.providers.vision.encoder import VARIABLE, LocalEncoder, encoder_from


def test_none_is_configured_by_default() -> None:
    assert encoder_from({}) is None
    assert encoder_from({VARIABLE: "  "}) is None
    named = encoder_from({VARIABLE: "somebody/their-model"})
    assert named is not None
    assert named.name == "their-model"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_tiny_encoder_tells_pictures_apart(tmp_path: Path) -> None:
    import torch
    from transformers import BitImageProcessorPil, Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=56, patch_size=14
    )
    Dinov2Model(config).save_pretrained(tmp_path / "tiny")
    processor = BitImageProcessorPil(size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56})
    processor.save_pretrained(tmp_path / "tiny")
    encoder = LocalEncoder(str(tmp_path / "tiny"))
    one, again = encoder.encode(face()), encoder.encode(face())
    assert one is not None
    assert again is not None
    assert one.shape == (32,)
    assert np.array_equal(one, again)
    noise = np.random.default_rng(1).integers(0, 256, (80, 80, 3), dtype=np.uint8)
    pictures = [face(), *(face((320 + 40 * n, 300)) for n in range(1, 5)), Image.fromarray(noise)]
    # its weights are random: values are what can be asked of it, verdicts are not
    values = [check.value for check in identity_checks(face(), pictures, encoder)]
    assert values[0] == pytest.approx(1.0, abs=1e-4)
    assert values[5] is not None
    assert values[5] < 0.9999


@pytest.mark.slow
def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing-here") as caught:
        LocalEncoder(str(tmp_path / "nothing-here")).encode(face())
    assert VARIABLE in caught.value.remedy
    assert str(tmp_path) not in caught.value.message.split(":")[0]
