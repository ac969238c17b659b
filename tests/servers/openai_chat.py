"""A server that speaks OpenAI's chat completions on loopback: answers as planned, in order.

Each plan is the message's text, or a fault: "!schema" (400: no JSON schemas here), "!401", "!429", "!500",
"!refusal", "!cut", "!html". The last plan repeats.
"""

from __future__ import annotations

from servers.loopback import Exchange, Loopback

KEY = "sk-loopback-fedcba9876543210"


class FakeChat(Loopback):
    """The service; `asked` are the bodies it was sent."""

    def __init__(self, *plans: str) -> None:
        super().__init__(self._answer)
        self._plans = list(plans)
        self.asked: list[dict[str, object]] = []

    def _answer(self, ask: Exchange) -> None:
        if (ask.method, ask.path) != ("POST", "/v1/chat/completions"):
            ask.json(404, {"error": {"message": f"no route {ask.path}"}})
            return
        self.asked.append(ask.data())
        plan = self._plans.pop(0) if len(self._plans) > 1 else self._plans[0]
        if ask.headers.get("authorization") not in (None, f"Bearer {KEY}") or plan == "!401":
            ask.json(401, {"error": {"message": "Incorrect API key provided"}})
        elif plan == "!schema":
            ask.json(400, {"error": {"message": "response_format json_schema is not supported"}})
        elif plan in ("!429", "!500"):
            ask.json(int(plan[1:]), {"error": {"message": "not now"}})
        elif plan == "!html":
            ask.page()
        else:
            message = {"role": "assistant", "content": None if plan == "!refusal" else plan}
            if plan == "!refusal":
                message["refusal"] = "no"
            finish = "length" if plan == "!cut" else "stop"
            ask.json(200, {"choices": [{"index": 0, "message": message, "finish_reason": finish}]})
