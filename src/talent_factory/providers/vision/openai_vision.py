"""Vision by any server that speaks OpenAI's chat completions: OpenAI, vLLM, Ollama, LM Studio, llama.cpp."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from talent_factory.core.errors import ProviderError
from talent_factory.providers.address import api_key, endpoint, is_loopback
from talent_factory.providers.http import Answer, Http, Service
from talent_factory.providers.vision.model_vision import data_url
from talent_factory.providers.vision.port import U8

KEY_VARIABLE = "OPENAI_API_KEY"
BASE_VARIABLE = "OPENAI_BASE_URL"
MODEL_VARIABLE = "OPENAI_VISION_MODEL"
DEFAULT_MODEL = "gpt-5-mini"
KEY_PAGE = "https://platform.openai.com/api-keys"
_BASE = "https://api.openai.com"
_PATH = "/v1/chat/completions"


class OpenAIAnswerer:
    """Asks /chat/completions with pictures as data URLs.

    The answer's shape is asked for as a JSON schema; a server that refuses that (400 or 422) is asked for any
    JSON object, with the schema in words. Neither temperature nor a token limit is sent, as newer models
    refuse them. The key comes from `key` or OPENAI_API_KEY and may be missing for a server on loopback; the
    address from `base_url` or OPENAI_BASE_URL, with or without /v1.
    """

    def __init__(
        self, *, model: str | None = None, key: str | None = None, base_url: str | None = None
    ) -> None:
        self._model = model or os.environ.get(MODEL_VARIABLE) or DEFAULT_MODEL
        base = endpoint(base_url, variables=[BASE_VARIABLE], default=_BASE, strip="/v1")
        headers: dict[str, str] = {}
        if key or os.environ.get(KEY_VARIABLE) or not is_loopback(base):
            secret = api_key(key, variables=[KEY_VARIABLE], service="OpenAI", page=KEY_PAGE)
            headers["authorization"] = f"Bearer {secret}"
        self._http = Http(Service("OpenAI", base, KEY_VARIABLE, KEY_PAGE), headers=headers, timeout_s=120.0)
        self._plain = False

    @property
    def name(self) -> str:
        """The word under which manifests record it, with the model."""
        return f"openai {self._model}"

    def ask(self, question: str, pictures: Sequence[U8], schema: Mapping[str, object]) -> str:
        """The answer's text. Raises ProviderError, ProviderRefused (key, credit, input)."""
        if not self._plain:
            shape = {
                "type": "json_schema",
                "json_schema": {"name": "answer", "strict": True, "schema": dict(schema)},
            }
            try:
                return _text(self._post(question, pictures, shape))
            except _SchemaRefused:
                self._plain = True
        words = f"{question}\nAnswer with one JSON object of this schema and nothing else: {dict(schema)}"
        return _text(self._post(words, pictures, {"type": "json_object"}))

    def _post(self, question: str, pictures: Sequence[U8], shape: Mapping[str, object]) -> Answer:
        parts: list[dict[str, object]] = [{"type": "text", "text": question}]
        parts += [{"type": "image_url", "image_url": {"url": data_url(picture)}} for picture in pictures]
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": parts}],
            "response_format": dict(shape),
        }
        judge = _judge_schema if shape["type"] == "json_schema" else None
        return self._http.post(_PATH, body, judge=judge)


class _SchemaRefused(ProviderError):
    pass


def _judge_schema(answer: Answer) -> ProviderError | None:
    """A refusal that speaks of the answer's format is about the format, not about key or picture."""
    text = answer.text.lower()
    if answer.status in (400, 422) and ("response_format" in text or "schema" in text):
        return _SchemaRefused("the server takes no JSON schema")
    return None


def _text(answer: Answer) -> str:
    choices = answer.facts().get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    message = first.get("message") if isinstance(first, Mapping) else None
    if not isinstance(message, Mapping):
        raise ProviderError("the vision model's answer holds no message")
    refusal = message.get("refusal")
    if isinstance(refusal, str) and refusal:
        raise ProviderError("the vision model declined to answer")
    content = message.get("content")
    if isinstance(first, Mapping) and first.get("finish_reason") == "length":
        raise ProviderError("the vision model's answer was cut off")
    if not isinstance(content, str) or not content:
        raise ProviderError("the vision model's answer is empty")
    return content
