"""Tells the observer how each request ended, whoever ended it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from peftlab.serving.events import Answered, Observer

_KEY = "told"
_GONE = 499
"""The status of a request whose client had gone before anything was sent: nobody refused its inputs."""


@dataclass
class Facts:
    """What is known of a request when it has ended."""

    request_id: str = ""
    model: str | None = None
    inputs: int = 0
    refused: int = 0
    tokens: int = 0
    error: str | None = None
    """Of an answer that began, and broke off."""


def told(request: Request) -> Facts:
    """Return the facts of a request, for the route to fill in."""
    facts: Facts = request.scope["state"][_KEY]
    facts.request_id = request.scope["state"]["request_id"]
    return facts


class Telling:
    """The outermost layer of an application.

    Args:
        app: what it is around.
        observer: is told.
    """

    def __init__(self, app: ASGIApp, observer: Observer) -> None:
        self.app, self.observer = app, observer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and tell of its end."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        state: dict[str, Any] = scope.setdefault("state", {})
        facts = state[_KEY] = Facts()
        status, began = _GONE, time.perf_counter()

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, sending)
        finally:
            self.observer.answered(self._answered(scope, facts, status, time.perf_counter() - began))

    @staticmethod
    def _answered(scope: Scope, facts: Facts, status: int, seconds: float) -> Answered:
        state, headers = scope["state"], dict(scope["headers"])
        trace = headers.get(b"traceparent")
        caller = state.get("caller")
        return Answered(
            request_id=state.get("request_id", ""),
            route=getattr(scope.get("route"), "path", "other"),
            status=status,
            seconds=seconds,
            caller=caller.name if caller else None,
            model=facts.model,
            inputs=facts.inputs,
            refused=facts.inputs if status >= 400 and status != _GONE else facts.refused,
            tokens=facts.tokens,
            error=state.get("error", facts.error),
            traceparent=trace.decode("latin-1") if trace else None,
        )
