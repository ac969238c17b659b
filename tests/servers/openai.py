"""A server that speaks OpenAI's image edits on loopback, and can misbehave.

Faults are planned: `server.faults.plan("submit", "moderation")`.

submit    401  429  429-quota  500  503  reset-before  reset-after  hang-after  html  moderation
          no-image  not-image  truncated (answered and paid, the picture missing or broken)
"""

from __future__ import annotations

import base64
import re
import threading
from collections import Counter

from servers.forms import image_size, paint, read_form
from servers.loopback import Exchange, Faults, Loopback

KEY = "sk-loopback-0123456789abcdef"
FREE, FIXED = {"gpt-image-2"}, {"gpt-image-1", "gpt-image-1.5"}
_FIELDS = {"model", "prompt", "size", "n", "quality", "output_format", "image[]"}


class FakeOpenAI(Loopback):
    """The service; `forms` are the requests it took, `paid` how many pictures it made."""

    def __init__(self, *, faults: Faults | None = None) -> None:
        super().__init__(self._answer)
        self.faults = faults or Faults()
        self.busy_s = 12
        self.forms: list[dict[str, str]] = []
        self.counts: Counter[str] = Counter()
        self._guard = threading.RLock()

    def _answer(self, ask: Exchange) -> None:
        if ask.headers.get("authorization") != f"Bearer {KEY}":
            message = "Incorrect API key provided: sk-loop***cdef."
            self._error(ask, 401, "invalid_api_key", message)
        elif (ask.method, ask.path) == ("POST", "/v1/images/edits"):
            self._edit(ask, self.faults.take("submit"))
        else:
            self._error(ask, 404, "not_found", "Unknown request URL")

    def _error(self, ask: Exchange, status: int, code: str, message: str) -> None:
        kind = "server_error" if status >= 500 else "invalid_request_error"
        ask.json(status, {"error": {"message": message, "type": kind, "param": None, "code": code}})

    def _edit(self, ask: Exchange, fault: str) -> None:
        self.counts["submit"] += 1
        refusals = {
            "401": (401, "invalid_api_key", "Incorrect API key provided"),
            "429": (429, "rate_limit_exceeded", f"Rate limit reached. Please try again in {self.busy_s}s."),
            "429-quota": (429, "insufficient_quota", "You exceeded your current quota"),
            "500": (500, "", "The server had an error"),
            "503": (503, "", "The engine is currently overloaded"),
            "moderation": (400, "moderation_blocked", "Your request was rejected by the safety system."),
        }
        form = {name: parts[0] for name, parts in read_form(ask).items()}
        if fault in refusals:
            self._error(ask, *refusals[fault])
            return
        if fault == "reset-before":
            ask.reset()
            return
        if fault == "html":
            ask.page(502)
            return
        facts = {name: data.decode() for name, (file, data) in form.items() if not file}
        problem = _problem(facts, form)
        if problem:
            self._error(ask, 400, "invalid_value", problem)
            return
        with self._guard:
            self.forms.append(facts)
            self.counts["paid"] += 1
            number = self.counts["paid"]
        width, height = (int(part) for part in facts["size"].split("x"))
        data = paint(f"{facts['prompt']}/{number}", width, height, facts["output_format"])
        if fault == "truncated":
            data = data[: len(data) // 2]
        text = (
            "" if fault == "no-image" else "###" if fault == "not-image" else base64.b64encode(data).decode()
        )
        if fault == "reset-after":
            ask.reset()
        elif fault == "hang-after":
            ask.hang()
        else:
            ask.json(200, {"created": 1, "data": [{"b64_json": text}], "usage": {"output_tokens": 1000}})


def _problem(facts: dict[str, str], form: dict[str, tuple[str, bytes]]) -> str:
    """Why a form is not valid, or ""."""
    model = facts.get("model", "")
    known = _FIELDS | ({"input_fidelity"} if model in FIXED else set())
    if model not in FREE | FIXED:
        return f"The model '{model}' does not exist"
    if set(form) - known:
        return f"Unknown parameter: '{min(set(form) - known)}'."
    if "image[]" not in form or image_size(form["image[]"][1]) is None:
        return "Invalid image file"
    size = re.fullmatch(r"(\d+)x(\d+)", facts.get("size", ""))
    if size is None or not facts.get("prompt"):
        return "size and prompt are required"
    width, height = int(size[1]), int(size[2])
    if model in FIXED:
        return "" if (width, height) in ((1024, 1024), (1536, 1024), (1024, 1536)) else "Invalid size"
    fits = width % 16 == height % 16 == 0 and max(width, height) <= 3840
    fits = fits and max(width, height) <= 3 * min(width, height) and 655_360 <= width * height <= 8_294_400
    return "" if fits else "Invalid size"
