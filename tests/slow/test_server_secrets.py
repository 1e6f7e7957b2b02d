"""What a server writes while requests hold secrets in every place: none of them, and no text."""

from __future__ import annotations

import hashlib
import http.server
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from tests.slow.attacks import STRANGER, Target, attacked, complete, token
from tests.train.conftest import finished, run_once, run_tiny  # noqa: F401  # fixtures

from peftlab.serving.access import keys

pytestmark = [pytest.mark.slow, pytest.mark.new_interpreter]


class Collector(http.server.BaseHTTPRequestHandler):
    """Takes traces and alerts, and keeps what it was sent."""

    received: list[bytes]

    def do_POST(self) -> None:
        self.received.append(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def collector() -> Iterator[tuple[str, list[bytes]]]:
    handler = type("Keeping", (Collector,), {"received": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", handler.received
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def planted() -> Iterator[tuple[str, Callable[[Target, str], bytes]]]:
    """Yield places for a secret in a request; ``%s`` in names stands for nothing."""

    def body(make: Callable[[str], Any], **more: Any) -> Callable[[Target, str], bytes]:
        return lambda t, s: t.request(make(s), **more)

    def header(name: str, form: str = "{}", key: str | None = "good") -> Callable[[Target, str], bytes]:
        return lambda t, s: t.request(key=key, **{name: form.format(s)})

    yield "key", lambda t, s: t.request(key=s)
    yield "peftlab key", lambda t, s: t.request(key=f"peftlab_{s[:20]}_{s}")
    yield "token", lambda t, s: t.request(key=f"{s}.{s}.{s}")
    yield "subject of a token", lambda t, s: t.request(key=token(STRANGER, sub=s))
    yield "kid of a token", lambda t, s: t.request(key=token(kid=s))
    yield "X-API-Key", header("x_api_key", key=None)
    for name, form in {
        "basic authorization": "Basic {}",
        "digest authorization": 'Digest username="{}"',
    }.items():
        yield name, header("authorization", form, None)
    for name in (
        "cookie", "user_agent", "referer", "x_request_id", "traceparent", "tracestate", "baggage", "x_forwarded_for",
        "x_forwarded_host", "proxy_authorization", "x_amz_security_token", "content_encoding", "accept", "from"
    ):  # fmt: skip
        yield name, header(name)
    yield "traceparent of the right form", header("tracestate", "a={}")
    yield "host", header("host")
    yield "origin", header("origin", "https://{}.example")
    yield "content type", header("content_type", "text/{}")
    yield "upgrade", lambda t, s: t.request(b"", "GET /v1/models", connection="upgrade", upgrade=s)
    yield "name of a header", lambda t, s: t.request(**{s: "1"})
    yield "header that is none", lambda t, s: t.head()[:-2] + f"{s}\x00: 1\r\n\r\n".encode()
    yield "method", lambda t, s: t.request(line=f"{s.upper()} /v1/predict")
    yield "path", lambda t, s: t.request(b"", f"GET /v1/{s}")
    yield "path that is refused", lambda t, s: t.request(b"", f"GET /v1/../{s}")
    yield "query", lambda t, s: t.request(line=f"POST /v1/predict?api_key={s}")
    yield "fragment", lambda t, s: t.request(line=f"POST /v1/predict#{s}")
    yield "absolute path", lambda t, s: t.request(line=f"POST http://me:{s}@127.0.0.1/v1/predict")
    yield "text", body(lambda s: {"model": "ner", "inputs": [f"Marie {s} moved"]})
    yield "words", body(lambda s: {"model": "ner", "inputs": [["Marie", s, "moved"]]})
    yield "entry", body(lambda s: {"model": "ner", "inputs": [{"text": "Marie", "id": s}]})
    yield "text of no key", body(lambda s: {"model": "ner", "inputs": [s]}, key=None)
    yield "model", body(lambda s: {"model": s, "inputs": ["a"]})
    yield "model, with any scope", lambda t, s: t.request({"model": s, "inputs": ["a"]}, key=t.keys["all"])
    yield "field", body(lambda s: {"model": "ner", "inputs": ["a"], s: 1})
    yield "option", body(lambda s: {"model": "ner", "inputs": ["a"], "options": {s: 1}})
    yield "value of an option", body(lambda s: {"model": "ner", "inputs": ["a"], "options": {"seed": s}})
    yield "stream", body(lambda s: {"model": "ner", "inputs": [s], "stream": s})
    yield "malformed JSON", body(lambda s: f'{{"model": "ner", {s}: "{s}"'.encode())
    yield "key twice", body(lambda s: f'{{"{s}": 1, "{s}": 2}}'.encode())
    yield "no UTF-8", body(lambda s: f'{{"{s}": "'.encode() + b'\xff"}')
    yield "half a letter", body(lambda s: f'{{"model": "ner", "inputs": ["{s} \\ud83d"]}}'.encode())
    yield "too large", body(lambda s: {"model": "ner", "inputs": [s * 10_000]})
    yield "odd input", body(lambda s: {"model": "ner", "inputs": [{s: s}]})
    yield "odd words", body(lambda s: {"model": "ner", "inputs": [[s, {s: 1}]]})
    yield "number of tags", body(lambda s: {"model": "ner", "inputs": [{"words": [s], "tags": [s]}]})
    yield "piece", lambda t, s: t.head(transfer_encoding="chunked") + f"2;{s}\r\n{{}}\r\n0\r\n{s}: 1\r\n\r\n".encode()


def test_no_secret_and_no_text_is_written(finished, tmp_path):  # noqa: F811
    places, refused = dict(planted()), {}
    assert len(places) >= 40
    with collector() as (url, received):
        options = ["--request-log", str(tmp_path / "requests.jsonl"), "--otlp", url, "--state", str(tmp_path / "state")]
        with attacked(finished.folder, tmp_path, *options) as target:
            target.keys["all"] = keys.add(tmp_path / "keys.yaml", "all")
            secrets = {place: hashlib.sha256(place.encode()).hexdigest()[:40].translate(LETTERS) for place in places}
            for place, make in places.items():
                refused[place] = everything(target, make(target, secrets[place]))
            shown = "0123456789abcdef"  # what is written, and would be found
            assert target.good(**{"x-request-id": shown}).status_code == 200
            metrics = httpx.get(f"{target.admin}/metrics").text
            files = {str(file): file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
            assert target.server.end() == 0
        files |= {str(file): file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    assert received, "no trace has come"
    written = {"metrics": metrics.encode(), "traces": b"".join(received), **files}
    found = {
        (place, where)
        for place, secret in secrets.items()
        for where, content in {**written, "the response": refused[place]}.items()
        if secret.encode() in content.lower()
    }
    assert found == set()
    keys_sent = [value.encode() for name, value in target.keys.items() if name != "hash"]
    assert not [where for where, content in written.items() for key in keys_sent if key[-43:] in content]
    assert shown.encode() in files[str(tmp_path / "requests.jsonl")]
    assert b"Traceback" not in b"".join(files.values())


LETTERS = str.maketrans("0123456789", "ghijklmnop")
"""A secret has letters alone, so that it may stand in any place."""


def everything(target: Target, data: bytes) -> bytes:
    """Return the response to `data`, or nothing where it is an answer, which holds its text."""
    with socket.create_connection(("127.0.0.1", target.port), timeout=20) as client:
        content = b""
        try:
            client.sendall(data)
            while not complete(content) and (piece := client.recv(1 << 16)):
                content += piece
        except ConnectionResetError:
            pass
    return b"" if b" 200 OK" in content[:20] else content.lower()
