"""Tokens: what passes and what does not, and when the issuer's keys are fetched."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from peftlab.errors import UserError
from peftlab.serving.access import tokens
from peftlab.serving.access.tokens import Tokens
from peftlab.serving.settings import Settings

ISSUER, AUDIENCE = "https://login.example", "peftlab"
RSA, OTHER = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))
CURVE = ec.generate_private_key(ec.SECP256R1())


def public(key, kid, **more):
    kind = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    return {**json.loads(kind.to_jwk(key.public_key())), "kid": kid, **more}


def signed(key=RSA, kid="one", algorithm="RS256", headers=(), **claims):
    now = datetime.now(UTC)
    content = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "exp": now + timedelta(hours=1), "scope": "ner-* admin"}
    content = {name: value for name, value in {**content, **claims}.items() if value is not None}
    return jwt.encode(content, key, algorithm, headers={**({"kid": kid} if kid else {}), **dict(headers)})


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def settings(tmp_path):
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps({"keys": [public(RSA, "one"), public(CURVE, "two", alg="ES256")]}))
    return Settings(runs=(), jwt_issuer=ISSUER, jwt_audience=AUDIENCE, jwks=str(file))


def caller(text, settings, clock=time.monotonic):
    return asyncio.run(Tokens(settings, clock).caller(text))


def test_a_good_token_gives_its_subject_and_scopes(settings):
    one = caller(signed(), settings)
    assert (one.name, one.scopes, one.admin) == ("token:ann", ("ner-*", "admin"), True)
    assert caller(signed(CURVE, "two", "ES256"), settings).name == "token:ann"
    assert caller(signed(exp=datetime.now(UTC) - timedelta(seconds=10)), settings)  # clocks differ a little


def test_the_only_key_needs_no_name(settings, tmp_path):
    file = tmp_path / "one.json"
    file.write_text(json.dumps({"keys": [public(RSA, "one"), public(CURVE, "two", use="enc")]}))
    assert caller(signed(kid=None), replace(settings, jwks=str(file)))


def public_pem(key):
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def with_hmac_of_the_public_key():
    """Return a token whose HMAC is keyed with the public key, which PyJWT itself refuses to make."""
    _, body, _ = signed().split(".")
    head = base64.urlsafe_b64encode(json.dumps({"alg": "HS256", "kid": "one"}).encode()).rstrip(b"=").decode()
    mac = hmac.new(public_pem(RSA), f"{head}.{body}".encode(), hashlib.sha256).digest()
    return f"{head}.{body}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def test_what_is_no_good_token(settings):
    whole = signed()
    ago = datetime.now(UTC) - timedelta(minutes=5)
    bad = {
        "other key": signed(OTHER),
        "unknown kid": signed(kid="three"),
        "path as kid": signed(kid="../../jwks.json"),
        "no kid, two keys": signed(kid=None),
        "key of another kind": signed(kid="two"),
        "expired": signed(exp=ago),
        "not yet": signed(nbf=datetime.now(UTC) + timedelta(minutes=5)),
        "no end": signed(exp=None),
        "no issuer": signed(iss=None),
        "no subject": signed(sub=None),
        "other issuer": signed(iss="https://evil.example"),
        "other audience": signed(aud="other"),
        "unsigned": jwt.encode({"sub": "ann"}, None, "none", headers={"kid": "one"}),
        "hmac": with_hmac_of_the_public_key(),
        "not pinned": signed(algorithm="RS512"),
        "own jwks": signed(OTHER, headers={"jku": "https://evil.example/jwks", "jwk": public(OTHER, "one")}),
        "changed": whole[:-20] + "A" * 20,
        "cut": whole.rpartition(".")[0],
        "deep": "e" + "[" * 10_000,
        "long": "a.b.c" * 100_000,
        "empty": "",
        "dots": "..",
        "critical": signed(headers={"crit": ["x"], "x": 1}),
    }
    for name, text in bad.items():
        assert caller(text, settings) is None, name


def test_scopes_may_lie_deeper_and_subjects_may_be_odd(settings):
    inner = replace(settings, jwt_claim="realm.roles")
    assert caller(signed(realm={"roles": ["a", 1, "b"]}), inner).scopes == ("a", "b")
    assert caller(signed(), replace(settings, jwt_claim="https://x.y/z")).scopes == ()
    dotted = replace(settings, jwt_claim="https://x.y/z")
    assert caller(signed(**{"https://x.y/z": "a b"}), dotted).scopes == ("a", "b")
    odd = caller(signed(sub="a\nb" * 100), settings).name
    assert odd.startswith("token:sha256-")
    assert len(odd) == 29


def test_a_new_key_is_fetched_but_not_with_every_token(settings, monkeypatch, caplog):
    monkeypatch.setattr(logging.getLogger("peftlab"), "propagate", True)
    clock, fetched = Clock(), []
    sets = [[public(RSA, "one")], [public(RSA, "one"), public(CURVE, "new")]]

    def read(place):
        fetched.append(clock.now)
        if len(fetched) == 3:
            raise UserError("away")
        return json.dumps({"keys": sets[min(len(fetched), 2) - 1]}).encode()

    monkeypatch.setattr(tokens, "_read", read)

    async def story():
        view = Tokens(settings, clock)
        token = signed(CURVE, "new", "ES256")
        assert await view.caller(token) is None  # it has just been fetched
        clock.now += tokens.REST_S
        assert all(await asyncio.gather(*(view.caller(token) for _ in range(5))))
        assert len(fetched) == 2
        for _ in range(50):
            assert await view.caller(signed(kid="never")) is None
        assert len(fetched) == 2
        clock.now += tokens.LIFETIME_S + 1
        assert await view.caller(token)  # the provider is away: the keys stay
        assert len(fetched) == 3
        assert "stay as they were" in caplog.text

    asyncio.run(story())


@pytest.mark.parametrize(
    "content", ["", "[]", '{"keys": 1}', '{"keys": [1]}', '{"keys": []}', '{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}']
)
def test_what_is_no_set_of_public_keys(settings, tmp_path, content):
    file = tmp_path / "other.json"
    file.write_text(content)
    with pytest.raises(UserError, match="--jwks"):
        Tokens(replace(settings, jwks=str(file)))


def test_keys_come_from_files_and_encrypted_places_only(settings):
    for place in ("http://login.example/jwks", "ftp://x/y", "file:///etc/passwd"):
        with pytest.raises(UserError, match="https"):
            Tokens(replace(settings, jwks=place))
    with pytest.raises(UserError, match="cannot be read"):
        Tokens(replace(settings, jwks="/nowhere/jwks.json"))
