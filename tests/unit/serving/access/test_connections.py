"""Connections of slow and hostile clients, on a real listener: each is closed in time, and others are answered."""

from __future__ import annotations

import socket
import threading

import pytest
import uvicorn

from peftlab.seams.uvicorn import Bounds, bounded

GET = b"GET / HTTP/1.1\r\nhost: localhost\r\n"
LARGE = 40_000_000
"""Bytes that no buffer of the system takes."""


async def app(scope, receive, send):
    """Answer with the number of headers, or with very many bytes."""
    while (await receive()).get("more_body"):
        pass
    body = b"x" * LARGE if scope["path"] == "/large" else str(len(scope["headers"])).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for start in range(0, len(body), 1 << 20):
        await send({"type": "http.response.body", "body": body[start : start + (1 << 20)], "more_body": True})
    await send({"type": "http.response.body"})


@pytest.fixture(scope="module")
def bounds():
    return Bounds(seconds=0.3, connections=5)


@pytest.fixture(scope="module")
def address(bounds):
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, http=bounded(bounds), ws="none", lifespan="off", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    yield listener.getsockname()
    server.should_exit = True
    thread.join(10)


def opened(address, data=b""):
    client = socket.create_connection(address, timeout=20)
    client.sendall(data)
    return client


def rest(client):
    """Return what comes until the server closes the connection."""
    pieces = []
    try:
        while piece := client.recv(1 << 16):
            pieces.append(piece)
    except ConnectionResetError:
        pass
    client.close()
    return b"".join(pieces)


def answered(address):
    content = rest(opened(address, GET + b"connection: close\r\n\r\n"))
    return content.startswith(b"HTTP/1.1 200")


def test_a_head_that_does_not_come_is_not_waited_for(address):
    for start in (b"", b"GET", GET, GET + b"x-a: ", b"\r\n", GET + b"\r\n" + b"GET", GET + b"\r\n\r\n"):
        client = opened(address, start)
        assert answered(address)
        assert start.startswith(GET + b"\r\n") or b" 408 " in rest(client), start
        client.close()


def test_a_dripping_head_does_not_start_the_clock_anew(address):
    client, drips = opened(address, GET), 0
    client.settimeout(0.05)
    closed = False
    while not closed and drips < 200:
        drips += 1
        try:
            client.sendall(b"x-a: 1\r\n")
            closed = client.recv(1 << 16) == b"" or drips > 3
        except TimeoutError:
            pass
        except OSError:
            closed = True
    assert closed


def test_large_heads_are_refused(address):
    for head, status in (
        (GET + b"x-a: " + b"a" * 100_000, b" 431 "),
        (b"GET /" + b"a" * 100_000, b" 400 "),
        (GET + b"x-a: " + b"a" * 40_000 + b"\r\n\r\n", b" 400 "),
        (GET + b"x-a: 1\r\n" * 200 + b"\r\n", b" 400 "),
        (b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nhost: localhost\r\n\r\n", b" 400 "),
    ):
        line = rest(opened(address, head)).partition(b"\r\n")[0]
        assert status in line, (head[:80], line)
        assert answered(address)


def test_trailers_are_no_headers(address):
    body = b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n1\r\na\r\n0\r\nx-forwarded-for: 1.1.1.1\r\n\r\n"
    assert rest(opened(address, GET + body)).endswith(b"\r\n\r\n3")


def test_idle_connections_give_way(address, bounds):
    idle = [opened(address, GET) for _ in range(40)]
    assert answered(address)
    assert len(bounds.waiting) <= bounds.connections
    for client in idle:
        client.close()


def test_a_client_that_does_not_read_is_left(address, bounds):
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(address)
    client.sendall(GET.replace(b"GET /", b"GET /large") + b"\r\n")
    threading.Event().wait(4 * bounds.seconds)
    assert answered(address)
    client.settimeout(20)
    assert len(rest(client)) < LARGE


def test_smuggled_requests_are_refused(address):
    for body in (
        b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /b HTTP/1.1\r\nhost: a\r\n\r\n",
        b"content-length: 4\r\ncontent-length: 5\r\n\r\nabcde",
        b"content-length: +4\r\n\r\nabcd",
        b"content-length: 4, 4\r\n\r\nabcd",
        b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n",
        b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"transfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        b"transfer-encoding: chunked\r\n\r\n-1\r\n",
        b"x-a: 1\n\r\n\r\n",
        b" folded: 1\r\n\r\n",
        b"x\x00y: 1\r\n\r\n",
    ):
        content = rest(opened(address, GET.replace(b"GET", b"POST") + body))
        assert content.startswith(b"HTTP/1.1 400"), (body, content[:200])
        assert content.count(b"HTTP/1.1") == 1
