"""JSON as a server sends it, and refusals of what no route takes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from peftlab.reading.json_form import finite
from peftlab.serving.access.refusals import Refusal

_UNROUTED = {
    400: ("invalid", "the body is no JSON"),
    404: ("not_found", "there is no such path"),
    405: ("method_not_allowed", "the path is asked by another method"),
}


def json_response(document: Any, headers: Mapping[str, str] | None = None) -> Response:
    """Return a response with the JSON of `document`."""
    return Response(encoded(document), media_type="application/json", headers=headers)


def encoded(document: Any) -> bytes:
    """Return `document` as strict JSON: numbers that are not finite become null, and lone surrogates stay escaped."""
    try:
        text = json.dumps(document, ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = json.dumps(finite(document), ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace")


async def unrouted(request: Request, error: Exception) -> Response:
    """Refuse what the framework has refused, in our form.

    Raises:
        Refusal: always.
    """
    assert isinstance(error, HTTPException)
    code, words = _UNROUTED.get(error.status_code, ("invalid", "the request cannot be read"))
    raise Refusal(error.status_code, code, words, error.headers or {}) from None


async def misshapen(request: Request, error: Exception) -> Response:
    """Refuse a body of another form; the message names the field, and quotes nothing.

    Raises:
        Refusal: always.
    """
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place, message = first["loc"][1:], str(first["msg"])
    if first["type"] == "extra_forbidden":
        place, message = place[:-1], "has a field that is not known; /openapi.json has those that are"
    raise Refusal(422, "invalid", f"{'.'.join(map(str, place)) or 'the body'}: {message}") from None
