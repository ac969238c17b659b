"""A real server that draws with the embedded base: progress, results, cancelling, kills, a full queue."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import httpx2
import psutil
import pytest

from service_maker import IDENTITY, STYLE, Service, add_mini_kit, make_workspace, serving
from talent_factory.core.errors import KitError, UsageError
from talent_factory.core.workspace import Workspace
from talent_factory.foundry.persona_book import add_persona, compose
from talent_factory.foundry.recipe import read_recipe
from talent_factory.service.client import ServiceFault
from talent_factory.service.wire import Job, RenderAsk

pytestmark = pytest.mark.slow

Seen = TypeVar("Seen")
PROMPT = "ink portrait of dot_test woman, smiling"


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    return make_workspace(tmp_path / "workspace")


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(make_workspace(tmp_path_factory.mktemp("workspace"))) as running:
        yield running


def order(*, images: int, steps: int = 2, batch: int = 1) -> RenderAsk:
    return RenderAsk(
        kits=(f"{IDENTITY}:0.5",), prompts=(PROMPT,), seeds=tuple(range(images)), steps=steps, batch=batch
    )


def until(look: Callable[[], Seen], *, seconds: float = 120.0) -> Seen:
    """What `look` gives as soon as it is something."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if seen := look():
            return seen
        time.sleep(0.05)
    raise AssertionError("it did not come to that")


def inodes(service_workspace: Path, job: Job) -> dict[str, int]:
    folder = service_workspace / "service" / "jobs" / job.id / "images"
    return {path.name: path.stat().st_ino for path in folder.glob("[0-9]*.png")} if folder.is_dir() else {}


def test_a_job_is_drawn_told_and_fetched(standing: Service, tmp_path: Path) -> None:
    with standing.client() as client:
        ask = order(images=3).model_copy(update={"kits": (f"{IDENTITY}:0.5", f"{STYLE}:0.3")})
        job = client.render(ask, key="first")
        assert client.render(ask, key="first").id == job.id
        with pytest.raises(UsageError, match="another request"):
            client.render(order(images=1), key="first")
        told = list(client.events(job.id))
        assert told[-1].kind == "done"
        assert [event.id for event in told] == list(range(1, len(told) + 1))
        last = [event.data for event in told if event.kind == "progress"][-1]
        assert last["done"] == last["total"]
        assert list(client.events(job.id, after=told[-2].id)) == [told[-1]]
        ended = client.job(job.id)
        assert (ended.state, ended.done, ended.total) == ("done", 3, 3)
        image = tmp_path / "image.png"
        image.write_bytes(client.image(job.id, 2))
        recipe = read_recipe(image)
        assert (recipe.prompt, recipe.seed) == (PROMPT, 1)
        assert [kit.id for kit in recipe.kits] == [IDENTITY, STYLE]
        with pytest.raises(ServiceFault, match="no image 4"):
            client.image(job.id, 4)
        assert [item.id for item in client.jobs().jobs] == [job.id]


def test_a_cancelled_job_stops_and_keeps_what_is_finished(standing: Service) -> None:
    with standing.client() as client:
        job = client.render(order(images=60, steps=8))
        until(lambda: client.job(job.id).done >= 2)
        assert client.cancel(job.id).state == "cancelled"
        assert list(client.events(job.id))[-1].kind == "cancelled"
        after = client.render(order(images=1))
        assert client.wait(after.id).state == "done"
        kept = client.job(job.id)
        assert kept.state == "cancelled"
        assert 2 <= kept.done < 60
        assert client.cancel(job.id).state == "cancelled"


def test_a_job_shows_itself_while_it_is_drawn_and_on_one_page_after(standing: Service) -> None:
    with standing.client() as client:
        ask = order(images=1, steps=12).model_copy(update={"preview": 2})
        job = client.render(RenderAsk.model_validate(ask.model_dump(mode="json", exclude_unset=True)))
        told = list(client.events(job.id))
        shown = [event.data for event in told if event.kind == "preview"]
        assert shown
        assert all(set(data) == {"step", "steps"} for data in shown)
        assert client.sheet(job.id).startswith(b"\x89PNG")
        with pytest.raises(ServiceFault, match="no preview"):
            client.job_preview(job.id)


def test_a_waiting_job_can_be_cancelled(standing: Service) -> None:
    with standing.client() as client:
        first, second = client.render(order(images=20, steps=8)), client.render(order(images=2))
        assert client.cancel(second.id).state == "cancelled"
        client.cancel(first.id)
        assert client.wait(second.id).state == "cancelled"
        assert client.job(second.id).done == 0


def test_a_worker_that_is_killed_loses_no_job_and_no_image(workspace: Path) -> None:
    with serving(workspace) as service, service.client() as client:
        job, waiting = client.render(order(images=24, steps=6)), client.render(order(images=1))
        until(lambda: client.job(job.id).done >= 4)
        (worker,) = service.workers()
        worker.kill()
        psutil.wait_procs([worker], timeout=30)
        kept = inodes(workspace, job)
        assert client.wait(job.id).state == "done"
        assert client.wait(waiting.id).state == "done"
        finished = inodes(workspace, job)
        assert len(finished) == 24
        assert {name: finished[name] for name in kept} == kept


def test_a_server_that_is_killed_loses_no_job_and_no_image(workspace: Path) -> None:
    service = Service(workspace)
    with service.client() as client:
        job = client.render(order(images=24, steps=6), key="same")
        until(lambda: client.job(job.id).done >= 4)
        workers = service.workers()
        service.kill()
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert not alive, "a worker outlived its server"
    kept = inodes(workspace, job)
    assert 4 <= len(kept) < 24
    with serving(workspace) as again, again.client() as client:
        assert client.render(order(images=24, steps=6), key="same").id == job.id
        assert client.wait(job.id).state == "done"
    finished = inodes(workspace, job)
    assert len(finished) == 24
    assert {name: finished[name] for name in kept} == kept


def test_two_devices_draw_at_a_time_and_one_takes_over_for_both(workspace: Path) -> None:
    service = Service(workspace, devices=2)
    with service.client() as client:
        jobs = [client.render(order(images=16, steps=6), key=f"key {number}") for number in range(2)]
        until(lambda: all(client.job(job.id).done for job in jobs))
        assert {client.job(job.id).state for job in jobs} == {"running"}
        workers = service.workers()
        assert len(workers) == 2
        service.kill()
    psutil.wait_procs(workers, timeout=60)
    kept = [inodes(workspace, job) for job in jobs]
    with serving(workspace) as alone, alone.client() as client:
        for job, before in zip(jobs, kept, strict=True):
            assert client.wait(job.id).state == "done"
            after = inodes(workspace, job)
            assert len(after) == 16
            assert {name: after[name] for name in before} == before


def test_a_saved_persona_draws_itself(workspace: Path) -> None:
    place = Workspace(workspace)
    words = {"prompts": ["ink portrait of {subject}"], "draw": {"steps": 2, "seed": 7}}
    add_persona(place.personas, compose("kairo", [f"{IDENTITY}:0.6"], root=place.talents, words=words))
    (place.personas / "broken.json").write_text("{")
    with serving(workspace) as service, service.client() as client:
        assert [(item.id, item.kits) for item in client.personas().personas] == [("kairo", (IDENTITY,))]
        assert client.persona("kairo")["base"]["name"] == "mini"
        job = client.wait(client.render(RenderAsk(persona="kairo")).id)
        assert (job.state, job.total) == ("done", 1)
        image = workspace / "image.png"
        image.write_bytes(client.image(job.id, 1))
        recipe = read_recipe(image)
        assert (recipe.seed, recipe.steps, recipe.kits[0].weight) == (7, 2, 0.6)
        add_mini_kit(workspace, IDENTITY, seed=9)
        with pytest.raises(KitError, match="changed since persona kairo was saved"):
            client.render(RenderAsk(persona="kairo"))


def test_a_server_that_ends_politely_goes_on_later(workspace: Path) -> None:
    with serving(workspace) as service, service.client() as client:
        job = client.render(order(images=40, steps=8))
        until(lambda: client.job(job.id).done >= 1)
        follower = client.events(job.id)
        next(follower)
        code, said = service.end()
        assert code == 0
        assert "Traceback" not in said
    kept = inodes(workspace, job)
    assert 1 <= len(kept) < 40
    with serving(workspace) as again, again.client() as client:
        until(lambda: client.job(job.id).done > len(kept))
        client.cancel(job.id)
    finished = inodes(workspace, job)
    assert {name: finished[name] for name in kept} == kept


def test_a_full_queue_says_when_to_come_back(workspace: Path) -> None:
    with serving(workspace, "--queue-limit", "2") as service, service.client() as client:
        jobs = [client.render(order(images=200, steps=20), key=f"key {number}") for number in range(2)]
        with pytest.raises(ServiceFault, match="2 jobs wait or run") as told:
            client.render(order(images=1))
        assert (told.value.status, told.value.retry_after_s) == (503, 5.0)
        assert client.render(order(images=200, steps=20), key="key 1").id == jobs[1].id
        for job in jobs:
            client.cancel(job.id)
        assert client.wait(client.render(order(images=1)).id).state == "done"


def test_a_kit_that_changed_while_its_job_waited_is_named(workspace: Path) -> None:
    with serving(workspace) as service, service.client() as client:
        first, second = client.render(order(images=40, steps=8)), client.render(order(images=1), key="mine")
        add_mini_kit(workspace, IDENTITY, seed=3)
        client.cancel(first.id)
        ended = client.wait(second.id)
        assert ended.state == "failed"
        assert f"{IDENTITY} changed after the job was taken in" in ended.message
        assert ended.remedy == "send the request again"
        (workspace / "talents" / "avatar" / IDENTITY).rename(workspace / "away")
        assert client.render(order(images=1), key="mine").id == second.id


def test_without_a_token_loopback_answers_only_to_its_own_name(workspace: Path) -> None:
    with serving(workspace, "--no-auth") as service:
        assert service.token is None
        with httpx2.Client(base_url=service.url, trust_env=False) as anyone:
            assert anyone.get("/kits").json()["total"] == 2
            assert anyone.get("/kits", headers={"Host": "rebound.example"}).status_code == 421


def test_a_job_can_be_asked_for_in_the_plain_way_of_the_web(standing: Service) -> None:
    headers = {"Authorization": f"Bearer {standing.token}", "Idempotency-Key": "plain"}
    with httpx2.Client(base_url=standing.url, headers=headers, trust_env=False) as raw:
        first = raw.post("/renders", json={"kits": [IDENTITY], "prompts": ["x"], "steps": 1})
        assert first.status_code == 202
        job = first.json()
        assert first.headers["Location"] == f"/jobs/{job['id']}"
        with raw.stream("GET", f"/jobs/{job['id']}/events") as stream:
            assert stream.headers["Content-Type"].startswith("text/event-stream")
            lines = list(stream.iter_lines())
        assert "event: done" in lines
        assert raw.get(f"/jobs/{job['id']}/images/1").headers["Content-Type"] == "image/png"
