"""The body of a request: read whole, within bounds of size and time, before anything works on it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from peftlab.reading.json_form import parsed
from peftlab.serving.access.headers import values
from peftlab.serving.access.refusals import Refusal

_LINGER_S = 1.0
"""How long the rest of a refused body is read, in seconds: a client that is still sending would not see the answer."""


class Body:
    """Stands in for the connection where the application asks for the body.

    Args:
        receive: the connection's.
    """

    def __init__(self, receive: Any) -> None:
        self._receive = receive
        self._content: bytes | None = None
        self.ended = False
        """Whether the client has sent all."""

    async def read(self, scope: Mapping[str, Any], most: int, seconds: float) -> None:
        """Read all of it, and check that it is JSON if there is any.

        Args:
            scope: of the request.
            most: bytes.
            seconds: the longest that it may take.

        Raises:
            Refusal: 413 too large, 408 too slow, 415 of another type, 400 no JSON or the client has gone.
        """
        if any(int(length) > most for length in values(scope, b"content-length")):
            raise _too_large(most)
        try:
            async with asyncio.timeout(seconds):
                content = await self._collected(most)
        except TimeoutError:
            raise Refusal(408, "slow", f"the body has not come within {seconds:g} s") from None
        if content:
            _check_type(scope)
            _check_json(content)
        self._content = content

    async def __call__(self) -> Any:
        """Return the next message for the application: the whole body, then what the connection says."""
        if self._content is None:
            return await self._receive()
        content, self._content = self._content, None
        return {"type": "http.request", "body": content, "more_body": False}

    async def linger(self) -> None:
        """Read on for a moment, to nowhere."""
        with suppress(TimeoutError, Refusal):
            async with asyncio.timeout(_LINGER_S):
                while not self.ended:
                    await self._next()

    async def _collected(self, most: int) -> bytes:
        content = bytearray()
        while not self.ended:
            content += await self._next()
            if len(content) > most:
                raise _too_large(most)
        return bytes(content)

    async def _next(self) -> bytes:
        message = await self._receive()
        self.ended = not message.get("more_body", False)  # nor does more follow a disconnection
        if message["type"] == "http.disconnect":
            raise Refusal(400, "gone", "the client has gone")
        return message.get("body", b"")


def _too_large(most: int) -> Refusal:
    return Refusal(413, "too_large", f"the body has more than {most:,} bytes: send fewer inputs in one request")


def _check_type(scope: Mapping[str, Any]) -> None:
    encodings = [one for one in values(scope, b"content-encoding") if one.strip().lower() != "identity"]
    if encodings:
        raise Refusal(415, "encoded", "a compressed body is not taken: leave 'Content-Encoding' out")
    types = [one.partition(";") for one in values(scope, b"content-type")]
    if len(types) != 1 or types[0][0].strip().lower() != "application/json":
        raise Refusal(415, "wrong_type", "the body must be JSON, with 'Content-Type: application/json'")
    charset = types[0][2].replace(" ", "").replace('"', "").lower()
    if "charset=" in charset and "charset=utf-8" not in charset:
        raise Refusal(415, "wrong_type", "the body must be UTF-8")


def _check_json(content: bytes) -> None:
    """Check that there is one way to read the JSON, and that an answer can hold what it says."""
    try:
        value = parsed(content.decode())
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()  # 1e999 is infinite, "\ud800" is half a letter
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise Refusal(400, "bad_json", f"the body is no JSON: {error.msg}, {place}") from None
    except UnicodeDecodeError as error:
        raise Refusal(400, "bad_json", f"the body is no UTF-8: byte {error.start}") from None
    except (ValueError, RecursionError):
        reasons = "a key stands there twice, a number is none or infinite, half a letter, or more than 32 levels"
        raise Refusal(400, "bad_json", f"the body is no JSON that is taken: {reasons}") from None
