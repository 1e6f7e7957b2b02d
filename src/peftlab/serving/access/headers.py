"""What the heads of requests may say, and what those of answers must."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from peftlab.serving.access.refusals import Refusal

Headers = list[tuple[bytes, bytes]]

SECURITY = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
"""What every answer has, unless it brings its own."""
METHODS = ("GET", "HEAD", "POST")
ADMIN_METHODS = (*METHODS, "PUT", "DELETE")

_REQUEST_ID = re.compile(r"[0-9a-fA-F-]{8,36}")
"""Such as a UUID: no room for a text or a secret of another form."""
_ODD_PATH = re.compile(r"//|\\|[\x00-\x1f\x7f]|(?:^|/)\.{1,2}(?:/|$)")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[\w.-]+)(?::\d{1,5})?")


def values(scope: Mapping[str, Any], name: bytes) -> list[str]:
    """Return what the headers of this name hold."""
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


def request_id(scope: Mapping[str, Any]) -> str:
    """Return the id of a request: that of an outer layer, the client's if it looks like one, or a new one."""
    if (known := scope["state"].get("request_id")) is not None:
        return str(known)
    own = values(scope, b"x-request-id")
    return own[0] if len(own) == 1 and _REQUEST_ID.fullmatch(own[0]) else uuid.uuid4().hex


def check_host(scope: Mapping[str, Any], hosts: Iterable[str]) -> None:
    """Check that a request is meant for this server: else a page elsewhere could name its own host this machine.

    Raises:
        Refusal: 421; or 400 where there is not one ``Host``.
    """
    named = values(scope, b"host")
    match = _HOST.fullmatch(named[0]) if len(named) == 1 else None
    if match is None:
        raise Refusal(400, "bad_host", "a request has one header 'Host'")
    name, names = match[1].lower(), [host.lower() for host in hosts]
    if names and name not in names and not any(name.endswith(one[1:]) for one in names if one.startswith("*.")):
        raise Refusal(421, "wrong_host", "this server does not go by the name in 'Host': start it with --hosts NAME")


def check_target(scope: Mapping[str, Any], methods: tuple[str, ...]) -> None:
    """Check the method and the path.

    Raises:
        Refusal: 405; 404 for a path that could be read in two ways.
    """
    if scope["method"] not in methods:
        raise Refusal(405, "wrong_method", f"the method is none of {', '.join(methods)}", {"allow": ", ".join(methods)})
    if _ODD_PATH.search(scope["path"]):
        raise Refusal(404, "not_found", "there is no such path")


def check_origin(scope: Mapping[str, Any], origins: Iterable[str]) -> None:
    """Check that no page of elsewhere asks, unless its origin is one of `origins`.

    Raises:
        Refusal: 403.
    """
    named = values(scope, b"origin")
    own = [f"{scheme}://{host}" for scheme in ("http", "https") for host in values(scope, b"host")]
    if any(one not in own and one not in origins for one in named) or len(named) > 1:
        raise Refusal(403, "wrong_origin", "pages of other origins may not ask: start the server with --cors ORIGIN")


def of_cors(scope: Mapping[str, Any], origins: Iterable[str]) -> Headers:
    """Return the headers that let a page of one of `origins` read the answer."""
    if not origins:
        return []
    vary = (b"vary", b"Origin")
    named = values(scope, b"origin")
    if len(named) != 1 or named[0] not in origins:
        return [vary]
    shown = (b"access-control-expose-headers", b"x-request-id, retry-after, x-notice")
    return [vary, (b"access-control-allow-origin", named[0].encode("latin-1")), shown]


def of_preflight(scope: Mapping[str, Any], origins: Iterable[str]) -> Headers | None:
    """Return the headers of the answer to a browser that asks first; None: this is no such request."""
    if scope["method"] != "OPTIONS" or not origins or not values(scope, b"access-control-request-method"):
        return None
    check_origin(scope, origins)
    return [
        (b"access-control-allow-methods", b"GET, POST"),
        (b"access-control-allow-headers", b"authorization, content-type, x-api-key, x-request-id, traceparent"),
        (b"access-control-max-age", b"600"),
    ]


def completed(headers: Headers, scope: Mapping[str, Any], origins: Iterable[str], identity: str) -> Headers:
    """Return the headers of an answer with those that every answer has."""
    present = {name.lower() for name, _ in headers}
    added = {**SECURITY, "x-request-id": identity}
    if scope.get("scheme") == "https":
        added["strict-transport-security"] = "max-age=31536000"
    if origins:
        added["cross-origin-resource-policy"] = "cross-origin"
    missing = [(name.encode(), value.encode()) for name, value in added.items() if name.encode() not in present]
    return [*headers, *missing, *of_cors(scope, origins)]
