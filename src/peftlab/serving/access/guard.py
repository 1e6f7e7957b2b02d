"""The door of a server: what a request must have before the application sees it."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peftlab.serving.access import headers
from peftlab.serving.access.body import Body
from peftlab.serving.access.callers import ANYONE, Caller
from peftlab.serving.access.keys import PREFIX, Keys
from peftlab.serving.access.limits import Limits
from peftlab.serving.access.listening import is_loopback, names_of
from peftlab.serving.access.refusals import Refusal, refuse_caller, refuse_scope
from peftlab.serving.access.tokens import Tokens
from peftlab.serving.settings import Settings

log = logging.getLogger("peftlab")

OPEN = frozenset({"/livez", "/readyz"})
"""What is shown to everybody, under any name of the server: orchestrators have no keys."""
PAGES = frozenset({"/", "/docs", "/openapi.json"})
"""What `Settings.open_page` shows to everybody."""


class Guard:
    """Lets a request through, or refuses it; plain ASGI, so that answers stream through.

    Args:
        settings: of the server.
        shared: a folder of all processes of the server, which count limits there together; None: this one alone.
        admin: whether this is the door of the administration. On loopback its ``GET`` routes are open, and with keys
            the others take the scope ``admin``; beyond loopback everything does.

    Raises:
        UserError: the keys, or those of tokens, cannot be read.
    """

    def __init__(self, settings: Settings, shared: Path | None = None, admin: bool = False) -> None:
        self._settings = settings
        self._keys = Keys(settings.keys) if settings.keys else None
        self._tokens = Tokens(settings) if settings.jwks else None
        self._limits = Limits(shared)
        self._admin = admin
        host = settings.admin_host if admin else settings.host
        self._loopback = is_loopback(host) and (admin or settings.socket is None)
        own = names_of(host) if self._loopback else ()
        self._hosts = (*settings.hosts, *own) if admin and own else settings.hosts or own

    def around(self, app: Any) -> Any:
        """Return `app`, an ASGI application, behind the door."""

        async def guarded(scope: dict[str, Any], receive: Any, send: Any) -> None:
            if scope["type"] == "lifespan":
                await app(scope, receive, send)
            elif scope["type"] == "http":
                await self._answer(app, scope, receive, send)
            else:
                await send({"type": "websocket.close", "code": 1008})

        return guarded

    def caller(self, request: Mapping[str, Any]) -> Caller:
        """Return who has sent a request that came through; `request` is a scope, or Starlette's request."""
        return request["state"]["caller"]

    def check(self, caller: Caller, model: str) -> None:
        """Check that the caller may ask a model, whether or not there is one of that name.

        Raises:
            Refusal: 403.
        """
        if not caller.may(model):
            refuse_scope("the key or token is not for this model")

    def spend(self, caller: Caller, tokens: int) -> None:
        """Count the tokens of a request.

        Raises:
            Refusal: 429, the caller has used up the minute's.
        """
        self._take(caller, "tokens", tokens, caller.tokens or self._settings.tokens_per_minute)

    async def _answer(self, app: Any, scope: dict[str, Any], receive: Any, send: Any) -> None:
        state = scope.setdefault("state", {})
        state["request_id"] = identity = headers.request_id(scope)
        origins = self._settings.cors
        body = Body(receive)
        started = False

        async def sending(message: Any) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                completed = headers.completed(list(message.get("headers", [])), scope, origins, identity)
                message = {**message, "headers": completed}
            await send(message)

        try:
            allowed = headers.of_preflight(scope, origins)
            if allowed is None:
                await self._admit(scope, body)
                await app(scope, body, sending)
            else:
                await sending({"type": "http.response.start", "status": 204, "headers": allowed})
                await sending({"type": "http.response.body"})
            return
        except Refusal as error:
            refusal = error
        except Exception as error:  # noqa: BLE001  # whatever it is, its message may quote a text
            log.error("request %s: %s", identity, _described(error))
            if started:
                raise ConnectionAbortedError("an answer has broken off") from None
            refusal = Refusal(500, "internal", "the server has failed; its log has the request's id")
        state["error"] = refusal.code
        if not started:
            await _refuse(refusal, identity, body, sending)

    async def _admit(self, scope: dict[str, Any], body: Body) -> None:
        """Check a request from its head to its body.

        Raises:
            Refusal: it does not come through.
        """
        settings = self._settings
        headers.check_target(scope, headers.ADMIN_METHODS if self._admin else headers.METHODS)
        if scope["path"] not in OPEN:
            headers.check_host(scope, self._hosts)
            headers.check_origin(scope, settings.cors)
        scope["state"]["caller"] = caller = await self._caller(scope)
        if scope["path"] not in OPEN:
            self._take(caller, "requests", 1, caller.requests or settings.requests_per_minute)
        await body.read(scope, settings.max_body, settings.client_s)

    async def _caller(self, scope: Mapping[str, Any]) -> Caller:
        """Return who has sent the request.

        Raises:
            Refusal: 401, or 403 for administration.
        """
        if self._keys is None and self._tokens is None:
            return ANYONE
        text = _presented(scope)
        caller = await self._known(text) if text else None
        if caller is None and text is None and self._is_open(scope):
            return Caller(name=ANYONE.name)
        if caller is None:
            refuse_caller(presented=text is not None)
        if self._admin and not caller.admin and not self._is_open(scope):
            refuse_scope("administration takes the scope 'admin'")
        return caller

    def _is_open(self, scope: Mapping[str, Any]) -> bool:
        if scope["path"] in OPEN:
            return True
        if scope["method"] not in ("GET", "HEAD"):
            return False
        return self._loopback if self._admin else self._settings.open_page and scope["path"] in PAGES

    async def _known(self, text: str) -> Caller | None:
        if text.startswith(PREFIX) or self._tokens is None:
            return self._keys.caller(text) if self._keys else None
        return await self._tokens.caller(text)

    def _take(self, caller: Caller, what: str, amount: int, a_minute: int | None) -> None:
        if not a_minute or not (wait := self._limits.take(f"{what} {caller.name}", amount, a_minute)):
            return
        message = f"more than {a_minute:,} {what} a minute"
        raise Refusal(429, "rate_limited", message, {"retry-after": str(math.ceil(wait))})


def _presented(scope: Mapping[str, Any]) -> str | None:
    """Return the key or token of a request; None: it has none."""
    schemes = [value.strip().partition(" ") for value in headers.values(scope, b"authorization")]
    texts = [rest.strip() if scheme.lower() == "bearer" else "" for scheme, _, rest in schemes]
    texts += [value.strip() for value in headers.values(scope, b"x-api-key")]
    if not texts:
        return None
    return texts[0] if len(set(texts)) == 1 and texts[0].isascii() else ""


async def _refuse(refusal: Refusal, identity: str, body: Body, send: Any) -> None:
    content = refusal.body(identity)
    lines = {"content-type": "application/json", "content-length": str(len(content)), **refusal.headers}
    if not body.ended:  # what is left of the body must not be taken for the next request
        lines["connection"] = "close"
    encoded = [(name.encode(), value.encode()) for name, value in lines.items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": encoded})
    await send({"type": "http.response.body", "body": content, "more_body": not body.ended})
    if not body.ended:
        await body.linger()
        await send({"type": "http.response.body"})


def _described(error: Exception) -> str:
    """Return the type and the place of an error, without its message, which may quote a text."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = f" in {place.tb_frame.f_code.co_filename}:{place.tb_lineno}" if place else ""
    return f"{type(error).__name__}{where}"
