"""A server to attack, with keys of every kind, and requests byte by byte."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.serving import Serving, serving

from peftlab.serving.access import keys
from peftlab.serving.access.keys import KeyFile

TEXT = "Marie Curie moved from Paris to Rome ."
ISSUER, AUDIENCE = "https://login.example", "peftlab"
PATIENCE = 2.0
"""What the server grants a client, in seconds."""
MOST = 100_000
"""The largest body, in bytes."""
SIGNER, STRANGER = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))


def token(key: Any = SIGNER, kid: str = "one", **claims: Any) -> str:
    soon = datetime.now(UTC) + timedelta(hours=1)
    content = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "exp": soon, "scope": "ner", **claims}
    return jwt.encode(content, key, "RS256", headers={"kid": kid})


def forged(algorithm: str) -> str:
    """Return a token that is unsigned, or signed by HMAC with the public key."""
    parts = [
        json.dumps({"alg": algorithm, "kid": "one"}).encode(),
        base64.urlsafe_b64decode(token().split(".")[1] + "=="),
    ]
    signed = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    pem = SIGNER.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    mac = b"" if algorithm == "none" else hmac.new(pem, signed, hashlib.sha256).digest()
    return (signed + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")).decode()


def key_file(folder: Path) -> dict[str, str]:
    """Write a file of keys; return a key of each kind."""
    file = folder / "keys.yaml"
    made = {
        "good": keys.add(file, "good", scopes=("ner",)),
        "other": keys.add(file, "other", scopes=("topics",)),
        "expired": keys.add(file, "expired", lasts=timedelta(seconds=-1)),
        "disabled": keys.add(file, "disabled"),
        "revoked": keys.add(file, "revoked"),
        "limited": keys.add(file, "limited", requests=2),
        "operator": keys.add(file, "operator", scopes=("admin",)),
    }
    keys.revoke(file, "revoked")
    content = KeyFile.read(file)
    content.keys["disabled"] = keys.replace(content.keys["disabled"], disabled=True)
    content.write(file)
    return {**made, "hash": str(content.keys["good"].hash)}


def jwks(folder: Path) -> Path:
    file = folder / "jwks.json"
    one = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(SIGNER.public_key()))
    file.write_text(json.dumps({"keys": [{**one, "kid": "one"}]}))
    return file


@dataclass
class Target:
    """A server, and keys of all kinds."""

    url: str
    admin: str
    keys: dict[str, str]
    folder: Path
    server: Serving
    port: int = field(init=False)

    def __post_init__(self) -> None:
        self.port = int(self.url.rpartition(":")[2])

    def good(self, text: str = TEXT, **headers: str) -> httpx.Response:
        """Return the response to a request without fault."""
        lines = {"authorization": f"Bearer {self.keys['good']}", **headers}
        return httpx.post(f"{self.url}/v1/predict", json={"model": "ner", "inputs": [text]}, headers=lines, timeout=20)

    def raw(self, data: bytes, port: int | None = None) -> tuple[int, str]:
        """Send bytes as they are; return the status (0: closed without an answer) and the code of the error."""
        with socket.create_connection(("127.0.0.1", port or self.port), timeout=20) as client:
            with suppress(OSError):  # it refuses to read on
                client.sendall(data)
            content = b""
            try:
                while piece := client.recv(1 << 16):
                    content += piece
                    if complete(content):
                        break
            except ConnectionResetError:
                pass
        if not content:
            return 0, ""
        assert content.count(b"HTTP/1.1 ") == 1, content[:2000]
        code = content.partition(b'"code": "')[2].partition(b'"')[0].decode()
        return int(content.split()[1]), code

    def head(self, line: str = "POST /v1/predict", key: str | None = "good", **more: Any) -> bytes:
        """Return the head of a request; in names of headers ``_`` stands for ``-``, a list for several."""
        lines: dict[str, Any] = {"host": f"127.0.0.1:{self.port}", "content-type": "application/json"}
        if key:
            lines["authorization"] = f"Bearer {self.keys.get(key, key)}"
        lines |= {name.replace("_", "-"): value for name, value in more.items()}
        pairs = [(n, v) for n, value in lines.items() for v in (value if isinstance(value, list) else [value])]
        head = f"{line} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in pairs if value is not None)
        return head.encode("utf-8", "surrogateescape") + b"\r\n"

    def request(self, body: Any = None, line: str = "POST /v1/predict", key: str | None = "good", **more: Any) -> bytes:
        """Return a request; `body` is bytes, or what is sent as JSON."""
        body = {"model": "ner", "inputs": [TEXT]} if body is None else body
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.head(line, key, **{"content_length": len(content), **more}) + content


def complete(content: bytes) -> bool:
    """Return whether a response has come to its end, by its length."""
    head, _, body = content.partition(b"\r\n\r\n")
    length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
    return bool(length) and len(body) >= int(length)


@contextmanager
def attacked(run: Path, folder: Path, *options: str) -> Iterator[Target]:
    made = key_file(folder)
    tokens = ["--jwt-issuer", ISSUER, "--jwt-audience", AUDIENCE, "--jwks", str(jwks(folder))]
    options = ("--keys", str(folder / "keys.yaml"), *tokens, "--client-timeout", str(PATIENCE), *options)
    with serving([f"ner={run}"], "--max-body", str(MOST), "--no-drift", *options, folder=folder) as server:
        yield Target(server.url, server.admin, made, folder, server)
