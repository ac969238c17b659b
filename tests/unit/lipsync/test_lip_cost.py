from __future__ import annotations

from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"


@pytest.mark.slow
def test_a_training_sample_costs_a_quarter_of_what_it_did(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from lipsync_cost import arithmetic  # type: ignore[import-not-found]

    found = arithmetic()
    # counted earlier by hand from the layers: 532.5 the UNet, 818.1 and 1,246.5 SD's autoencoder, 70.7 TAESD
    assert found["nothing-cached sd-vae full"] == pytest.approx(2597, abs=2)
    assert found["cached latents-only full"] == pytest.approx(532.5, abs=1)
    assert found["cached taesd full"] == pytest.approx(603, abs=1)
    assert found["share"] <= 0.25
