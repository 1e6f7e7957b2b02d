"""The door: what comes through, what is refused with what, and what every answer has."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import replace

import pytest

from peftlab.serving.access import keys
from peftlab.serving.access.callers import Caller
from peftlab.serving.access.guard import Guard
from peftlab.serving.access.refusals import Refusal
from peftlab.serving.settings import Settings

JSON = {"content-type": "application/json"}
GOOD = b'{"model": "ner", "inputs": ["a"]}'


async def echo(scope, receive, send):
    """Answer with who has asked and what."""
    body = await receive()
    assert body["more_body"] is False
    content = json.dumps({"caller": scope["state"]["caller"].name, "body": body["body"].decode()}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": content})


def exchange(guard, method="POST", path="/v1/predict", headers=(), body=GOOD, app=echo, pieces=None, **scope):
    """Return the status, the headers and the body of the answer."""
    lines = {"host": "localhost", **(JSON if body else {}), **dict(headers)}
    encoded = [
        (k.encode(), one.encode("latin-1")) for k, v in lines.items() for one in ([v] if isinstance(v, str) else v)
    ]
    messages = [
        {"type": "http.request", "body": piece, "more_body": number < len(pieces or [0]) - 1}
        for number, piece in enumerate(pieces or [body])
    ]
    sent = []

    async def receive():
        if not messages:
            await asyncio.sleep(100)
        return messages.pop(0)

    async def send(message):
        sent.append(message)

    whole = {"type": "http", "method": method, "path": path, "headers": encoded, "scheme": "http", **scope}
    asyncio.run(guard.around(app)(whole, receive, send))
    content = b"".join(message.get("body", b"") for message in sent[1:])
    return sent[0]["status"], {k.decode(): v.decode() for k, v in sent[0]["headers"]}, content


@pytest.fixture
def key(tmp_path):
    return keys.add(tmp_path / "keys.yaml", "one", scopes=("ner*",))


@pytest.fixture
def settings(tmp_path):
    return Settings(runs=())


@pytest.fixture
def locked(settings, tmp_path, key):
    return replace(settings, keys=tmp_path / "keys.yaml")


def refusal(answer):
    status, headers, content = answer
    error = json.loads(content)["error"]
    assert error["request_id"] == headers["x-request-id"]
    return status, error["code"]


def test_a_key_comes_in_either_header(locked, key):
    guard = Guard(locked)
    for headers in ({"authorization": f"Bearer {key}"}, {"authorization": f"bearer  {key}"}, {"x-api-key": key}):
        status, _, content = exchange(guard, headers=headers)
        assert (status, json.loads(content)) == (200, {"caller": "one", "body": GOOD.decode()})


def test_without_a_key_nothing_is_shown(locked, key):
    guard = Guard(locked)
    for path in ("/", "/docs", "/openapi.json", "/v1/models", "/nowhere", "/livez/", "/LIVEZ", "/livez;a"):
        answer = exchange(guard, "GET", path, body=b"")
        assert refusal(answer) == (401, "unauthorized"), path
        assert answer[1]["www-authenticate"].startswith("Bearer")
    for headers in (
        {"authorization": key},
        {"authorization": f"Basic {key}"},
        {"authorization": "Bearer"},
        {"authorization": f"Bearer {key}x"},
        {"authorization": [f"Bearer {key}", "Bearer other"]},
        {"authorization": f"Bearer {key}", "x-api-key": "other"},
        {"x-api-key": "é"},
        {"x-api-key": "a" * 30_000},
        {"cookie": f"key={key}"},
    ):
        assert refusal(exchange(guard, headers=headers)) == (401, "unauthorized"), headers
    assert refusal(exchange(guard, query_string=f"key={key}".encode()))[0] == 401
    for path in ("/livez", "/readyz"):
        assert exchange(guard, "GET", path, {"host": "10.0.0.1:8000"}, b"")[0] == 200


def test_the_page_is_open_if_that_is_said(locked):
    guard = Guard(replace(locked, open_page=True))
    assert [exchange(guard, "GET", path, body=b"")[0] for path in ("/", "/docs", "/openapi.json")] == [200] * 3
    assert [exchange(guard, "GET", path, body=b"")[0] for path in ("/v1/models", "/docs/x", "/docs2")] == [401] * 3
    assert exchange(guard, "POST", "/docs")[0] == 401


def test_models_and_minutes(locked, key):
    guard = Guard(replace(locked, requests_per_minute=2, tokens_per_minute=100))
    answers = [exchange(guard, headers={"x-api-key": key}) for _ in range(3)]
    assert [status for status, _, _ in answers] == [200, 200, 429]
    assert answers[2][1]["retry-after"] == "30"
    caller = Caller(name="one", scopes=("ner*",))
    guard.check(caller, "ner-en")
    with pytest.raises(Refusal) as refused:
        guard.check(caller, "topics")
    assert refused.value.status == 403
    guard.spend(caller, 90)
    with pytest.raises(Refusal) as refused:
        guard.spend(caller, 20)
    assert (refused.value.status, refused.value.headers) == (429, {"retry-after": "6"})


def test_the_administration(settings, locked, tmp_path, key):
    admin = keys.add(locked.keys, "operator", scopes=("admin",))
    open_, shut = Guard(settings, admin=True), Guard(locked, admin=True)
    beyond = Guard(replace(locked, admin_host="10.0.0.1", behind_proxy=True), admin=True)
    drain = {"method": "POST", "path": "/admin/drain", "body": b""}
    metrics = {"method": "GET", "path": "/metrics", "body": b""}
    assert [exchange(open_, **one)[0] for one in (drain, metrics)] == [200, 200]
    assert [exchange(shut, **one)[0] for one in (drain, metrics)] == [401, 200]
    assert [exchange(beyond, **one)[0] for one in (drain, metrics)] == [401, 401]
    for guard in (shut, beyond):
        assert exchange(guard, **drain, headers={"x-api-key": key})[0] == 403
        assert exchange(guard, **drain, headers={"x-api-key": admin})[0] == 200
    assert exchange(open_, "DELETE", "/admin/models/a", body=b"")[0] == 200
    assert exchange(open_, **drain, headers={"origin": "https://evil.example"})[0] == 403


def test_names_of_the_server(settings, locked, key):
    for host in ("localhost", "127.0.0.1:8000", "[::1]:8000", "LOCALHOST"):
        assert exchange(Guard(settings), headers={"host": host})[0] == 200, host
    for host in ("evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1"):
        assert refusal(exchange(Guard(settings), headers={"host": host})) == (421, "wrong_host"), host
    for host in ("", "a/b", "a b", "localhost:8000:1", "user@localhost", ["localhost", "localhost"]):
        assert refusal(exchange(Guard(settings), headers={"host": host}))[0] == 400, host
    named = Guard(replace(settings, hosts=("models.example", "*.in.example")))
    statuses = [
        exchange(named, headers={"host": host})[0]
        for host in ("models.example", "a.in.example:443", "localhost", "models.example.evil")
    ]
    assert statuses == [200, 200, 421, 421]
    administration = Guard(replace(settings, hosts=("models.example",)), admin=True)
    hosts = ("127.0.0.1:9000", "models.example", "evil.example")
    assert [exchange(administration, headers={"host": host})[0] for host in hosts] == [200, 200, 421]
    beyond = Guard(replace(locked, host="0.0.0.0"))
    assert exchange(beyond, headers={"host": "anything.example", "x-api-key": key})[0] == 200


def test_pages_of_elsewhere(settings):
    shut, app = Guard(settings), "https://app.example"
    own = {"host": "localhost:8000", "origin": "http://localhost:8000"}
    assert exchange(shut, headers=own)[0] == 200
    for origin in (app, "null", "http://localhost:9", "https://localhost:8000.evil.example", [app, own["origin"]]):
        status, headers, _ = exchange(shut, headers={**own, "origin": origin})
        assert status == 403, origin
        assert not [name for name in headers if name.startswith("access-control")]
    ask = {"origin": app, "access-control-request-method": "POST"}
    assert exchange(shut, "OPTIONS", headers=ask, body=b"")[0] == 405
    open_ = Guard(replace(settings, cors=(app,)))
    status, headers, _ = exchange(open_, "OPTIONS", headers=ask, body=b"")
    assert (status, headers["access-control-allow-origin"], headers["vary"]) == (204, app, "Origin")
    status, headers, _ = exchange(open_, headers={"origin": app})
    assert (status, headers["access-control-allow-origin"]) == (200, app)
    assert "access-control-allow-credentials" not in headers
    status, headers, _ = exchange(open_, "OPTIONS", headers={**ask, "origin": "https://evil.example"}, body=b"")
    assert (status, "access-control-allow-origin" in headers) == (403, False)
    status, headers, _ = exchange(open_, headers={"origin": app, "content-type": "text/plain"})
    assert (status, headers["access-control-allow-origin"]) == (415, app)  # the page can read why


def test_bodies(settings):
    guard = Guard(replace(settings, max_body=100, client_s=0.05))
    cases = {
        b"x" * 101: 413,
        b"{": 400,
        b'{"a": 1, "a": 2}': 400,
        b'{"a": NaN}': 400,
        b'{"a": -Infinity}': 400,
        b'{"a": 1e999}': 400,
        b'{"a": "\\ud800"}': 400,
        b"\xff\xfe": 400,
        b'{"a": ' + b"9" * 90 + b"}": 200,
        b"[" * 40 + b"]" * 40: 400,
        b'\xef\xbb\xbf{"a": 1}': 400,
    }
    for body, status in cases.items():
        assert exchange(guard, body=body)[0] == status, body
    wide = Guard(settings)
    assert exchange(wide, body=b"[" * 400_000)[0] == 400
    assert exchange(wide, body=b"9" * 400_000)[0] == 400
    assert refusal(exchange(guard, pieces=[b"x" * 60, b"x" * 60])) == (413, "too_large")
    assert refusal(exchange(guard, headers={"content-length": "101"})) == (413, "too_large")
    assert refusal(exchange(guard, pieces=[b"{", b""])) == (400, "bad_json")
    for kind in ("text/plain", "application/jsonp", "multipart/form-data", "", "application/json; charset=utf-16"):
        assert refusal(exchange(guard, headers={"content-type": kind})) == (415, "wrong_type"), kind
    assert exchange(guard, headers={"content-type": ["application/json", "text/plain"]})[0] == 415
    assert exchange(guard, headers={"content-type": 'Application/JSON; charset="UTF-8"'})[0] == 200
    for encoding in ("gzip", "br", "identity, gzip"):
        assert refusal(exchange(guard, headers={"content-encoding": encoding})) == (415, "encoded")


def test_a_slow_body_and_a_client_that_goes(settings):
    guard = Guard(replace(settings, client_s=0.02))
    sent = []

    async def slow():
        await asyncio.sleep(0.005)
        return {"type": "http.request", "body": b" ", "more_body": True}

    async def gone():
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    for receive in (slow, gone):
        scope = {"type": "http", "method": "POST", "path": "/a", "headers": [(b"host", b"localhost")], "scheme": "http"}
        asyncio.run(guard.around(echo)(scope, receive, send))
    assert [message["status"] for message in sent if "status" in message] == [408, 400]
    assert (b"connection", b"close") in sent[0]["headers"]


def test_methods_and_paths(settings):
    guard = Guard(settings)
    for method in ("TRACE", "PUT", "DELETE", "OPTIONS", "CONNECT", "get", "FOO"):
        status, headers, _ = exchange(guard, method, "/v1/models", body=b"")
        assert (status, headers["allow"]) == (405, "GET, HEAD, POST"), method
    for path in ("//livez", "/a/../livez", "/..", "/a/./b", "/a\\b", "/a\x00", "/a\n", "/livez/.."):
        assert refusal(exchange(guard, "GET", path, body=b"")) == (404, "not_found"), path
    for path in ("/a..b", "/...", "/a.b"):
        assert exchange(guard, "GET", path, body=b"")[0] == 200


def test_what_every_answer_has(settings):
    async def with_own(scope, receive, send):
        own = [(b"content-security-policy", b"script-src 'self'"), (b"cache-control", b"max-age=9")]
        await send({"type": "http.response.start", "status": 200, "headers": own})
        await send({"type": "http.response.body"})

    guard = Guard(settings)
    for answer in (exchange(guard), exchange(guard, "TRACE"), exchange(guard, headers={"host": "evil.example"})):
        headers = answer[1]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert (headers["x-frame-options"], headers["referrer-policy"]) == ("DENY", "no-referrer")
        assert "strict-transport-security" not in headers
        assert "access-control-allow-origin" not in headers
    _, headers, _ = exchange(guard, app=with_own, scheme="https")
    assert (headers["content-security-policy"], headers["cache-control"]) == ("script-src 'self'", "max-age=9")
    assert headers["strict-transport-security"]


def test_request_ids(settings):
    guard = Guard(settings)
    own = "3f9c2a00-1111-4222-8333-444455556666"
    assert exchange(guard, headers={"x-request-id": own})[1]["x-request-id"] == own
    assert exchange(guard, headers={"x-request-id": own}, state={"request_id": "outer"})[1]["x-request-id"] == "outer"
    for odd in ("short", "a" * 37, "hf_" + "a" * 20, "a\tb-c-d-e-f", "", [own, own]):
        given = exchange(guard, headers={"x-request-id": odd})[1]["x-request-id"]
        assert len(given) == 32, odd
        assert given not in odd


def test_errors_of_the_application_are_not_told(settings, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("peftlab"), "propagate", True)

    async def fails(scope, receive, send):
        raise RuntimeError("the text of a client")

    async def breaks_off(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("the text of a client")

    async def refuses(scope, receive, send):
        raise Refusal(503, "draining", "later", {"retry-after": "1"})

    guard, state = Guard(settings), {}
    assert refusal(exchange(guard, app=fails, state=state)) == (500, "internal")
    assert state["error"] == "internal"
    with pytest.raises(ConnectionAbortedError):
        exchange(guard, app=breaks_off)
    assert "RuntimeError in" in caplog.text
    assert "test_guard.py:" in caplog.text
    assert "the text of a client" not in caplog.text
    answer = exchange(guard, app=refuses)
    assert refusal(answer) == (503, "draining")
    assert answer[1]["retry-after"] == "1"


def test_answers_stream_through_and_websockets_do_not(settings):
    seen = []

    async def streams(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for piece in (b"a", b"b"):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            seen.append(piece)
        await send({"type": "http.response.body"})

    assert exchange(Guard(settings), app=streams)[2] == b"ab"
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(Guard(settings).around(echo)({"type": "websocket", "path": "/"}, None, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]
