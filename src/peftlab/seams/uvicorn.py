"""uvicorn's connections, which by themselves wait for ever for heads, and for clients that do not read."""

from __future__ import annotations

import asyncio
from asyncio import TimerHandle
from dataclasses import dataclass, field
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_HEAD_BYTES = 32_768
MOST_HEADERS = 100
_ABSENT = b'{"error": {"code": "bad_request", "message": "%s", "request_id": ""}}'
_REFUSED = (
    b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n"
    b"cache-control: no-store\r\nx-content-type-options: nosniff\r\n\r\n%s"
)


@dataclass(frozen=True)
class Bounds:
    """What the clients of a process may take."""

    seconds: float
    """The longest from the first byte to the end of a request's head, and that a client may leave answers unread."""
    connections: int
    """The most connections; beyond them, the one that has been waiting for a request for longest is closed."""
    waiting: dict[Any, None] = field(default_factory=dict)
    """The connections that wait for the head of a request, in the order in which they began."""


def bounded(bounds: Bounds) -> type[asyncio.Protocol]:
    """Return uvicorn's protocol with `bounds`, for `uvicorn.Config(http=...)`."""

    class Bounded(_Bounded):
        pass

    Bounded.bounds = bounds
    return Bounded


class _Bounded(HttpToolsProtocol):
    """Closes what takes too long, and refuses heads that are too large.

    uvicorn watches a connection only between two requests. httptools keeps a header in memory until it has ended,
    however long it is.
    """

    bounds: Bounds
    _deadline: TimerHandle | None = None
    """Of the head that is to come."""
    _unread: TimerHandle | None = None
    """Of the client that does not read."""
    _in_head = True
    _size = 0
    """The bytes of the head so far."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        bounds = self.bounds
        if len(self.connections) > bounds.connections:
            if not bounds.waiting:
                self._refuse(503, b"Service Unavailable", b"too many connections")
                return
            longest = next(iter(bounds.waiting))
            del bounds.waiting[longest]
            longest.transport.abort()
        bounds.waiting[self] = None
        self._start_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_deadline()
        self._stop_unread()
        self.bounds.waiting.pop(self, None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._in_head:
            self._start_deadline()
            self._size += len(data)
        super().data_received(data)
        if self._in_head and self._size > MOST_HEAD_BYTES and not self.transport.is_closing():
            self._refuse(431, b"Request Header Fields Too Large", b"the head of the request is too large")

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > MOST_HEAD_BYTES:
            raise ValueError("too long a URL")  # httptools makes 400 of it

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:  # the trailer of a chunked body: nothing reads it
            return
        super().on_header(name, value)
        if len(self.headers) > MOST_HEADERS or sum(len(n) + len(v) for n, v in self.headers) > MOST_HEAD_BYTES:
            raise ValueError("too many headers")  # likewise

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_deadline()
        self.bounds.waiting.pop(self, None)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_head = True
        self._size = 0

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._expect_reading()
        elif self._in_head and not self.pipeline:
            self.bounds.waiting[self] = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_unread()

    def timeout_keep_alive_handler(self) -> None:
        self.transport.abort()  # to close would wait for a client that does not read

    def _expect_reading(self) -> None:
        if self._unread is None:
            self._unread = self.loop.call_later(self.bounds.seconds, self.transport.abort)

    def _start_deadline(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.bounds.seconds, self._end_deadline)

    def _end_deadline(self) -> None:
        self._deadline = None
        if self.cycle is not None and not self.cycle.response_complete:  # a second request, while the first is answered
            self._start_deadline()
        elif not self.transport.is_closing():
            self._refuse(408, b"Request Timeout", b"the head of the request has not come in time")

    def _stop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _stop_unread(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _refuse(self, status: int, phrase: bytes, message: bytes) -> None:
        content = _ABSENT % message
        self.transport.write(_REFUSED % (status, phrase, len(content), content))
        self.transport.close()
