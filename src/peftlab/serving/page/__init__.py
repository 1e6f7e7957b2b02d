"""What does a person see who opens the server in a browser? One page, which loads nothing else and asks nobody else."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path

_HERE = Path(__file__).parent
_SCRIPT, _STYLE = (_HERE.joinpath(name).read_text(encoding="utf-8") for name in ("page.js", "page.css"))


def _digest(text: str) -> str:
    """Return the source of the policy that lets this script or style run."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


POLICY = "; ".join(
    (
        "default-src 'none'",
        f"script-src {_digest(_SCRIPT)}",
        f"style-src {_digest(_STYLE)}",
        "connect-src 'self'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
"""The ``Content-Security-Policy`` of the page: its one script and its one style, and questions to its own server."""


@cache
def document() -> str:
    """Return the page, with its script and its style in it."""
    page = _HERE.joinpath("page.html").read_text(encoding="utf-8")
    return page.replace("/* page.css */", _STYLE).replace("/* page.js */", _SCRIPT)
