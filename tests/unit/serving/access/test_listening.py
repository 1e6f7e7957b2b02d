"""Where a server may listen: every address beyond loopback takes keys and encryption."""

from __future__ import annotations

import socket
import ssl
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from peftlab.errors import UserError
from peftlab.serving.access import keys, listening
from peftlab.serving.access.guard import Guard
from peftlab.serving.access.listening import uvicorn_options
from peftlab.serving.settings import Settings

BEYOND = ["0.0.0.0", "::", "", "10.1.2.3", "192.168.1.7", "169.254.0.1", "8.8.8.8", "fd00::1", "::ffff:10.0.0.1"]
WITHIN = ["127.0.0.1", "127.8.8.8", "::1", "localhost", "::ffff:127.0.0.1"]


@pytest.fixture
def key_file(tmp_path):
    keys.add(tmp_path / "keys.yaml", "one")
    return tmp_path / "keys.yaml"


@pytest.fixture
def certificate(tmp_path):
    return make_certificate(tmp_path)


def make_certificate(folder, password=None):
    """Write a certificate for localhost, and its key."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = (
        builder.serial_number(1).not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    )
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    lock = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    files = folder / "cert.pem", folder / "key.pem"
    files[0].write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(pem))
    files[1].write_bytes(key.private_bytes(pem, form, lock))
    files[1].chmod(0o600)
    return files


def settings(**values):
    return Settings(runs=(), **values)


def test_beyond_loopback_keys_and_encryption_are_needed(key_file, certificate):
    cert, key = certificate
    for host in BEYOND:
        with pytest.raises(UserError, match=r"nobody is asked for a key.*peftlab keys add"):
            listening.check(settings(host=host))
        with pytest.raises(UserError, match=r"unencrypted.*--behind-proxy"):
            listening.check(settings(host=host, keys=key_file))
        with pytest.raises(UserError, match="nobody is asked"):
            listening.check(settings(host=host, behind_proxy=True))
        with pytest.raises(UserError, match="--admin"):
            listening.check(settings(admin_host=host, admin_port=1))
        with pytest.raises(UserError, match="nobody is asked"):
            listening.listen(settings(host=host))
        listening.check(settings(host=host, keys=key_file, behind_proxy=True))
        listening.check(settings(host=host, keys=key_file, tls_cert=cert, tls_key=key))
    for host in WITHIN:
        listening.check(settings(host=host, admin_host=host, admin_port=1))


def test_a_name_counts_by_all_its_addresses(monkeypatch):
    entries = [(socket.AF_INET, 1, 6, "", (address, 0)) for address in ("127.0.0.1", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: entries)
    assert not listening.is_loopback("both")
    with pytest.raises(UserError, match=r"10\.0\.0\.1"):
        listening.check(settings(host="both"))


def test_a_name_that_is_none():
    with pytest.raises(UserError, match="no address or name"):
        listening.check(settings(host="no such host"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"jwt_issuer": "https://a"}, "--jwt-audience, --jwks: missing"),
        ({"jwt_algorithms": ("HS256",)}, "--jwt-algorithms HS256"),
        ({"jwt_algorithms": ("none",)}, "--jwt-algorithms none"),
        ({"cors": ("*",)}, r"--cors \*"),
        ({"cors": ("null",)}, "--cors null"),
        ({"cors": ("https://a.b/path",)}, "--cors"),
        ({"proxies": ("*",)}, "--proxy"),
        ({"proxies": ("0.0.0.0/0",)}, "everybody"),
        ({"hosts": ("*",)}, "--hosts"),
        ({"hosts": ("a/b",)}, "--hosts"),
        ({"jwt_claim": "roles"}, "--jwt-claim: .* without --jwks"),
        ({"jwt_algorithms": ("ES256",)}, "--jwt-algorithms: .* without --jwks"),
        ({"socket": Path("s"), "host": "0.0.0.0"}, "--socket s: .* leave --host and --port out"),
    ],
)
def test_other_openings_are_refused(values, message):
    with pytest.raises(UserError, match=message):
        listening.check(settings(**values))


def test_certificates_are_checked(certificate, tmp_path):
    cert, key = certificate
    with pytest.raises(UserError, match="go together"):
        listening.check(settings(tls_cert=cert))
    with pytest.raises(UserError, match="is no file"):
        listening.check(settings(tls_cert=tmp_path / "none", tls_key=key))
    with pytest.raises(UserError, match="no certificate and its open key"):
        listening.check(settings(tls_cert=key, tls_key=key))
    key.chmod(0o644)
    with pytest.raises(UserError, match="chmod 600"):
        listening.check(settings(tls_cert=cert, tls_key=key))
    cert, key = make_certificate(tmp_path, password=b"secret")
    with pytest.raises(UserError, match="open key"):
        listening.check(settings(tls_cert=cert, tls_key=key))


def test_a_unix_socket_is_its_owners(tmp_path):
    path = tmp_path / "s"
    first = listening.listen(settings(socket=path, host="0.0.0.0"))
    assert stat.S_IMODE(path.lstat().st_mode) == 0o600
    with pytest.raises(UserError, match="another server"):
        listening.listen(settings(socket=path))
    first.close()
    listening.listen(settings(socket=path)).close()
    (tmp_path / "file").write_text("kept")
    with pytest.raises(UserError, match="something else"):
        listening.listen(settings(socket=tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "kept"


def test_an_encrypted_server(certificate, tmp_path):
    cert, key = certificate
    one = settings(port=0, tls_cert=cert, tls_key=key)
    server = uvicorn.Server(uvicorn.Config(Guard(one).around(nothing), lifespan="off", **uvicorn_options(one)))
    with listening.listen(one) as listener:
        address = f"https://localhost:{listener.getsockname()[1]}/"
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            answer = httpx.get(address, verify=ssl.create_default_context(cafile=cert), timeout=20)
            with pytest.raises(httpx.TransportError):
                httpx.get(address.replace("https", "http"), timeout=20)
        finally:
            server.should_exit = True
            thread.join(20)
    assert answer.headers["strict-transport-security"]
    assert "server" not in answer.headers
    assert "ssl_certfile" not in uvicorn_options(one, admin=True)  # on loopback


async def nothing(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})


def test_a_port_that_is_taken():
    with listening.listen(settings(port=0)) as first:
        assert first.getsockname()[0] == "127.0.0.1"
        with pytest.raises(UserError, match="Address already in use"):
            listening.listen(settings(port=first.getsockname()[1]))


def test_a_port_that_there_is_not():
    with pytest.raises(UserError, match="port 70000: the highest is 65535"):
        listening.listen(settings(port=70_000))
