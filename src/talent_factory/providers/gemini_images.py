"""Gemini's image models: one call per picture, answered with the picture itself."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path

from talent_factory.core.errors import ProviderBusy, ProviderError, ProviderRefused
from talent_factory.providers.address import api_key, endpoint
from talent_factory.providers.asking import check_request
from talent_factory.providers.held import Answered, HeldPictures
from talent_factory.providers.http import Answer, Http, Service, retry_after
from talent_factory.providers.models import model_card
from talent_factory.providers.pictures import Picture, Portraits, checked_image
from talent_factory.providers.port import Capabilities, EditRequest, JobStatus

NAME = "gemini"
KEY_VARIABLES = ("GEMINI_API_KEY", "GOOGLE_API_KEY")
BASE_VARIABLE = "GOOGLE_GEMINI_BASE_URL"
KEY_PAGE = "https://aistudio.google.com/apikey"
_BASE = "https://generativelanguage.googleapis.com"
_OPTIONS = {"image_size"}
_TIMEOUT_S = 300.0
# A request may be 20 MB in all, a third more than its picture.
_PORTRAIT_BYTES = 8 << 20
_FINE = ("", "STOP", "FINISH_REASON_UNSPECIFIED")
# Reasons that another seed or other words may get around, and those that say "not this".
_FLAGS = re.compile(r"SAFETY|PROHIBITED|BLOCK|RECITATION|SPII|IMAGE_OTHER")


class GeminiImages:
    """An `ImageEditor` on the Gemini API.

    The key comes from `key`, GEMINI_API_KEY or GOOGLE_API_KEY, the address from `base_url` or
    GOOGLE_GEMINI_BASE_URL. `submit` returns when the picture is made; when the connection breaks before that,
    the picture may be paid and is lost. The API takes no seed that holds for pictures. Options of a request:
    image_size (1K, 2K, 4K; larger ones cost more).
    """

    def __init__(
        self,
        *,
        model: str | None = None,
        key: str | None = None,
        base_url: str | None = None,
        models_file: Path | None = None,
    ) -> None:
        self._card = model_card(NAME, model, own=models_file)
        base = endpoint(base_url, variables=[BASE_VARIABLE], default=_BASE, strip="/v1beta")
        secret = api_key(key, variables=KEY_VARIABLES, service="Gemini", page=KEY_PAGE)
        service = Service("Gemini", base, KEY_VARIABLES[0], KEY_PAGE)
        # the key goes as a header, never in an address, which ends up in logs
        self._http = Http(
            service, headers={"x-goog-api-key": secret}, timeout_s=_TIMEOUT_S, limit_s=_TIMEOUT_S
        )
        self._portraits = Portraits(max_bytes=_PORTRAIT_BYTES)
        self._held = HeldPictures("Gemini")

    @property
    def name(self) -> str:
        """The word under which manifests record this provider."""
        return NAME

    def capabilities(self) -> Capabilities:
        """What the registry says of the chosen model."""
        return self._card.capabilities()

    def close(self) -> None:
        """Close the connections and drop what was not fetched."""
        self._http.close()
        self._held.close()

    def payload(self, request: EditRequest) -> dict[str, object]:
        """The request's body with the portrait as its digest."""
        body = self._body(request, self._portraits.of(request).digest())
        return {"method": "POST", "path": self._path, "body": body}

    def submit(self, request: EditRequest) -> str:
        """Have the picture made; an answer without one becomes a failed job that says why."""
        body = self._body(request, _inline(self._portraits.of(request)))
        try:
            facts = self._http.post(self._path, body, submit=True, judge=self._judge).facts()
        except Answered as failed:
            return self._held.fail(request.seed, failed.status)
        try:
            data = checked_image(_image(facts), service="Gemini")
        except ProviderError as error:
            return self._held.fail(request.seed, _why(facts, error.message))
        return self._held.keep(request.seed, data)

    def poll(self, job_id: str) -> JobStatus:
        """Ended from the start; pictures that were held back are `flagged`."""
        return self._held.poll(job_id)

    def fetch(self, job_id: str) -> bytes:
        """The picture that `submit` brought, while this object lives."""
        return self._held.fetch(job_id)

    def cancel(self, job_id: str) -> None:
        """Drop a picture; it is paid all the same."""
        self._held.cancel(job_id)

    def find(self, seed: int, *, since: datetime | None = None) -> str | None:
        """A picture of this object by the seed of its request; the API itself lists nothing."""
        return self._held.find(seed, since)

    @property
    def _path(self) -> str:
        return f"/v1beta/models/{self._card.id}:generateContent"

    def _body(self, request: EditRequest, portrait: dict[str, object]) -> dict[str, object]:
        check_request(request, self._card, service="Gemini", options=_OPTIONS)
        sizes = self._card.input.get("sizes", "1K").split()
        size = request.options.get("image_size", sizes[0])
        if size not in sizes:
            raise ProviderRefused(
                f"slot {request.slot}: {self._card.name} makes no {size[:20]!r} pictures",
                remedy="one of " + ", ".join(sizes),
            )
        return {
            "contents": [{"role": "user", "parts": [{"text": request.prompt}, {"inlineData": portrait}]}],
            "generationConfig": {
                "responseModalities": ["IMAGE"],
                "imageConfig": {"aspectRatio": request.aspect, "imageSize": size},
            },
        }

    def _judge(self, answer: Answer) -> ProviderError | None:
        error = answer.facts().get("error")
        if not isinstance(error, Mapping) or answer.status < 400:
            return None
        message = self._http.say(error.get("message"))
        details = [part for part in _parts(error.get("details")) if isinstance(part, Mapping)]
        if any(part.get("reason") == "API_KEY_INVALID" for part in details):
            # comes as 400, like any wrong input
            return ProviderRefused(
                f"Gemini refused the key: {message}", remedy=f"check {KEY_VARIABLES[0]}; keys: {KEY_PAGE}"
            )
        delays = [str(part.get("retryDelay", "")) for part in details]
        seconds = [float(delay[:-1]) for delay in delays if re.fullmatch(r"\d+(\.\d+)?s", delay)]
        if answer.status == 429:
            wait = max(seconds, default=retry_after(answer, default=10.0))
            return ProviderBusy(
                f"Gemini asks to wait: {message}", remedy="nothing was paid", retry_after_s=wait
            )
        if answer.status == 503:
            wait = retry_after(answer, default=10.0)
            return ProviderBusy(
                f"Gemini is overloaded: {message}", remedy="nothing was paid", retry_after_s=wait
            )
        if answer.status in (500, 504):
            # by Google's own word a request that ends in an error is not charged
            words = f"HTTP {answer.status}: {message}"
            return Answered(
                JobStatus(state="failed", code="internal", message=words, transient=True, billed=False)
            )
        return None


def _inline(picture: Picture) -> dict[str, object]:
    return {"mimeType": picture.kind, "data": base64.b64encode(picture.data).decode("ascii")}


def _image(facts: Mapping[str, object]) -> bytes:
    """The picture inside an answer. Raises ProviderError when there is none."""
    for part in _content(facts):
        # thoughts may hold drafts, which are not the result
        inline = part.get("inlineData") or part.get("inline_data")
        if part.get("thought") or not isinstance(inline, Mapping):
            continue
        try:
            return base64.b64decode(str(inline.get("data")), validate=True)
        except (binascii.Error, ValueError):
            raise ProviderError("Gemini's picture is not readable") from None
    raise ProviderError("Gemini answered without a picture")


def _why(facts: Mapping[str, object], fallback: str) -> JobStatus:
    """What an answer without a picture means."""
    feedback = facts.get("promptFeedback")
    blocked = str(feedback.get("blockReason") or "") if isinstance(feedback, Mapping) else ""
    candidate = next(_candidates(facts), {})
    reason = blocked or str(candidate.get("finishReason") or "")
    words = " ".join(str(part.get("text")) for part in _content(facts) if part.get("text"))
    told = str(candidate.get("finishMessage") or words or fallback)
    flagged = bool(_FLAGS.search(reason)) or bool(blocked)
    return JobStatus(
        state="failed",
        code=(reason if reason not in _FINE else "no-image").lower()[:60],
        message=" ".join(told.split())[:240],
        flagged=flagged,
        transient=not flagged,
        billed=False if blocked else None,
    )


def _candidates(facts: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    for item in _parts(facts.get("candidates")):
        if isinstance(item, Mapping):
            yield item


def _content(facts: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    for candidate in _candidates(facts):
        content = candidate.get("content")
        for part in _parts(content.get("parts") if isinstance(content, Mapping) else None):
            if isinstance(part, Mapping):
                yield part


def _parts(value: object) -> list[object]:
    return value if isinstance(value, list) else []
