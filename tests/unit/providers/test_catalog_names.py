"""Every provider of the catalogue answers to its name, or says in one line what it needs."""

from __future__ import annotations

import pytest

from talent_factory.core.errors import ProviderRefused
from talent_factory.providers.catalog import make_editor, provider_names

KEYS = {
    "replicate": "REPLICATE_API_TOKEN",
    "fal": "FAL_KEY",
    "bfl": "BFL_API_KEY",
    "openai": "OPENAI_API_KEY",
    "gemini": "GEMINI_API_KEY",
}


def test_all_providers_are_listed() -> None:
    assert set(provider_names()) == {"embedded", *KEYS, "comfyui", "diffusers"}


@pytest.mark.parametrize("name", sorted(KEYS))
def test_providers_with_keys_name_the_variable_and_keep_the_key(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in (*KEYS.values(), "GOOGLE_API_KEY"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(ProviderRefused, match=f"{KEYS[name]} is not set"):
        make_editor(name)
    monkeypatch.setenv(KEYS[name], "sk-secret-0123456789")
    editor = make_editor(name)
    assert editor.name == name
    can = editor.capabilities()
    assert can.price_usd > 0
    assert can.price_as_of
    assert can.network
    assert "sk-secret-0123456789" not in f"{editor!r} {can!r}"


def test_a_server_of_ones_own_needs_no_key() -> None:
    can = make_editor("comfyui").capabilities()
    assert can.network
    assert can.price_usd == 0


def test_local_models_that_are_not_there_are_refused() -> None:
    with pytest.raises(ProviderRefused, match="no model"):
        make_editor("diffusers", model="nobody/no-such-model")
