"""Sends HTTP requests when they are due, over connections that are kept open, and notes when each was answered."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import SplitResult

from typing_extensions import override

STALE = 2.0
"""Seconds after which an idle connection is not used again: the server may be about to close it."""
_SWEEP = 0.05
"""Seconds between searches for requests whose time is over."""

Watch = Callable[[int, int, bytes], None]
"""Is told of each answer: the number of the request, the status, and the body."""


@dataclass
class Fates:
    """What became of each request; times are in seconds from the start, None: never."""

    due: Sequence[float]
    sent: list[float | None] = field(init=False)
    ended: list[float | None] = field(init=False)
    status: list[int] = field(init=False)
    """0: there was no answer."""
    error: list[str | None] = field(init=False)
    """The code of the server's error, ``timeout``, ``lost`` or ``unreachable``."""
    connections: int = 0
    """The most that were open at a time."""
    inputs_refused: int = 0
    """Inputs of answered requests that have an error in the place of an answer."""

    def __post_init__(self) -> None:
        """Begin with nothing sent."""
        number = len(self.due)
        self.sent, self.ended, self.error = [None] * number, [None] * number, [None] * number
        self.status = [0] * number


class Connection(asyncio.Protocol):
    """A connection to the server, which carries one request at a time."""

    def __init__(self, sender: Sender) -> None:
        from httptools import HttpResponseParser

        self.sender, self.parser = sender, HttpResponseParser(self)
        self.transport: asyncio.Transport | None = None
        self.number: int | None = None
        self.idle_since = 0.0
        self._body: list[bytes] = []

    def ask(self, number: int, content: bytes) -> None:
        """Send a request."""
        assert self.transport is not None
        self.number = number
        self.transport.write(content)

    def end(self) -> None:
        """Close it, at once."""
        if self.transport is not None:
            self.transport.abort()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name

    @override
    def data_received(self, data: bytes) -> None:
        from httptools import HttpParserError

        try:
            self.parser.feed_data(data)
        except HttpParserError:
            self.end()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        number, self.number = self.number, None
        self.sender.lost(self, number)

    def on_body(self, part: bytes) -> None:
        """Keep a part of the body."""
        self._body.append(part)

    def on_message_complete(self) -> None:
        """Hand over the answer."""
        number, self.number = self.number, None
        body, self._body = b"".join(self._body), []
        keeps = bool(self.parser.should_keep_alive())
        if number is not None:
            self.sender.answered(number, self.parser.get_status_code(), body)
        if keeps:
            self.sender.free(self)
        else:
            self.end()


class Sender:
    """Sends requests to one server.

    Args:
        address: of the route.
        content: returns the body of a request by its number.
        headers: further headers of all requests.
        timeout: seconds, from when it was due, after which a request is given up.
        most: connections that may be open at a time; a request that finds none waits for one.
        ca: a file with the certificate of an authority to trust, for https; None: those of the system.
        watch: is told of each answer.
    """

    def __init__(
        self,
        address: SplitResult,
        content: Callable[[int], bytes],
        headers: dict[str, str],
        timeout: float,
        most: int,
        ca: str | None = None,
        watch: Watch | None = None,
    ) -> None:
        self.host, self.port = address.hostname or "", address.port or (443 if address.scheme == "https" else 80)
        self.tls = ssl.create_default_context(cafile=ca) if address.scheme == "https" else None
        lines = [f"POST {address.path} HTTP/1.1", f"host: {address.netloc.rpartition('@')[2]}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self.head = "\r\n".join([*lines, "content-length: "]).encode()
        self.content, self.timeout, self.most, self.watch = content, timeout, most, watch
        self.waiting: dict[int, Connection | None] = {}
        """The requests without an answer, those due first in front, each with its connection."""
        self.idle: list[Connection] = []
        self.queue: deque[int] = deque()
        """Requests that no connection is free for."""
        self.open = 0
        self.opening: set[asyncio.Task[None]] = set()

    async def send(self, due: Sequence[float], ahead: float = 0.05) -> Fates:
        """Send requests, and return what became of them when the last one is answered or given up.

        Args:
            due: the seconds from the start at which each is due, rising.
            ahead: seconds until the start.
        """
        self.loop, self.fates = asyncio.get_running_loop(), Fates(due)
        self.begun = self.loop.time() + ahead
        sweeping = self.loop.create_task(self._sweep())
        for number, moment in enumerate(due):
            if (early := self.begun + moment - self.loop.time()) > 0:
                await asyncio.sleep(early)
            elif number % 32 == 0:
                await asyncio.sleep(0)  # a client that is late reads answers all the same
            self.waiting[number] = None
            self._start(number)
        while self.waiting:
            await asyncio.sleep(_SWEEP)
        sweeping.cancel()
        for connection in self.idle:
            connection.end()
        with suppress(asyncio.CancelledError):
            await sweeping
        return self.fates

    def answered(self, number: int, status: int, body: bytes) -> None:
        """Note the answer to a request."""
        if number not in self.waiting:
            return
        self.fates.status[number] = status
        self._ended(number, None if status == 200 else _code(body, status))
        if status == 200:
            self.fates.inputs_refused += _refused(body)
        if self.watch is not None:
            self.watch(number, status, body)

    def free(self, connection: Connection) -> None:
        """Use a connection for the next request, or keep it."""
        while self.queue:
            if (number := self.queue.popleft()) in self.waiting:
                self._ask(connection, number)
                return
        connection.idle_since = self.loop.time()
        self.idle.append(connection)

    def lost(self, connection: Connection, number: int | None) -> None:
        """Note that a connection has ended, perhaps with a request."""
        self.open -= 1
        with suppress(ValueError):
            self.idle.remove(connection)
        if number is not None and number in self.waiting:
            self._ended(number, "lost")
        self._start_queued()

    def _start(self, number: int) -> None:
        """Send a request over a connection that is free, or a new one, or have it wait."""
        while self.idle:
            connection = self.idle.pop()
            if self.loop.time() - connection.idle_since < STALE:
                self._ask(connection, number)
                return
            connection.end()
        if self.open >= self.most:
            self.queue.append(number)
            return
        self.open += 1
        self.fates.connections = max(self.fates.connections, self.open)
        task = self.loop.create_task(self._connect(number))
        self.opening.add(task)
        task.add_done_callback(self.opening.discard)

    def _start_queued(self) -> None:
        while self.queue and self.open < self.most:
            if (number := self.queue.popleft()) in self.waiting:
                self._start(number)

    async def _connect(self, number: int) -> None:
        try:
            _, connection = await self.loop.create_connection(
                lambda: Connection(self), self.host, self.port, ssl=self.tls
            )
        except (OSError, ssl.SSLError):
            self.open -= 1
            if number in self.waiting:
                self._ended(number, "unreachable")
            self._start_queued()
            return
        if number in self.waiting:
            self._ask(connection, number)
        else:
            self.free(connection)

    def _ask(self, connection: Connection, number: int) -> None:
        body = self.content(number)
        self.waiting[number] = connection
        connection.ask(number, b"%b%d\r\n\r\n%b" % (self.head, len(body), body))
        self.fates.sent[number] = self.loop.time() - self.begun

    def _ended(self, number: int, error: str | None) -> None:
        del self.waiting[number]
        self.fates.ended[number], self.fates.error[number] = self.loop.time() - self.begun, error

    async def _sweep(self) -> None:
        """Give up the requests whose time is over."""
        while True:
            await asyncio.sleep(_SWEEP)
            over = self.loop.time() - self.begun - self.timeout
            for number, connection in [*self.waiting.items()]:
                if self.fates.due[number] > over:
                    break
                self._ended(number, "timeout")
                if connection is not None:
                    connection.end()


def _refused(body: bytes) -> int:
    """Return how many inputs of a request have an error in the place of an answer."""
    if b'"error"' not in body:  # reading all of JSON would take the client's time
        return 0
    try:
        errors = [str(one.get("error")) for one in json.loads(body)["answers"]]
    except (ValueError, LookupError, TypeError, AttributeError):
        return 0
    return sum(error.startswith(f"inputs[{place}]: ") for place, error in enumerate(errors))  # not an object's own


def _code(body: bytes, status: int) -> str:
    """Return the code of an error of the server, or its status."""
    try:
        code = json.loads(body)["error"]["code"]
    except (ValueError, LookupError, TypeError):
        return str(status)
    return code if isinstance(code, str) else str(status)
