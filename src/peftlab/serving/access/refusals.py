"""What a request is refused with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NoReturn


@dataclass
class Refusal(Exception):  # noqa: N818  # it is not an error of the server's
    """A request that is not answered.

    The message never quotes what the client has sent: it may be a secret, and errors are logged and passed on.
    """

    status: int
    """The HTTP status."""
    code: str
    """A word for programs, such as ``rate_limited``."""
    message: str
    """A sentence for people."""
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self, request_id: str) -> bytes:
        """Return the JSON that the client is sent."""
        error = {"code": self.code, "message": self.message, "request_id": request_id}
        return json.dumps({"error": error}).encode()


def refuse_caller(presented: bool) -> NoReturn:
    """Refuse a request whose key or token is missing or, if it was `presented`, no good.

    Raises:
        Refusal: 401; in the same words for every reason, so that it tells nothing about other keys.
    """
    challenge = 'Bearer realm="peftlab"' + (', error="invalid_token"' if presented else "")
    message = (
        "the key or token is unknown, expired or disabled"
        if presented
        else "a key is missing: send it as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'"
    )
    raise Refusal(401, "unauthorized", message, {"www-authenticate": challenge})


def refuse_scope(message: str) -> NoReturn:
    """Refuse what the caller's scopes do not cover.

    Raises:
        Refusal: 403.
    """
    raise Refusal(403, "forbidden", message, {"www-authenticate": 'Bearer realm="peftlab", error="insufficient_scope"'})
