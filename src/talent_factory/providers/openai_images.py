"""OpenAI's image edits: the answer is the picture itself, and nobody can ask for it twice."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from talent_factory.core.errors import ContentFlagged, ProviderBusy, ProviderError, ProviderRefused
from talent_factory.providers.address import api_key, endpoint
from talent_factory.providers.asking import check_request
from talent_factory.providers.embedded.framing import canvas_size
from talent_factory.providers.held import Answered, HeldPictures
from talent_factory.providers.http import Answer, Http, Service, retry_after
from talent_factory.providers.models import model_card
from talent_factory.providers.pictures import Portraits, checked_image
from talent_factory.providers.port import Capabilities, EditRequest, JobStatus
from talent_factory.providers.sizing import cover_size, covering, cut_to_aspect

NAME = "openai"
KEY_VARIABLE = "OPENAI_API_KEY"
BASE_VARIABLE = "OPENAI_BASE_URL"
KEY_PAGE = "https://platform.openai.com/api-keys"
_BASE = "https://api.openai.com"
_OPTIONS = {"quality"}
_QUALITIES = ("low", "medium", "high")
# A picture of high quality takes minutes, and there is no second way to it than to wait.
_TIMEOUT_S = 600.0
_PORTRAIT_BYTES = 8 << 20
# The sizes of the models that know only these, in pixels.
_SIZES = ((1024, 1024), (1536, 1024), (1024, 1536))
# The range of the models that take any size: pixels in all, longest side, greatest ratio.
_PIXELS, _LONGEST, _RATIO = (655_360, 8_294_400), 3840, 3.0


class OpenAIImages:
    """An `ImageEditor` on OpenAI's /images/edits.

    The key comes from `key` or OPENAI_API_KEY, the address from `base_url` or OPENAI_BASE_URL (with or
    without /v1). `submit` returns when the picture is made. When the connection breaks before that, the
    picture may be paid and is lost: the API names no job. It takes no seed either. Models with fixed sizes
    make the nearest one, cut to the aspect. Options of a request: quality (low, medium, high).
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
        base = endpoint(base_url, variables=[BASE_VARIABLE], default=_BASE, strip="/v1")
        secret = api_key(key, variables=[KEY_VARIABLE], service="OpenAI", page=KEY_PAGE)
        service = Service("OpenAI", base, KEY_VARIABLE, KEY_PAGE)
        headers = {"authorization": f"Bearer {secret}"}
        self._http = Http(service, headers=headers, timeout_s=_TIMEOUT_S, limit_s=_TIMEOUT_S)
        self._portraits = Portraits(max_bytes=_PORTRAIT_BYTES)
        self._held = HeldPictures("OpenAI")

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
        """The form's fields with the portrait as its digest."""
        form: dict[str, object] = dict(self._form(request))
        form["image[]"] = self._portraits.of(request).digest()
        return {"method": "POST", "path": "/v1/images/edits", "form": form}

    def submit(self, request: EditRequest) -> str:
        """Have the picture made. Raises ContentFlagged when the safety system says no."""
        form = self._form(request)
        picture = self._portraits.of(request)
        suffix = picture.kind.partition("/")[2].replace("jpeg", "jpg")
        try:
            answer = self._http.post_form(
                "/v1/images/edits",
                files=[("image[]", (f"portrait.{suffix}", picture.data, picture.kind))],
                data=form,
                submit=True,
                judge=self._judge,
            )
        except Answered as failed:
            return self._held.fail(request.seed, failed.status)
        try:
            data = cut_to_aspect(checked_image(_image(answer), service="OpenAI"), request.aspect)
        except ProviderError as error:
            # it was answered, so it was paid: a failed job, not a lost submission
            status = JobStatus(
                state="failed", code="no-image", message=error.message, transient=True, billed=True
            )
            return self._held.fail(request.seed, status)
        return self._held.keep(request.seed, data)

    def poll(self, job_id: str) -> JobStatus:
        """Ended from the start."""
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

    def _form(self, request: EditRequest) -> dict[str, str]:
        check_request(request, self._card, service="OpenAI", options=_OPTIONS)
        form = {name: str(value) for name, value in self._card.fixed.items()}
        quality = request.options.get("quality")
        if quality is not None and quality not in _QUALITIES:
            raise ProviderRefused(
                f"slot {request.slot}: quality {quality[:20]!r} is not known", remedy=f"one of {_QUALITIES}"
            )
        if quality is not None:
            form["quality"] = quality
        if self._card.input.get("size") == "free":
            width, height = free_size(request.aspect, request.long_side)
        else:
            width, height = covering(request.aspect, _SIZES)
        return form | {
            "model": self._card.id,
            "prompt": request.prompt,
            "size": f"{width}x{height}",
            "n": "1",
        }

    def _judge(self, answer: Answer) -> ProviderError | None:
        error = answer.facts().get("error")
        if not isinstance(error, Mapping) or answer.status < 400:
            return None
        code, message = str(error.get("code")), self._http.say(error.get("message"))
        if code in ("moderation_blocked", "content_policy_violation"):
            return ContentFlagged(
                f"OpenAI's safety system refused: {message}", remedy="soften the prompt of this slot"
            )
        if code == "insufficient_quota" or code == "billing_hard_limit_reached":
            # comes as 429 as well, but waiting does not help
            return ProviderRefused(
                f"the OpenAI account has no credit left: {message}",
                remedy=f"add credit to the account behind {KEY_VARIABLE}, then resume",
            )
        if answer.status == 500:
            # the service itself says that it failed: there is no picture that could be lost
            words = f"HTTP 500: {message}"
            return Answered(JobStatus(state="failed", code="server-error", message=words, transient=True))
        if answer.status == 503:
            # the service itself says that it is overloaded: it did not begin
            wait = retry_after(answer, default=15.0)
            return ProviderBusy(
                f"OpenAI is overloaded: {message}", remedy="nothing was paid", retry_after_s=wait
            )
        if answer.status == 429:
            found = re.search(r"try again in (\d+(?:\.\d+)?)(ms|s)\b", message)
            seconds = float(found[1]) / (1000 if found[2] == "ms" else 1) if found else 20.0
            wait = retry_after(answer, default=min(120.0, seconds))
            return ProviderBusy(
                f"OpenAI asks to wait: {message}", remedy="nothing was paid", retry_after_s=wait
            )
        return None


def free_size(aspect: str, long_side: int) -> tuple[int, int]:
    """(width, height) for models that take any size in whole multiples of 16.

    Raises ProviderRefused for aspects beyond 3:1.
    """
    across, down = canvas_size(aspect, 3600)
    if max(across / down, down / across) > _RATIO:
        raise ProviderRefused(f"OpenAI makes no {aspect} pictures", remedy="stay within 3:1 and 1:3")
    least, most = _PIXELS
    width, height = cover_size(aspect, min(long_side, _LONGEST), multiple=16)
    while width * height < least:
        width, height = cover_size(aspect, max(width, height) + 16, multiple=16)
    while width * height > most or max(width, height) > _LONGEST:
        width, height = cover_size(aspect, max(width, height) - 16, multiple=16)
    return width, height


def _image(answer: Answer) -> bytes:
    """The bytes inside the answer. Raises ProviderError when there are none."""
    items = answer.facts().get("data")
    first = items[0] if isinstance(items, list) and items else None
    text = first.get("b64_json") if isinstance(first, Mapping) else None
    if not isinstance(text, str) or not text:
        raise ProviderError("OpenAI answered without a picture")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ProviderError("OpenAI's picture is not readable") from None
