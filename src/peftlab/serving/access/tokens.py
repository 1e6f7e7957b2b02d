"""Signed tokens (JWT, RFC 7519) of an identity provider (OpenID Connect), checked with its public keys."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import requests

from peftlab.errors import UserError
from peftlab.serving.access.callers import Caller
from peftlab.serving.settings import Settings

log = logging.getLogger("peftlab")

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Signatures that the holder of the public key cannot make."""
LEEWAY_S = 30
"""How far the clocks of the provider and of this machine may be apart, in seconds."""
LIFETIME_S = 3600.0
"""After how many seconds the keys are fetched again."""
REST_S = 30.0
"""The least number of seconds between two fetches, whatever tokens come."""
TIMEOUT_S = 5.0
"""How long a fetch may take, in seconds."""
_MOST_BYTES = 1_000_000
_KINDS = ("RSA", "EC", "OKP")
"""The kinds of asymmetric keys."""
_PLAIN = re.compile(r"[\w.@:|/+-]{1,64}")
"""A subject that can stand in a log."""


class _Key(NamedTuple):
    public: Any
    algorithm: str | None
    """The only one that it is for; None: any of its kind."""


class Tokens:
    """Checks tokens, with the keys of the provider at hand.

    Args:
        settings: name the issuer, the audience, the place of the keys, the signatures and the claim of the scopes.
        clock: gives seconds.

    Raises:
        UserError: the keys cannot be read or fetched, or none of them is usable.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._keys = _keys_in(_read(str(settings.jwks)), str(settings.jwks))
        self._tried = self._fetched = clock()
        self._fetching: asyncio.Task[None] | None = None

    async def caller(self, text: str) -> Caller | None:
        """Return the holder of a token; None: it is not valid.

        Keys that are old, or a key that is not known, are cause to fetch them, which does not keep others waiting.
        """
        import jwt

        try:
            header = jwt.get_unverified_header(text)
            algorithm = header.get("alg")
            if algorithm not in self._settings.jwt_algorithms:
                return None
            key = await self._key(header.get("kid"))
            if key is None or key.algorithm not in (None, algorithm):
                return None
            claims = jwt.decode(
                text,
                key.public,
                algorithms=[algorithm],
                audience=self._settings.jwt_audience,
                issuer=self._settings.jwt_issuer,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            return None
        return Caller(name=_name(claims["sub"]), scopes=_scopes(claims, self._settings.jwt_claim))

    async def _key(self, name: Any) -> _Key | None:
        now = self._clock()
        if name not in self._keys or now - self._fetched > LIFETIME_S:
            await self._refresh(now)
        if name is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        return self._keys.get(name) if isinstance(name, str) else None

    async def _refresh(self, now: float) -> None:
        """Fetch the keys, unless that was tried a moment ago; who comes meanwhile waits for the same fetch."""
        if self._fetching is None and now - self._tried >= REST_S:
            self._tried = now
            self._fetching = asyncio.create_task(self._fetch())
            self._fetching.add_done_callback(self._end_of_fetch)
        if self._fetching is not None:
            await asyncio.shield(self._fetching)

    def _end_of_fetch(self, _: asyncio.Task[None]) -> None:
        self._fetching = None

    async def _fetch(self) -> None:
        place = str(self._settings.jwks)
        try:
            self._keys = _keys_in(await asyncio.to_thread(_read, place), place)
            self._fetched = self._clock()
        except UserError as error:
            log.error("the keys of tokens stay as they were: %s", error)


def check_place(place: str) -> None:
    """Check where keys are to be fetched from.

    Raises:
        UserError: it is a URL that others may change the answer of.
    """
    url = urlsplit(place)
    if (
        "://" in place
        and url.scheme != "https"
        and not (url.scheme == "http" and url.hostname in ("localhost", "127.0.0.1"))
    ):
        raise UserError(f"--jwks {place}: must be a file, or begin with https://: who changes the keys signs tokens")


def _read(place: str) -> bytes:
    check_place(place)
    try:
        if "://" not in place:
            with Path(place).open("rb") as file:
                return file.read(_MOST_BYTES)
        with requests.get(place, timeout=TIMEOUT_S, stream=True, allow_redirects=False) as response:
            if response.status_code != 200:
                raise UserError(f"--jwks {place}: cannot be fetched: the server answers {response.status_code}")
            content = b""
            until = time.monotonic() + TIMEOUT_S
            for piece in response.iter_content(1 << 16):
                content += piece
                if len(content) > _MOST_BYTES or time.monotonic() > until:
                    raise UserError(f"--jwks {place}: cannot be fetched: the answer is too long or too slow")
            return content
    except OSError as error:  # requests' errors too
        reason = error.strerror or type(error).__name__
        raise UserError(f"--jwks {place}: cannot be read: {reason}") from error


def _keys_in(content: bytes, place: str) -> dict[str | None, _Key]:
    """Return the asymmetric keys for signatures, by their ids."""
    import jwt

    keys: dict[str | None, _Key] = {}
    try:
        for one in json.loads(content)["keys"]:
            if one.get("kty") in _KINDS and one.get("use", "sig") == "sig":
                keys[one.get("kid")] = _Key(jwt.PyJWK(one).key, one.get("alg"))
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UserError(f"--jwks {place}: is no set of keys (JWKS): {type(error).__name__}") from error
    if not keys:
        raise UserError(f"--jwks {place}: holds no public key for signatures (RSA, EC, OKP)")
    return keys


def _name(subject: Any) -> str:
    """Return a name for logs and limits; a subject that could not stand there is named by its digest."""
    if isinstance(subject, str) and _PLAIN.fullmatch(subject):
        return f"token:{subject}"
    return f"token:sha256-{hashlib.sha256(str(subject).encode(errors='replace')).hexdigest()[:16]}"


def _scopes(claims: Mapping[str, Any], claim: str) -> tuple[str, ...]:
    value: Any = claims.get(claim)
    if value is None:
        value = claims
        for part in claim.split("."):
            value = value.get(part) if isinstance(value, dict) else None
    words = value.split() if isinstance(value, str) else value if isinstance(value, list) else []
    return tuple(word for word in words if isinstance(word, str))
