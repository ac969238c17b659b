"""A real server on loopback: what it shows, what it refuses, and in which words. Nothing is drawn here."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from service_maker import IDENTITY, STYLE, Service, make_workspace, serving
from talent_factory.core.errors import KitError, UsageError
from talent_factory.service.client import FoundryClient, ServiceFault
from talent_factory.service.wire import MixAsk


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    workspace = make_workspace(tmp_path_factory.mktemp("workspace"))
    (workspace / "secret.png").write_bytes(b"not for you")
    with serving(workspace, "--allow-origin", "https://studio.example") as running:
        yield running


@pytest.fixture
def client(service: Service) -> Iterator[FoundryClient]:
    with service.client() as opened:
        yield opened


@pytest.fixture
def raw(service: Service) -> Iterator[httpx2.Client]:
    headers = {"Authorization": f"Bearer {service.token}"}
    with httpx2.Client(base_url=service.url, headers=headers, trust_env=False) as opened:
        yield opened


def test_kits_are_listed_opened_found_and_shown(client: FoundryClient) -> None:
    page = client.kits()
    assert [kit.id for kit in page.kits] == [IDENTITY, STYLE]
    assert page.total == 2
    assert [kit.id for kit in client.kits(kind="style").kits] == [STYLE]
    assert client.kits(base="sdxl").total == 0
    assert client.kits(limit=1, offset=1).kits[0].id == STYLE
    kit = client.kit(IDENTITY)
    assert kit.token == "dot_test"
    assert kit.rank == 2
    assert kit.manifest["id"] == IDENTITY
    assert kit.has_preview
    assert client.kit_preview(IDENTITY).startswith(b"\x89PNG")
    assert [hit.id for hit in client.search("wobble")] == [STYLE]
    assert client.search("zzzzzz") == []


def test_bases_are_told_by_name_and_kits_say_which_fits(client: FoundryClient) -> None:
    assert [(base.name, base.family) for base in client.bases()] == [("mini", "mini")]
    assert {kit.family for kit in client.kits(family="mini").kits} == {"mini"}
    assert client.kits(family="sdxl").total == 0


def test_a_mix_is_checked_before_anything_is_drawn(client: FoundryClient) -> None:
    answer = client.check_mix(MixAsk(kits=(f"{IDENTITY}:1.0", f"{STYLE}:0.7@0.3-1")))
    assert [(kit.id, kit.weight, kit.begin) for kit in answer.kits] == [
        (IDENTITY, 1.0, 0.0),
        (STYLE, 0.7, 0.3),
    ]
    assert "add up" in answer.warning
    (pair,) = answer.pairs
    assert {pair.first, pair.second} == {IDENTITY, STYLE}
    assert 0 <= pair.score <= 1
    assert pair.words
    with pytest.raises(KitError, match="did you mean"):
        client.check_mix(MixAsk(kits=(IDENTITY, "avatar.style.wobbl")))
    with pytest.raises(UsageError, match="is no weight"):
        client.check_mix(MixAsk(kits=(f"{IDENTITY}:7",)))


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        ({"kits": [IDENTITY], "base": "/etc"}, "no base"),
        ({"kits": ["../../x"]}, "no talent id"),
        ({"kits": [IDENTITY], "size": [4096, 4096]}, "size 4096x4096"),
        ({"kits": [IDENTITY], "size": [65, 64]}, "size 65x64"),
        ({"kits": [IDENTITY], "prompt": "x"}, "prompt: Extra"),
        ({"kits": [IDENTITY], "steps": 100_000}, "less than or equal"),
        ({"kits": [IDENTITY], "seeds": list(range(256)), "prompts": ["a", "b"]}, "prompts times seeds"),
        ({"kits": [IDENTITY], "persona": "kairo"}, "brings its own kits"),
        ({"persona": "nobody"}, "no persona nobody"),
        ({"persona": "../secret"}, "no persona id"),
        ({}, "nothing to draw"),
    ],
)
def test_what_cannot_be_drawn_is_told_in_one_line(
    raw: httpx2.Client, service: Service, ask: dict[str, object], words: str
) -> None:
    answer = raw.post("/renders", json=ask)
    assert answer.status_code == 422
    fault = answer.json()["error"]
    assert words in fault["message"]
    assert fault["remedy"]
    assert str(service.workspace) not in answer.text


@pytest.mark.parametrize(
    "path",
    [
        "/kits/..%2F..%2Fsecret.png", "/kits/%2Fetc%2Fpasswd", "/kits/avatar.identity.nobody", "/jobs/..",
        "/kits/avatar.identity..%00/preview", f"/kits/{IDENTITY}/preview/../../x", "/jobs/%2e%2e%2f/images/1",
        "/jobs/000000000000000000000000", "/jobs/000000000000000000000000/images/1",
        "/jobs/000000000000000000000000/events", "/jobs/A00000000000000000000000/preview", "/secret.png",
        "/personas/nobody", "/personas/..%2Fsecret", "/service/token", "/docs", "/redoc",
    ],
)  # fmt: skip
def test_no_path_leads_out(raw: httpx2.Client, service: Service, path: str) -> None:
    answer = raw.get(path)
    assert answer.status_code in (404, 422)
    assert set(answer.json()["error"]) == {"kind", "message", "remedy"}
    assert str(service.workspace) not in answer.text
    assert "not for you" not in answer.text


def test_a_link_in_a_kit_is_not_followed(raw: httpx2.Client, service: Service) -> None:
    folder = service.workspace / "talents" / "avatar" / STYLE
    preview = folder / "preview.png"
    kept = preview.read_bytes()
    preview.unlink()
    preview.symlink_to(service.workspace / "secret.png")
    try:
        answer = raw.get(f"/kits/{STYLE}/preview")
        assert b"not for you" not in answer.content
    finally:
        preview.unlink()
        preview.write_bytes(kept)


def test_without_the_token_only_health_answers(service: Service) -> None:
    with httpx2.Client(base_url=service.url, trust_env=False) as stranger:
        assert stranger.get("/health").json()["status"] == "ok"
        for path in ("/kits", "/jobs", "/metrics", "/openapi.json", "/nowhere", "/health/../kits"):
            answer = stranger.get(path)
            assert answer.status_code == 401
            assert answer.headers["WWW-Authenticate"] == "Bearer"
        for given in ("Bearer wrong", f"Basic {service.token}", f"Bearer {service.token}x", "Bearer"):
            assert stranger.get("/kits", headers={"Authorization": given}).status_code == 401
    assert stat.S_IMODE((service.workspace / "service" / "token").stat().st_mode) == 0o600
    assert stat.S_IMODE((service.workspace / "service").stat().st_mode) == 0o700


def test_pages_of_other_hosts_may_not_ask_unless_named(raw: httpx2.Client) -> None:
    assert raw.get("/kits", headers={"Origin": "https://evil.example"}).status_code == 403
    assert raw.get("/kits", headers={"Host": "evil.example"}).status_code == 421
    allowed = raw.get("/kits", headers={"Origin": "https://studio.example"})
    assert allowed.status_code == 200
    assert allowed.headers["Access-Control-Allow-Origin"] == "https://studio.example"
    asked = {"Origin": "https://studio.example", "Access-Control-Request-Method": "POST"}
    assert raw.options("/renders", headers=asked).status_code == 200


def test_large_and_strange_bodies_are_refused(raw: httpx2.Client) -> None:
    assert raw.post("/renders", content=b"x" * 300_000).status_code == 413
    endless = (b"y" * 1000 for _ in range(400))
    assert raw.post("/renders", content=endless).status_code == 413
    json_type = {"Content-Type": "application/json"}
    for body in (b"", b"{", b"[]", b"\xff", b'{"kits": NaN}', b"[" * 5000):
        answer = raw.post("/renders", content=body, headers=json_type)
        assert answer.status_code in (400, 422), body[:10]
        assert answer.json()["error"]["kind"]
    assert raw.put("/kits").status_code == 405
    assert raw.get("/search").status_code == 422
    assert raw.get("/kits", params={"limit": 10**9}).status_code == 422


def test_the_interface_describes_itself(raw: httpx2.Client) -> None:
    paths = raw.get("/openapi.json").json()["paths"]
    told = {(path, method) for path, methods in paths.items() for method in methods}
    assert {("/kits", "get"), ("/renders", "post"), ("/jobs/{job_id}", "delete"), ("/mixes", "post")} <= told
    names = [told["operationId"] for methods in paths.values() for told in methods.values()]
    assert "render_images" in names
    assert len(set(names)) == len(names)
    assert not [name for name in names if "__" in name]
    assert "text/event-stream" in paths["/jobs/{job_id}/events"]["get"]["responses"]["200"]["content"]
    metrics = raw.get("/metrics").text
    assert 'talent_answers_total{status="200"}' in metrics
    assert "talent_jobs_active 0" in metrics


def test_a_kit_that_comes_or_goes_is_seen(client: FoundryClient, service: Service) -> None:
    folder = service.workspace / "talents" / "avatar" / STYLE
    away = service.workspace / "away"
    os.rename(folder, away)
    try:
        with pytest.raises(ServiceFault, match="no valid kit") as told:
            client.kit(STYLE)
        assert told.value.status == 404
    finally:
        os.rename(away, folder)
    assert client.kit(STYLE).id == STYLE


def test_nothing_listens_to_the_world_without_a_token(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="without a token"):
        Service(tmp_path, "--host", "0.0.0.0", "--no-auth")


def test_a_base_that_is_not_here_is_told_before_anything_is_taken_in(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="BaseError"):
        Service(tmp_path, "--base", str(tmp_path / "nowhere"))


def test_a_second_service_of_a_workspace_and_a_readable_token_are_refused(
    service: Service, tmp_path: Path
) -> None:
    with pytest.raises(RuntimeError, match="in use by process"):
        Service(service.workspace)
    loose = tmp_path / "token"
    loose.write_text("x" * 40)
    loose.chmod(0o644)
    with pytest.raises(RuntimeError, match="chmod 600"):
        Service(tmp_path, "--token-file", str(loose))
