"""The registry of models and the providers by name."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from talent_factory.core.errors import ConfigError, ProviderRefused, UsageError
from talent_factory.providers.catalog import EditorSettings, make_editor, provider_names
from talent_factory.providers.embedded import EmbeddedPainter
from talent_factory.providers.models import ModelCard, model_card, model_names, read_models

ROW = """
[[model]]
provider = "replicate"
name = "mine"
id = "me/mine"
as_of = 2026-11-01
price_usd = 0.01
aspects = ["1:1"]
"""


def write(tmp_path: Path, rows: str, head: str = "version = 1\n") -> Path:
    path = tmp_path / "models.toml"
    path.write_text(head + rows, "utf-8")
    return path


def test_replicate_holds_what_the_prices_and_limits_are_known_for() -> None:
    assert model_names("replicate") == ("flux-kontext-pro", "flux-kontext-max", "flux-2-pro")
    card = model_card("replicate")
    assert card.name == "flux-kontext-pro"
    assert card == model_card("replicate", "black-forest-labs/flux-kontext-pro")
    assert (card.price_usd, card.safety, card.result_ttl_s) == (0.04, (0, 2), 3600)
    can = card.capabilities()
    assert can.recoverable
    assert can.network
    assert can.price_as_of == "2026-11-20"
    assert {"16:9", "1:1", "4:3", "9:16"} <= set(can.aspects)


@pytest.mark.parametrize(("wanted", "sent"), [(6, 5), (0, 1), (3, 3)])
def test_safety_is_clamped_to_the_range(wanted: int, sent: int) -> None:
    assert model_card("replicate", "flux-2-pro").clamp_safety(wanted) == sent


def test_no_dial_no_number() -> None:
    facts = {
        "provider": "x",
        "name": "y",
        "id": "y",
        "as_of": "2026-01-01",
        "price_usd": 0,
        "any_aspect": True,
    }
    assert ModelCard.model_validate(facts).clamp_safety(6) is None


def test_an_unknown_model_lists_the_known() -> None:
    with pytest.raises(UsageError, match="no model 'flux-9'") as caught:
        model_card("replicate", "flux-9")
    assert "flux-kontext-pro, flux-kontext-max, flux-2-pro" in caught.value.remedy
    with pytest.raises(UsageError, match="nobody"):
        model_card("nobody")


def test_own_rows_add_and_go_first(tmp_path: Path) -> None:
    own = write(tmp_path, ROW + ROW.replace('"mine"', '"flux-2-pro"').replace("me/mine", "me/two"))
    assert model_card("replicate", "mine", own=own).price_usd == 0.01
    assert model_card("replicate", "flux-2-pro", own=own).id == "me/two"
    assert model_card("replicate", own=own).name == "flux-kontext-pro"  # the default stays


def test_a_retired_model_is_refused_from_its_day_on(tmp_path: Path) -> None:
    own = write(tmp_path, ROW + 'retired_on = 2026-12-01\nreplaced_by = "flux-2-pro"\n')
    assert model_card("replicate", "mine", own=own, today=date(2026, 11, 30)).name == "mine"
    with pytest.raises(ProviderRefused, match="retired mine on 2026-12-01") as caught:
        model_card("replicate", "mine", own=own, today=date(2026, 12, 1))
    assert "flux-2-pro" in caught.value.remedy


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (ROW + ROW, "stands twice"),
        (ROW + "colour = 1\n", "colour"),
        (ROW.replace('aspects = ["1:1"]', ""), "aspects"),
        (ROW.replace('"1:1"', '"square"'), "aspects"),
        (ROW.replace("0.01", "-1"), "price_usd"),
        (ROW.replace("0.01", "nan"), "price_usd"),
        (ROW + "safety = [5, 1]\n", "safety"),
        (ROW.replace("me/mine", "../mine"), "id"),
        (ROW + "max_in_flight = 500\n", "max_in_flight"),
        ("[[model", "not valid TOML"),
    ],
)
def test_a_row_that_does_not_fit_is_named(tmp_path: Path, rows: str, said: str) -> None:
    path = write(tmp_path, rows)
    with pytest.raises(ConfigError, match=said) as caught:
        read_models(path)
    assert str(path) in caught.value.message


def test_a_registry_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nobody\.toml"):
        read_models(tmp_path / "nobody.toml")
    with pytest.raises(ConfigError, match="version"):
        read_models(write(tmp_path, ROW, head="version = 2\n"))
    with pytest.raises(ConfigError, match="too large"):
        read_models(write(tmp_path, "#" * (1 << 20)))


def test_every_shipped_row_says_when_it_was_checked_and_can_be_chosen() -> None:
    networked = [name for name in provider_names() if model_names(name)]
    assert "replicate" in networked
    for provider in networked:
        cards = [model_card(provider, name, today=date(2026, 1, 1)) for name in model_names(provider)]
        assert sum(card.default for card in cards) <= 1
        for card in cards:
            assert date(2026, 1, 1) <= card.as_of <= date(2027, 12, 31)
            assert card.price_usd > 0 or not card.network or provider in ("comfyui",)
            if card.replaced_by:
                assert card.replaced_by in model_names(provider)


def test_a_provider_is_made_by_name() -> None:
    assert isinstance(make_editor("embedded"), EmbeddedPainter)
    assert make_editor("replicate", key="r8_abc", model="flux-2-pro").capabilities().model == "flux-2-pro"
    with pytest.raises(UsageError, match="'midjourney'") as caught:
        make_editor("midjourney")
    assert "embedded, replicate" in caught.value.remedy
    with pytest.raises(UsageError, match="no models"):
        make_editor("embedded", model="large")


def test_settings_do_not_show_the_key() -> None:
    assert "secret" not in repr(EditorSettings(key="secret"))


def test_the_names_are_known_without_loading_any_provider() -> None:
    code = (
        "import sys; from talent_factory.providers.catalog import provider_names; provider_names(); "
        "print([m for m in sys.modules if m in ('httpx2', 'torch', 'cv2', 'numpy', 'diffusers')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_names_fit_a_manifest() -> None:
    assert len(set(provider_names())) == len(provider_names())
    assert all(re.fullmatch(r"[a-z][a-z0-9_-]{0,30}", name) for name in provider_names())
