"""A server under attack: each request is refused with its status, and nobody else notices."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from tests.slow.attacks import STRANGER, TEXT, Target, attacked, forged, token
from tests.train.conftest import finished, run_once, run_tiny  # noqa: F401  # fixtures

from peftlab.serving.access import keys

pytestmark = [pytest.mark.slow, pytest.mark.new_interpreter]


@pytest.fixture(scope="module")
def target(finished: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:  # noqa: F811
    with attacked(
        finished.folder, tmp_path_factory.mktemp("attacked"), "--max-connections", "50", "--workers", "2"
    ) as one:
        yield one


PIECE = b"ffff\r\n" + b" " * 0xFFFF + b"\r\n"

Attack = Callable[[Target], bytes]
ATTACKS: dict[str, tuple[int, Attack]] = {
    # keys
    "no key": (401, lambda t: t.request(key=None)),
    "wrong secret": (401, lambda t: t.request(key=t.keys["good"][:-43] + "A" * 43)),
    "unknown name": (401, lambda t: t.request(key=t.keys["good"].replace("_good_", "_nobody_"))),
    "secret of another": (401, lambda t: t.request(key=t.keys["good"].replace("_good_", "_other_"))),
    "key of another model": (403, lambda t: t.request(key="other")),
    "key of another model, no model": (403, lambda t: t.request({"inputs": [TEXT]}, key="other")),
    "key of administration": (403, lambda t: t.request(key="operator")),
    "expired key": (401, lambda t: t.request(key="expired")),
    "disabled key": (401, lambda t: t.request(key="disabled")),
    "revoked key": (401, lambda t: t.request(key="revoked")),
    "hash as key": (401, lambda t: t.request(key=f"peftlab_good_{t.keys['hash']}")),
    "very long key": (401, lambda t: t.request(key="peftlab_good_" + "a" * 20_000)),
    "key in other letters": (401, lambda t: t.request(key=t.keys["good"].replace("good", "gооd"))),  # noqa: RUF001
    "two keys": (401, lambda t: t.request(x_api_key=t.keys["other"])),
    "key in the query": (401, lambda t: t.request(key=None, line=f"POST /v1/predict?key={t.keys['good']}")),
    "key in a cookie": (401, lambda t: t.request(key=None, cookie=f"key={t.keys['good']}")),
    "key as a password": (401, lambda t: t.request(key=None, authorization=f"Basic {t.keys['good']}")),
    # tokens
    "unsigned token": (401, lambda t: t.request(key=forged("none"))),
    "token signed with the public key": (401, lambda t: t.request(key=forged("HS256"))),
    "token of a stranger": (401, lambda t: t.request(key=token(STRANGER))),
    "expired token": (401, lambda t: t.request(key=token(exp=datetime.now(UTC) - timedelta(hours=1)))),
    "token for others": (401, lambda t: t.request(key=token(aud="others"))),
    "token of another issuer": (401, lambda t: t.request(key=token(iss="https://evil.example"))),
    "token with a path as key": (401, lambda t: t.request(key=token(kid="../../../jwks.json"))),
    "token of another model": (403, lambda t: t.request(key=token(scope="topics"))),
    # paths
    "leading out": (404, lambda t: t.request(line="GET /../../../../etc/passwd")),
    "leading out, encoded": (404, lambda t: t.request(line="GET /%2e%2e/%2e%2e/etc/passwd")),
    "two slashes": (404, lambda t: t.request(line="POST //v1/predict")),
    "zero byte": (404, lambda t: t.request(line="GET /livez%00")),
    "backslashes": (404, lambda t: t.request(line="GET /..%5c..%5cetc")),
    "administration in public": (404, lambda t: t.request(b"", line="POST /admin/drain", key="operator")),
    "metrics in public": (404, lambda t: t.request(b"", line="GET /metrics")),
    "a path without a key": (401, lambda t: t.request(b"", line="GET /livez/..;/v1/models", key=None)),
    # sizes
    "large body": (413, lambda t: t.request({"model": "ner", "inputs": ["a" * 10_000_000]})),
    "very many inputs": (413, lambda t: t.request(b'{"model": "ner", "inputs": [' + b'"a",' * 1_000_000 + b'"a"]}')),
    "many inputs": (413, lambda t: t.request({"model": "ner", "inputs": ["a"] * 1000})),
    "untrue length": (413, lambda t: t.head(content_length=10**12) + b"{"),
    "endless pieces": (413, lambda t: t.head(transfer_encoding="chunked") + PIECE * 9),
    "large header": (431, lambda t: t.head(x_a="a" * 200_000)),
    "many headers": (400, lambda t: t.head(x_a=["a"] * 500)),
    "long path": (400, lambda t: t.head("GET /" + "a" * 60_000)),
    "deep JSON": (400, lambda t: t.request(b'{"model": "ner", "inputs": ' + b"[" * 40_000)),
    "deep JSON, closed": (400, lambda t: t.request(b'{"model": "ner", "inputs": ' + b"[" * 99 + b"]" * 99 + b"}")),
    "huge number": (400, lambda t: t.request(b'{"model": "ner", "inputs": [' + b"9" * 50_000 + b"]}")),
    "infinite number": (400, lambda t: t.request(b'{"model": "ner", "inputs": [{"text": "a", "id": 1e999}]}')),
    # JSON
    "malformed": (400, lambda t: t.request(b'{"model": "ner", "inputs": ["a"')),
    "no number": (400, lambda t: t.request(b'{"model": "ner", "inputs": [NaN]}')),
    "keys twice": (400, lambda t: t.request(b'{"model": "topics", "inputs": ["a"], "model": "ner"}')),
    "no UTF-8": (400, lambda t: t.request(b'{"model": "ner", "inputs": ["\xff\xfe"]}')),
    "half a letter": (400, lambda t: t.request(b'{"model": "ner", "inputs": ["\\ud83d"]}')),
    "nothing": (422, lambda t: t.request(b"")),
    "a list": (422, lambda t: t.request([TEXT])),
    "unknown field": (422, lambda t: t.request({"model": "ner", "inputs": [TEXT], "__class__": "os.system"})),
    "no texts": (422, lambda t: t.request({"model": "ner", "inputs": {"a": 1}})),
    # types
    "text": (415, lambda t: t.request(content_type="text/plain")),
    "a form": (415, lambda t: t.request(b"model=ner", content_type="application/x-www-form-urlencoded")),
    "no type": (415, lambda t: t.request(content_type=None)),
    "bomb": (415, lambda t: t.request(gzip.compress(b" " * 50_000_000), content_encoding="gzip")),
    # the connection
    "two lengths": (400, lambda t: t.request(content_length=[5, 60])),
    "length and pieces": (400, lambda t: t.request(transfer_encoding="chunked")),
    "signed length": (400, lambda t: t.request(content_length="+5")),
    "hidden pieces": (400, lambda t: t.head(**{"transfer-encoding ": "chunked"}) + b"0\r\n\r\n"),
    "unknown pieces": (400, lambda t: t.request(transfer_encoding="xchunked", content_length=None)),
    "folded header": (400, lambda t: t.head(x_a="1\r\n b")),
    "no HTTP": (400, lambda t: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 500),
    "HTTP 2": (400, lambda t: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    # headers
    "another's name": (421, lambda t: t.request(host="evil.example")),
    "two names": (400, lambda t: t.request(host=["127.0.0.1", "evil.example"])),
    "no name": (400, lambda t: t.request(host=None)),
    "a page of elsewhere": (403, lambda t: t.request(origin="https://evil.example")),
    "a page of nowhere": (403, lambda t: t.request(origin="null")),
    "asked first": (405, lambda t: t.request(b"", "OPTIONS /v1/predict", origin=t.url)),
    # methods
    "TRACE": (405, lambda t: t.request(b"", line="TRACE /v1/predict")),
    "PUT": (405, lambda t: t.request(line="PUT /v1/predict")),
    "GET": (405, lambda t: t.request(b"", line="GET /v1/predict")),
    "a method of its own": (400, lambda t: t.request(line="EVIL /v1/predict")),
    "a tunnel": (400, lambda t: t.request(b"", line="CONNECT evil.example:443")),
    "WebSocket": (
        405,
        lambda t: t.request(
            b"", "GET /v1/predict", connection="Upgrade", upgrade="websocket", sec_websocket_version=13,
            sec_websocket_key="dGhlIHNhbXBsZSBub25jZQ=="
        ),
    ),
}  # fmt: skip


def test_every_attack_is_refused_and_others_are_answered(target):
    assert len(ATTACKS) >= 60
    wrong = {}
    for name, (status, attack) in ATTACKS.items():
        answered = target.raw(attack(target))
        after = target.good().status_code
        if (answered[0], after) != (status, 200):
            wrong[name] = (answered, after)
    assert wrong == {}


def test_what_is_refused_tells_nothing_about_models(target):
    of_another = target.raw(target.request(key="other"))
    of_none = target.raw(target.request({"model": "nowhere", "inputs": [TEXT]}, key="other"))
    assert of_another == of_none == (403, "forbidden")
    names = httpx.get(f"{target.url}/v1/models", headers={"x-api-key": target.keys["other"]}).json()
    assert names == {"models": []}


def test_headers_that_mean_something_elsewhere_mean_nothing(target):
    identity = target.good().headers["x-request-id"]
    for headers in (
        {"x-http-method-override": "DELETE"},
        {"x-original-url": "/admin/drain"},
        {"x-forwarded-for": "127.0.0.1", "x-forwarded-host": "evil.example", "x-forwarded-proto": "https"},
        {"forwarded": "for=127.0.0.1;host=evil.example"},
        {"x-request-id": "a%0d%0aset-cookie: a=b"},
        {"traceparent": "00-" + "g" * 32 + "-1-01"},
    ):
        response = target.good(**headers)
        assert response.status_code == 200, headers
        assert "evil" not in str(response.headers)
        assert "set-cookie" not in response.headers
        assert "strict-transport-security" not in response.headers
        assert len(response.headers["x-request-id"]) == len(identity)


def test_a_token_and_odd_texts_are_answered(target):
    assert target.raw(target.request(key=token())) == (200, "")
    for text in (
        "",
        "\0",
        "a" * 50_000,
        "((((a+)+)+)+)+!" * 2000,
        "\u202eabc",
        "@" * 20_000,
        "1-" * 20_000,
        "é\u0301" * 5000,
    ):
        assert target.good(text).status_code == 200, text[:20]  # within its time


def test_the_administration_asks_for_its_scope(target):
    port = int(target.admin.rpartition(":")[2])
    for key, status in ((None, 401), ("good", 403), (token(), 403), ("operator", 200)):
        assert target.raw(target.request(b"", line="DELETE /admin/drain", key=key), port)[0] == status, key
    foreign = target.request(b"", line="POST /admin/drain", key="operator", origin="https://evil.example")
    assert target.raw(foreign, port)[0] == 403
    assert target.good().status_code == 200


def test_slow_clients_harm_nobody_and_are_closed(target):
    starts = {
        "nothing": b"",
        "half a head": target.head()[:-2],
        "a head, no body": target.head(content_length=50),
        "half a body": target.head(content_length=50) + b'{"model": ',
        "endless pieces": target.head(transfer_encoding="chunked") + b"1\r\n \r\n",
    }
    clients = {
        f"{name} {n}": socket.create_connection(("127.0.0.1", target.port), 30) for n in range(8) for name in starts
    }
    for name, client in clients.items():
        client.sendall(starts[name.rpartition(" ")[0]])
    idle = [socket.create_connection(("127.0.0.1", target.port), 30) for _ in range(160)]  # more than it holds
    with ThreadPoolExecutor(4) as pool:
        assert [one.status_code for one in pool.map(lambda _: target.good(), range(12))] == [200] * 12
    for client in (*clients.values(), *idle):
        try:
            while client.recv(1 << 16):
                pass
        except ConnectionResetError:
            pass
        client.close()
    assert target.good().status_code == 200


def test_a_client_that_drips_or_never_reads_is_closed(target):
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reader.connect(("127.0.0.1", target.port))
    asks = target.request(b"", line="GET /openapi.json") * 20_000

    def send() -> None:
        with suppress(OSError):
            reader.sendall(asks)

    sender = threading.Thread(target=send)
    sender.start()
    dripping = socket.create_connection(("127.0.0.1", target.port), 30)
    dripping.sendall(target.head()[:-2])
    for _ in range(200):
        try:
            dripping.sendall(b"x-a: 1\r\n")
        except OSError:
            break
        time.sleep(0.1)
    else:
        pytest.fail("a dripping head is waited for")
    sender.join(30)
    assert not sender.is_alive()
    reader.close()
    assert target.good().status_code == 200


def test_limits_hold_and_keys_change_without_a_restart(target):
    limited = target.keys["limited"]
    statuses = [target.raw(target.request(key="limited"))[0] for _ in range(4)]
    assert statuses == [200, 200, 429, 429]
    file = target.folder / "keys.yaml"
    new = keys.rotate(file, "limited", timedelta(0))
    assert target.raw(target.request(key=limited))[0] == 401
    assert target.raw(target.request(key=new))[0] == 429
    keys.revoke(file, "limited")
    assert target.raw(target.request(key=new))[0] == 401
    assert target.good().status_code == 200
