"""A server that speaks Gemini's generateContent on loopback, and can misbehave.

Faults are planned: `server.faults.plan("submit", "503")`.

submit    key  429  500  503  404  reset-before  reset-after  html
          blocked  safety  text  truncated (answered; no picture, or half of one)
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections import Counter

from servers.forms import image_size, paint
from servers.loopback import Exchange, Faults, Loopback

KEY = "AIzaLoopback0123456789"
MODELS = {"gemini-nano-banana-2.1", "gemini-3-pro-image"}
_SIZES = {"1K": 96, "2K": 192, "4K": 384}  # in miniature
_ASPECTS = {"1:1", "16:9", "9:16", "4:3", "3:4", "3:2", "2:3", "4:5", "5:4", "21:9"}


class FakeGemini(Loopback):
    """The service; `bodies` are the requests it took, `counts["paid"]` how many pictures it made."""

    def __init__(self, *, faults: Faults | None = None) -> None:
        super().__init__(self._answer)
        self.faults = faults or Faults()
        self.busy_s = 34
        self.bodies: list[dict[str, object]] = []
        self.counts: Counter[str] = Counter()
        self._guard = threading.RLock()

    def _answer(self, ask: Exchange) -> None:
        found = re.fullmatch(r"/v1beta/models/([a-z0-9.-]+):generateContent", ask.path)
        assert "key" not in ask.query, "a key has no place in an address"
        if ask.headers.get("x-goog-api-key") != KEY:
            self._bad_key(ask)
        elif found is None or ask.method != "POST" or found[1] not in MODELS:
            self._error(ask, 404, "NOT_FOUND", f"{ask.path} is not found for API version v1beta")
        else:
            self._generate(ask, self.faults.take("submit"))

    def _error(self, ask: Exchange, status: int, word: str, message: str, *details: object) -> None:
        error = {"code": status, "message": message, "status": word, "details": list(details)}
        ask.json(status, {"error": error})

    def _bad_key(self, ask: Exchange) -> None:
        info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
        self._error(ask, 400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", info)

    def _generate(self, ask: Exchange, fault: str) -> None:
        self.counts["submit"] += 1
        retry = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{self.busy_s}s"}
        problem = _problem(ask.data())
        if fault == "key":
            self._bad_key(ask)
        elif fault == "429":
            self._error(ask, 429, "RESOURCE_EXHAUSTED", "You exceeded your current quota", retry)
        elif fault == "500":
            self._error(ask, 500, "INTERNAL", "An internal error has occurred")
        elif fault == "503":
            self._error(ask, 503, "UNAVAILABLE", "The model is overloaded. Please try again later.")
        elif fault == "404":
            self._error(ask, 404, "NOT_FOUND", "models/x is not found")
        elif fault == "reset-before":
            ask.reset()
        elif fault == "html":
            ask.page(502)
        elif problem:
            self._error(ask, 400, "INVALID_ARGUMENT", problem)
        elif fault == "blocked":
            ask.json(200, {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}})
        elif fault == "safety":
            ask.json(
                200, {"candidates": [{"finishReason": "IMAGE_SAFETY", "finishMessage": "Unable to show it."}]}
            )
        elif fault == "text":
            content = {"parts": [{"text": "I would rather describe it."}]}
            ask.json(200, {"candidates": [{"content": content, "finishReason": "STOP"}]})
        else:
            self._picture(ask, fault)

    def _picture(self, ask: Exchange, fault: str) -> None:
        body = ask.data()
        with self._guard:
            self.bodies.append(body)
            self.counts["paid"] += 1
            number = self.counts["paid"]
        if fault == "reset-after":
            ask.reset()
            return
        image = json.loads(json.dumps(body))["generationConfig"]["imageConfig"]
        across, down = (int(part) for part in image["aspectRatio"].split(":"))
        side = _SIZES[image["imageSize"]]
        size = across * side // max(across, down), down * side // max(across, down)
        data = paint(f"{json.dumps(body['contents'])[-400:]}/{number}", *size)
        if fault == "truncated":
            data = data[: len(data) // 2]
        draft = {"thought": True, "inlineData": {"mimeType": "image/png", "data": "AAAA"}}
        final = {"inlineData": {"mimeType": "image/png", "data": base64.b64encode(data).decode()}}
        parts = [{"text": "Here it is."}, draft, final]
        ask.json(200, {"candidates": [{"content": {"parts": parts}, "finishReason": "STOP"}]})


def _problem(body: dict[str, object]) -> str:
    """Why a body is not valid, or ""."""
    config = body.get("generationConfig")
    contents = body.get("contents")
    if set(body) != {"contents", "generationConfig"} or not isinstance(config, dict):
        return "Invalid JSON payload received. Unknown name."
    image = config.get("imageConfig")
    if not isinstance(image, dict) or image.get("aspectRatio") not in _ASPECTS:
        return "aspect_ratio must be one of the following"
    if image.get("imageSize") not in _SIZES:
        return "image_size must be one of the following"
    parts = contents[0]["parts"] if isinstance(contents, list) else []
    data = base64.b64decode(parts[1]["inlineData"]["data"], validate=True) if len(parts) == 2 else b""
    return "" if image_size(data) else "Unable to process input image"
