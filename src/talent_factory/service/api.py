"""The routes of the service: thin, each a call of one function of the house."""

# FastAPI reads the annotations of routes at run time, so what they name is imported here, not late.
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Depends, FastAPI, Header, Query, Request, Response
from fastapi.responses import FileResponse, PlainTextResponse, StreamingResponse
from fastapi.security import HTTPBearer

from talent_factory import __version__
from talent_factory.core.errors import KitError
from talent_factory.core.workspace import Workspace
from talent_factory.foundry.render import image_name
from talent_factory.foundry.session import SHEET_FILE
from talent_factory.kits.manifest import PREVIEW_FILE
from talent_factory.service.faults import NotThere, add_handlers
from talent_factory.service.gate import Counts
from talent_factory.service.order import check_mix, check_render, kit_digests, mix_answer
from talent_factory.service.personas import persona_detail, persona_list
from talent_factory.service.places import images_folder, job_folder, regular_file
from talent_factory.service.queue import Jobs, ServiceBusy
from talent_factory.service.shelf import Shelf
from talent_factory.service.sse import events
from talent_factory.service.wire import (
    BaseSummary,
    Family,
    FaultAnswer,
    Health,
    Job,
    JobPage,
    KitDetail,
    KitPage,
    KitSummary,
    MixAnswer,
    MixAsk,
    PersonaPage,
    RenderAsk,
)

_FAULTS: dict[int | str, dict[str, Any]] = {
    status: {"model": FaultAnswer} for status in (401, 403, 404, 408, 409, 413, 421, 422, 503)
}
_PNG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/png": {}}}}
_STREAM: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {}}}}
_ABOUT = """Kits, mixes, renders and personas of one workspace.

A render is a job: POST /renders answers at once with its id, GET /jobs/ID/events tells how far it is, and its
images are at /jobs/ID/images/1 and so on. Every refusal is {"error": {"kind", "message", "remedy"}}; one with
status 503 says in the header Retry-After how many seconds to wait."""
_MAX_STREAMS = 128
Found = TypeVar("Found")
Limit = Annotated[int, Query(ge=1, le=1000)]
Offset = Annotated[int, Query(ge=0, le=1_000_000)]
Key = Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=200)]
LastId = Annotated[int, Header(alias="Last-Event-ID", ge=0)]


@dataclass(frozen=True)
class House:
    """What the routes work with."""

    place: Workspace
    bases: Mapping[str, str]
    """Where they are, by the names that requests use."""
    shown: tuple[BaseSummary, ...]
    """What is told of them."""
    shelf: Shelf
    jobs: Jobs
    counts: Counts
    alive: Callable[[], int]
    """How many workers run."""
    ending: Callable[[], bool]
    """Whether the server is about to leave."""


def make_app(house: House) -> FastAPI:
    """The application; OpenAPI at /openapi.json, without the pages that load scripts from elsewhere."""
    app = FastAPI(
        title="Persona Foundry",
        version=__version__,
        description=_ABOUT,
        # names for those who make a client from the description
        generate_unique_id_function=lambda route: route.name,
        docs_url=None,
        redoc_url=None,
        responses=_FAULTS,
        # says in the description how to ask; who may is decided at the gate, before any route
        dependencies=[Depends(HTTPBearer(auto_error=False))],
    )
    add_handlers(app, house.place, house.bases)
    for routes in (
        _kits(house),
        _renders(house),
        _pictures(house),
        _stream(house),
        _personas(house),
        _state(house),
    ):
        app.include_router(routes)
    return app


def _kits(house: House) -> APIRouter:
    routes = APIRouter(tags=["kits"])

    @routes.get("/kits")
    def list_kits(
        kind: Literal["identity", "style"] | None = None,
        base: Annotated[str | None, Query(max_length=500)] = None,
        family: Family | None = None,
        limit: Limit = 100,
        offset: Offset = 0,
    ) -> KitPage:
        """Valid kits by id; `base` is the model in its makers' words, `family` what GET /bases says."""
        found = house.shelf.kits(kind=kind, base=base, family=family)
        return KitPage(kits=tuple(found[offset : offset + limit]), total=len(found))

    @routes.get("/kits/{talent_id}")
    def get_kit(talent_id: str) -> KitDetail:
        """One kit with its prompts and manifest."""
        return _or_not_there(lambda: house.shelf.kit(talent_id))

    @routes.get("/kits/{talent_id}/preview", response_class=FileResponse, responses=_PNG)
    def get_preview(talent_id: str) -> FileResponse:
        """The picture of a kit."""
        return FileResponse(_or_not_there(lambda: house.shelf.preview(talent_id)), media_type="image/png")

    @routes.get("/search")
    def search_kits(
        q: Annotated[str, Query(min_length=1, max_length=400)],
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
    ) -> list[KitSummary]:
        """Kits whose words fit best."""
        return house.shelf.search(q, limit=limit)

    return routes


def _renders(house: House) -> APIRouter:
    routes = APIRouter(tags=["renders"])

    @routes.get("/bases")
    def list_bases() -> list[BaseSummary]:
        """The models that requests may name as their base."""
        return list(house.shown)

    @routes.post("/mixes")
    def check_a_mix(ask: MixAsk) -> MixAnswer:
        """Whether kits can be used together, and how well they get along; nothing is kept or drawn."""
        return mix_answer(check_mix(ask, place=house.place, bases=house.bases), ask)

    @routes.post("/renders", status_code=202)
    def render_images(ask: RenderAsk, response: Response, idempotency_key: Key = None) -> Job:
        """Take a job in; the same Idempotency-Key with the same request is the same job."""
        # before the check: a kit that changed since must not hide the job from who asks for it again
        known = house.jobs.known(ask, key=idempotency_key) if idempotency_key else None
        job = known or _taken_in(house, ask, idempotency_key)
        response.headers["Location"] = f"/jobs/{job.id}"
        return job

    @routes.get("/jobs")
    def list_jobs(limit: Annotated[int, Query(ge=1, le=200)] = 50, offset: Offset = 0) -> JobPage:
        """Jobs, the newest first."""
        return JobPage(jobs=house.jobs.recent(limit=limit, offset=offset), active=house.jobs.active())

    @routes.get("/jobs/{job_id}")
    def get_job(job_id: str) -> Job:
        """How far a job is."""
        return house.jobs.get(job_id)

    @routes.delete("/jobs/{job_id}")
    def cancel_job(job_id: str) -> Job:
        """Cancel a job; what is finished is kept, and a job that is over stays as it is."""
        return house.jobs.cancel(job_id)

    return routes


def _pictures(house: House) -> APIRouter:
    routes = APIRouter(tags=["renders"])

    def picture(job_id: str, file: str, *, what: str, remedy: str, fresh: bool = False) -> FileResponse:
        path = regular_file(images_folder(house.place, job_id), file)
        if path is None:
            raise NotThere(f"job {job_id} has no {what}", remedy=remedy)
        headers = {"Cache-Control": "no-store"} if fresh else None
        return FileResponse(path, media_type="image/png", headers=headers)

    @routes.get("/jobs/{job_id}/images/{number}", response_class=FileResponse, responses=_PNG)
    def get_image(job_id: str, number: int) -> FileResponse:
        """Image 1, 2, ... of a job as PNG with its recipe inside."""
        name = image_name(max(number, 0))
        return picture(job_id, name, what=f"image {number}", remedy=f"GET /jobs/{job_id} says how many")

    @routes.get("/jobs/{job_id}/sheet", response_class=FileResponse, responses=_PNG)
    def get_sheet(job_id: str) -> FileResponse:
        """All images of a finished job on one page."""
        remedy = f"GET /jobs/{job_id} says whether it is done"
        return picture(job_id, SHEET_FILE, what="sheet", remedy=remedy)

    @routes.get("/jobs/{job_id}/preview", response_class=FileResponse, responses=_PNG)
    def get_job_preview(job_id: str) -> FileResponse:
        """What is being drawn, as far as it can be seen by now."""
        remedy = f"GET /jobs/{job_id}/events tells when"
        return picture(job_id, PREVIEW_FILE, what="preview", remedy=remedy, fresh=True)

    return routes


def _stream(house: House) -> APIRouter:
    routes = APIRouter(tags=["renders"])
    open_streams: set[int] = set()

    @routes.get("/jobs/{job_id}/events", response_class=StreamingResponse, responses=_STREAM)
    def follow_job(request: Request, job_id: str, last_event_id: LastId = 0) -> StreamingResponse:
        """The story of a job as server-sent events, from its beginning or after Last-Event-ID.

        `progress` {stage, done, total, unit, note}, `image` {number}, `preview` {step, steps} and `message`
        {text}; the last one is `done`, `failed` or `cancelled` {message, remedy}. A stream that ends without
        it was cut: ask again with the id of the last event that came.
        """
        house.jobs.get(job_id)
        if len(open_streams) >= _MAX_STREAMS:
            raise ServiceBusy(f"{_MAX_STREAMS} streams are open already")
        ticket = id(request)

        async def stream() -> Any:
            open_streams.add(ticket)
            try:
                story = events(
                    job_folder(house.place, job_id),
                    after=last_event_id,
                    outcome=lambda: house.jobs.outcome(job_id),
                    ending=house.ending,
                )
                async for piece in story:
                    yield piece
            finally:
                open_streams.discard(ticket)

        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        return StreamingResponse(stream(), media_type="text/event-stream", headers=headers)

    return routes


def _personas(house: House) -> APIRouter:
    routes = APIRouter(tags=["personas"])

    @routes.get("/personas")
    def list_personas() -> PersonaPage:
        """Saved personas that can be read."""
        return persona_list(house.place)

    @routes.get("/personas/{persona_id}")
    def get_persona(persona_id: str) -> dict[str, Any]:
        """One persona as it is saved."""
        return persona_detail(house.place, persona_id)

    return routes


def _state(house: House) -> APIRouter:
    routes = APIRouter(tags=["service"])

    @routes.get("/health")
    async def get_health() -> Health:
        """Whether there is someone to draw; needs no token."""
        # on the loop, so that it answers while all threads are waiting for something
        return Health(status="ok" if house.alive() else "degraded", version=__version__)

    @routes.get("/metrics", response_class=PlainTextResponse)
    def get_metrics() -> str:
        """Counts in the text form that Prometheus reads."""
        lines = [
            f'talent_answers_total{{status="{status}"}} {count}'
            for status, count in sorted(house.counts.answers.items())
        ]
        lines += [f"talent_jobs_active {house.jobs.active()}", f"talent_workers_alive {house.alive()}"]
        return "\n".join(lines) + "\n"

    return routes


def _taken_in(house: House, ask: RenderAsk, key: str | None) -> Job:
    session = check_render(ask, place=house.place, bases=house.bases)
    return house.jobs.submit(ask, total=len(session.order.shots), kits=kit_digests(session), key=key)


def _or_not_there(find: Callable[[], Found]) -> Found:
    try:
        return find()
    except KitError as error:
        raise NotThere(error.message, remedy=error.remedy) from None
