"""Replicate: predictions over plain HTTP, each of them found again by the seed that only it carries."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from talent_factory.core.errors import (
    ProviderError,
    ProviderRefused,
    ProviderUnreachable,
    ResultExpired,
    SubmitUnknown,
)
from talent_factory.providers.address import api_key, endpoint
from talent_factory.providers.http import Answer, Http, Judge, Service
from talent_factory.providers.models import SAFETY_REQUESTED, model_card
from talent_factory.providers.pictures import Portraits, checked_image
from talent_factory.providers.port import Capabilities, EditRequest, JobState, JobStatus

NAME = "replicate"
TOKEN_VARIABLE = "REPLICATE_API_TOKEN"
BASE_VARIABLE = "REPLICATE_BASE_URL"
TOKEN_PAGE = "https://replicate.com/account/api-tokens"
_BASE = "https://api.replicate.com"
_OPTIONS = {"safety_tolerance", "output_format", "prompt_upsampling"}
_STATES: dict[str, JobState] = {
    "starting": "queued",
    "processing": "running",
    "succeeded": "succeeded",
    "failed": "failed",
    "canceled": "cancelled",
    "aborted": "failed",
}
# E1000 unknown, E1001 out of memory, E6716 could not start: another try may well succeed
_TRANSIENT = {"E1000", "E1001", "E6716", "aborted", "no-output"}
# Inputs, and with them the seeds that jobs are found by, are kept for an hour.
_FINDABLE = timedelta(minutes=65)
# Clocks and the moment a request takes to arrive: look this much further back than asked.
_MARGIN = timedelta(minutes=1)
_MAX_PAGES = 100


class ReplicateEditor:
    """An `ImageEditor` on Replicate's HTTP API.

    The token comes from `token` or REPLICATE_API_TOKEN, the address from `base_url` or REPLICATE_BASE_URL
    (with or without /v1). The portrait travels inside each request (below 256 KB), or with `upload` once, as
    a file of the account. Pictures come at about one megapixel whatever `long_side` says. Options of a
    request: safety_tolerance (6 unless told; clamped to the model's range), output_format (jpg, png),
    prompt_upsampling (true, false).
    """

    def __init__(
        self,
        *,
        model: str | None = None,
        token: str | None = None,
        base_url: str | None = None,
        models_file: Path | None = None,
        upload: bool = False,
    ) -> None:
        self._card = model_card(NAME, model, own=models_file)
        base = endpoint(base_url, variables=[BASE_VARIABLE], default=_BASE, strip="/v1")
        key = api_key(token, variables=[TOKEN_VARIABLE], service="Replicate", page=TOKEN_PAGE)
        service = Service("Replicate", base, key_variable=TOKEN_VARIABLE, key_page=TOKEN_PAGE)
        self._http = Http(service, headers={"authorization": f"Bearer {key}"})
        self._portraits = Portraits()
        self._upload = upload
        self._uploaded: dict[str, str] = {}
        self._outputs: dict[str, str] = {}
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """The word under which manifests record this provider."""
        return NAME

    def capabilities(self) -> Capabilities:
        """What the registry says of the chosen model."""
        return self._card.capabilities()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def payload(self, request: EditRequest) -> dict[str, object]:
        """The request's body with the portrait as its digest, and what was asked for but not sent."""
        portrait = self._portraits.of(request).digest()
        body = {"input": self._input(request, portrait)}
        return {"method": "POST", "path": self._path, "body": body, "clamped": self._clamped(request)}

    def submit(self, request: EditRequest) -> str:
        """Create a prediction. Raises ProviderRefused before anything is sent when the model cannot do it."""
        picture = self._portraits.of(request)
        self._input(request, "")  # what cannot be asked for is refused before a portrait is uploaded
        source = self._file_url(picture.data, picture.kind) if self._upload else picture.data_url()
        answer = self._http.post(self._path, {"input": self._input(request, source)}, submit=True)
        job_id = answer.facts().get("id")
        if not isinstance(job_id, str) or not _is_id(job_id):
            raise SubmitUnknown(
                "Replicate accepted a submission but named no prediction",
                remedy="resume looks for it before anything is sent again",
            )
        return job_id

    def poll(self, job_id: str) -> JobStatus:
        """State of a prediction; E005 is `flagged`, an aborted one was never charged."""
        facts = self._prediction(job_id)
        word = str(facts.get("status"))
        state = _STATES.get(word)
        if state is None:
            raise ProviderUnreachable(f"Replicate says {word[:40]!r} of job {job_id}: not understood")
        if state == "succeeded":
            if _output(facts) is None and not facts.get("data_removed"):
                return JobStatus(
                    state="failed", code="no-output", message="succeeded without an image", transient=True
                )
            return JobStatus(state=state, billed=True)
        if state != "failed":
            return JobStatus(state=state)
        message = self._http.say(facts.get("error") or word)
        found = re.search(r"\bE\d{3,5}\b", message)
        flagged = "flagged as sensitive" in message.lower()
        code = found[0] if found else "E005" if flagged else word
        return JobStatus(
            state=state,
            code=code,
            message=message,
            flagged=flagged or code == "E005",
            transient=code in _TRANSIENT,
            billed=False if word == "aborted" else None,
        )

    def fetch(self, job_id: str) -> bytes:
        """Download the image.

        Raises ResultExpired an hour after it was made, ProviderUnreachable when it came incomplete.
        """
        with self._lock:
            known = self._outputs.get(job_id)
        if known is not None:
            try:
                return checked_image(self._http.download(known), service="Replicate")
            except ResultExpired:
                # the address may have been renewed: ask once more before giving the image up
                with self._lock:
                    self._outputs.pop(job_id, None)
        facts = self._prediction(job_id)
        if facts.get("data_removed"):
            raise ResultExpired(
                f"Replicate removed the image of job {job_id}", remedy="it is kept for an hour; cast again"
            )
        url = _output(facts)
        if facts.get("status") != "succeeded" or url is None:
            raise ProviderError(
                f"job {job_id} has no image: Replicate says {str(facts.get('status'))[:40]!r}",
                remedy="poll it until it has succeeded",
            )
        return checked_image(self._http.download(url), service="Replicate")

    def cancel(self, job_id: str) -> None:
        """Give a prediction up. One that runs already is stopped and charged all the same."""
        _check_id(job_id)
        self._http.post(f"/v1/predictions/{job_id}/cancel", judge=self._unknown(job_id))

    def find(self, seed: int, *, since: datetime | None = None) -> str | None:
        """The newest prediction of this model with `seed`, among those since (or of the last hour).

        Reads the account's list, newest first; the server's clock decides what "since" is.
        """
        params: dict[str, str] = {}
        oldest: datetime | None = None
        for _ in range(_MAX_PAGES):
            asked = datetime.now(UTC)
            answer = self._http.get("/v1/predictions", params=params)
            if oldest is None:
                now = answer.moment or asked
                oldest = now - _FINDABLE if since is None else since + (now - asked) - _MARGIN
            results = answer.facts().get("results")
            if not isinstance(results, list):
                raise ProviderUnreachable("Replicate's list of predictions is not understood")
            for item in results:
                if not isinstance(item, Mapping):
                    continue
                created = _moment(item.get("created_at"))
                if created is not None and created < oldest:
                    return None
                if self._fits(item, seed):
                    return str(item["id"])
            cursor = parse_qs(urlsplit(str(answer.facts().get("next") or "")).query).get("cursor")
            if not cursor:
                return None
            params = {"cursor": cursor[0]}
        return None

    @property
    def _path(self) -> str:
        return f"/v1/models/{self._card.id}/predictions"

    def _fits(self, item: Mapping[str, object], seed: int) -> bool:
        given, job_id = item.get("input"), item.get("id")
        return (
            isinstance(given, Mapping)
            and given.get("seed") == seed
            and item.get("model") in (None, self._card.id)
            and isinstance(job_id, str)
            and _is_id(job_id)
        )

    def _input(self, request: EditRequest, portrait: object) -> dict[str, object]:
        """The model's input. Raises ProviderRefused for what this model does not take."""
        card = self._card
        if not request.prompt.strip():
            raise ProviderRefused(f"slot {request.slot}: {card.name} reads words, and there is no prompt")
        if not card.any_aspect and request.aspect not in card.aspects:
            raise ProviderRefused(
                f"slot {request.slot}: {card.name} makes no {request.aspect} pictures",
                remedy="one of " + ", ".join(card.aspects),
            )
        if request.seed > card.max_seed:
            raise ProviderRefused(f"slot {request.slot}: {card.name} takes seeds up to {card.max_seed}")
        unknown = set(request.options) - _OPTIONS
        if unknown:
            raise ProviderRefused(
                f"slot {request.slot}: Replicate knows no option {min(unknown)!r}",
                remedy="one of " + ", ".join(sorted(_OPTIONS)),
            )
        body: dict[str, object] = dict(card.fixed)
        chosen = {name: value for name, value in request.options.items() if name != "safety_tolerance"}
        body.update(
            {name: {"true": True, "false": False}.get(value, value) for name, value in chosen.items()}
        )
        body |= {"prompt": request.prompt, "aspect_ratio": request.aspect, "seed": request.seed}
        body[card.input["portrait"]] = [portrait] if card.input.get("portraits") == "list" else portrait
        safety = card.clamp_safety(_safety(request))
        return body if safety is None else body | {"safety_tolerance": safety}

    def _clamped(self, request: EditRequest) -> dict[str, object]:
        wanted = _safety(request)
        sent = self._card.clamp_safety(wanted)
        return {} if sent == wanted else {"safety_tolerance": {"requested": wanted, "sent": sent}}

    def _file_url(self, data: bytes, kind: str) -> str:
        """The address of the portrait among the account's files, uploaded at its first use."""
        from talent_factory.core.files import sha256_bytes

        digest = sha256_bytes(data)
        with self._lock:  # held through the upload: forty threads want the same portrait at once
            if digest not in self._uploaded:
                suffix = kind.partition("/")[2].replace("jpeg", "jpg")
                part = ("content", (f"portrait.{suffix}", data, kind))
                urls = self._http.post_form("/v1/files", files=[part]).facts().get("urls")
                url = urls.get("get") if isinstance(urls, Mapping) else None
                if not isinstance(url, str):
                    raise ProviderUnreachable("Replicate took the portrait but named no address for it")
                self._uploaded[digest] = url
            return self._uploaded[digest]

    def _prediction(self, job_id: str) -> dict[str, object]:
        _check_id(job_id)
        answer = self._http.get(f"/v1/predictions/{job_id}", judge=self._unknown(job_id))
        facts = answer.facts()
        url = _output(facts)
        if url is not None:
            with self._lock:
                self._outputs[job_id] = url
        return facts

    def _unknown(self, job_id: str) -> Judge:
        def judge(answer: Answer) -> ProviderError | None:
            if answer.status != 404:
                return None
            return ProviderError(f"Replicate has no job {job_id!r}", remedy="check the account of the token")

        return judge


def _safety(request: EditRequest) -> int:
    text = request.options.get("safety_tolerance", str(SAFETY_REQUESTED))
    if not re.fullmatch(r"\d", text):
        raise ProviderRefused(
            f"slot {request.slot}: safety_tolerance {text!r} is no number from 0 to 6", remedy="say 0 to 6"
        )
    return int(text)


def _output(facts: Mapping[str, object]) -> str | None:
    output = facts.get("output")
    first = output[0] if isinstance(output, list) and output else output
    return first if isinstance(first, str) and first else None


def _is_id(text: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9_-]{1,128}", text) is not None


def _check_id(job_id: str) -> None:
    if not _is_id(job_id):
        raise ProviderError(f"{job_id[:60]!r} is no id of a Replicate job")


def _moment(value: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
