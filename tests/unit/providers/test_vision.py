"""Looking at pictures: what is measured offline, what a model is asked, and what happens to its answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from servers.openai_chat import KEY, FakeChat
from talent_factory.core.errors import ProviderError, ProviderRefused, UsageError
from talent_factory.providers.embedded.painter import paint
from talent_factory.providers.vision import Vision, make_vision
from talent_factory.providers.vision.answers import extract, read_card, read_tiles
from talent_factory.providers.vision.measures import colour_name, fingerprint, read_rgb
from talent_factory.providers.vision.port import U8
from talent_factory.world.samples import kairo_portrait, style_samples

CARD = {
    "medium": "gouache on rough paper",
    "technique": "opaque strokes",
    "line": "none",
    "palette": [{"hex": "#FFAA00", "name": "amber"}, {"hex": "broken", "name": "x"}],
    "contrast": "medium",
    "light": "soft",
    "texture": "dry brush",
    "shading": "two steps",
    "edges": "crisp",
    "composition": "centred",
    "era": "",
    "do": ["keep strokes visible"],
    "avoid": ["outlines"],
    "sentence": "Opaque gouache in amber tones with visible dry strokes and crisp edges.",
}


def _save(path: Path, picture: U8) -> Path:
    cv2.imwrite(str(path), picture[..., ::-1])
    return path


@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    return _save(tmp_path / "drawn.png", kairo_portrait(zoom=2))


def _tiles(count: int) -> list[U8]:
    return [np.asarray(image) for image, _ in style_samples(count, size=160)]


def _openai(server: FakeChat, notes: list[str] | None = None, key: str | None = KEY) -> Vision:
    notice = None if notes is None else notes.append
    return make_vision("openai", model="eye-1", key=key, base_url=server.url + "/v1", notice=notice)


def test_the_offline_card_says_what_can_be_measured(drawn: Path, tmp_path: Path) -> None:
    card = make_vision().style_card(drawn)
    assert card.source.startswith("embedded")
    assert "flat" in card.medium
    assert "outlines" in card.medium
    assert {"white", "pink", "violet"} <= {swatch.name for swatch in card.palette}
    assert sum(swatch.share for swatch in card.palette) == pytest.approx(1, abs=0.01)
    assert card.era == ""
    ink = paint(kairo_portrait(zoom=2), medium="woodcut", seed=1, aspect="1:1", long_side=512).image
    cut = make_vision().style_card(_save(tmp_path / "cut.png", ink))
    assert "black and white" in cut.medium
    assert "colour of any kind" in cut.avoid


def test_glowing_lines_are_not_called_missing_outlines(tmp_path: Path) -> None:
    mecha = np.asarray(style_samples(1, size=512)[0][0])
    assert "glowing" in make_vision().style_card(_save(tmp_path / "m.png", mecha)).line


def test_colours_get_plain_names() -> None:
    assert colour_name(250, 250, 250) == "white"
    assert colour_name(20, 20, 24) == "black"
    assert colour_name(205, 40, 40) == "red"
    assert colour_name(40, 130, 130) == "teal"


def test_offline_tiles_blank_blurred_repeated_and_mirrored_are_found(tmp_path: Path) -> None:
    style = _save(tmp_path / "style.png", np.asarray(style_samples(9, size=256)[8][0]))
    tiles: list[U8] = _tiles(3)
    blank: U8 = np.full((160, 160, 3), 60, np.uint8)
    blurred: U8 = np.asarray(cv2.GaussianBlur(_tiles(5)[4], (0, 0), 12), np.uint8)
    tiles += [np.ascontiguousarray(tiles[1][:, ::-1]), blank, blurred]
    verdicts = make_vision().check_tiles(tiles, subjects=["a"] * 6, style=style)
    assert [verdict.ok for verdict in verdicts] == [True, True, True, False, False, False]
    assert verdicts[3].duplicate_of == 1
    assert verdicts[4].reason == "blank"
    assert verdicts[5].reason == "blurred"
    assert all(verdict.has_text is None for verdict in verdicts)


def test_a_colour_tile_among_black_and_white_ones_is_foreign(drawn: Path, tmp_path: Path) -> None:
    ink = paint(kairo_portrait(zoom=2), medium="woodcut", seed=1, aspect="1:1", long_side=384).image
    style = _save(tmp_path / "ink.png", ink)
    verdict = make_vision().check_tiles([read_rgb(str(drawn))], subjects=["a"], style=style)[0]
    assert (verdict.ok, verdict.style_match) == (False, 1)


def test_fingerprints_forgive_scale_and_noise_but_not_another_picture() -> None:
    first, second = _tiles(2)
    noisy = np.clip(first.astype(int) + np.random.default_rng(1).integers(-6, 7, first.shape), 0, 255)
    small: U8 = np.asarray(cv2.resize(noisy.astype(np.uint8), (90, 90)), np.uint8)
    assert (fingerprint(first) != fingerprint(small)).sum() <= 6
    assert (fingerprint(first) != fingerprint(second)).sum() > 6


def test_offline_nobody_claims_to_know_what_a_picture_shows(drawn: Path) -> None:
    assert make_vision().follows(drawn, "a fox").state == "not_measured"


def test_a_model_is_asked_with_a_schema_and_its_card_is_read(drawn: Path) -> None:
    with FakeChat(json.dumps(CARD)) as server:
        card = _openai(server).style_card(drawn)
        body = server.asked[0]
    assert card.source == "openai eye-1"
    assert card.sentence == CARD["sentence"]
    assert [swatch.hex for swatch in card.palette] == ["#ffaa00"]
    shape = body["response_format"]
    assert isinstance(shape, dict)
    assert shape["type"] == "json_schema"
    assert "temperature" not in body
    assert "max_tokens" not in body
    assert "data:image/jpeg;base64," in json.dumps(body["messages"])


def test_a_server_without_schemas_is_asked_for_plain_json_and_remembered(drawn: Path) -> None:
    with FakeChat("!schema", f"Sure!\n```json\n{json.dumps(CARD)}\n```", json.dumps(CARD)) as server:
        vision = _openai(server)
        assert vision.style_card(drawn).medium == CARD["medium"]
        assert vision.style_card(drawn).medium == CARD["medium"]
        kinds = [body["response_format"]["type"] for body in server.asked]  # type: ignore[index]
    assert kinds == ["json_schema", "json_object", "json_object"]


@pytest.mark.parametrize("plan", ["no braces here", "{}", "!refusal", "!cut", "!500", "!429", "!html"])
def test_an_unusable_answer_is_told_and_measured_instead(drawn: Path, plan: str) -> None:
    notes: list[str] = []
    with FakeChat(plan) as server:
        card = _openai(server, notes).style_card(drawn)
    assert card == make_vision().style_card(drawn)
    assert len(notes) == 1
    assert "embedded analyser" in notes[0]
    assert KEY not in notes[0]


def test_a_refused_key_is_never_covered_up(drawn: Path) -> None:
    with FakeChat("!401") as server, pytest.raises(ProviderRefused, match="401"):
        _openai(server).style_card(drawn)


def test_a_missing_key_is_named_except_for_a_server_on_this_machine(
    drawn: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(ProviderRefused, match="OPENAI_API_KEY"):
        make_vision("openai")
    with FakeChat(json.dumps(CARD)) as server:
        assert _openai(server, key=None).style_card(drawn).medium == CARD["medium"]


def _verdicts(changes: dict[int, dict[str, object]], numbers: Sequence[int]) -> str:
    plain = {
        "ok": True,
        "duplicate_of": 0,
        "has_text": False,
        "cut_off": False,
        "style_match": 4,
        "reason": "",
    }
    return json.dumps({"tiles": [{"number": n, **plain, **changes.get(n, {})} for n in numbers]})


def test_a_tile_must_pass_the_measures_and_the_model(drawn: Path) -> None:
    tiles = [*_tiles(3), np.full((160, 160, 3), 60, np.uint8)]
    answer = _verdicts({2: {"ok": False, "has_text": True, "reason": "letters"}}, range(1, 5))
    with FakeChat(answer) as server:
        verdicts = _openai(server).check_tiles(tiles, subjects=["a", "b", "c", "d"], style=drawn)
        assert "2. b" in json.dumps(server.asked[0]["messages"])
    measured = make_vision().check_tiles(tiles, subjects=["a"] * 4, style=drawn)
    assert verdicts[1].reason in ("letters", measured[1].reason)
    assert not verdicts[1].ok
    assert verdicts[1].has_text is True
    assert (verdicts[3].ok, verdicts[3].reason) == (False, "blank")
    assert verdicts[0].style_match == 4


def test_an_answer_that_leaves_a_tile_out_is_no_verdict() -> None:
    with pytest.raises(ProviderError, match="tile 2 of 3"):
        read_tiles(json.loads(_verdicts({}, [1, 3])), 3)


def test_whether_an_image_followed_its_order(drawn: Path) -> None:
    with FakeChat('{"state": "fail", "note": "shows a man"}') as server:
        verdict = _openai(server).follows(drawn, "a fox in snow")
    assert (verdict.state, verdict.note) == ("fail", "shows a man")


@pytest.mark.parametrize("text", ['{"a": 1}', 'so: {"a": 1} done', '{bad {"a": 1}', '```\n{"a": 1}\n```'])
def test_json_is_found_however_it_is_wrapped(text: str) -> None:
    assert extract(text) == {"a": 1}


def test_a_card_without_its_sentence_is_refused() -> None:
    with pytest.raises(ProviderError, match="sentence"):
        read_card({**CARD, "sentence": ""}, source="x")


def test_unknown_kinds_and_missing_models_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nose"):
        make_vision("nose")
    with pytest.raises(UsageError, match="needs a model"):
        make_vision("local")
    with pytest.raises(ProviderError, match="cannot be read"):
        make_vision().style_card(tmp_path / "none.png")
