"""What everybody who uses a run's model is told, such as ``not for clinical use``: the entry ``notice``. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import quote

from pydantic import BeforeValidator

_LONGEST = 300


def _checked(text: Any) -> Any:
    if text is None:
        return None
    if not isinstance(text, str) or not text.strip() or not text.isprintable() or len(text) > _LONGEST:
        raise ValueError(
            f"expected one line of text of at most {_LONGEST} characters, such as 'not for clinical use'; or null"
        )
    return text.strip()


Notice = Annotated[str | None, BeforeValidator(_checked)]
"""One line of text; None: nothing is told."""


def notice_of(config: Mapping[str, Any]) -> str | None:
    """Return the notice in the configuration of a run, perhaps one from before there were notices."""
    text = config.get("notice")
    return text if isinstance(text, str) and text.strip() else None


def as_header(notice: str) -> str:
    """Return a notice as the value of an HTTP header: percent-encoded, but for printable ASCII."""
    return quote(notice, safe=" !\"#$&'()*+,/:;<=>?@[]^`{|}~")
