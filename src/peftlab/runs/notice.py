"""What everybody who uses a run's model is told, such as ``not for clinical use``: the entry ``notice``. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any
from urllib.parse import quote

from pydantic import BeforeValidator

from peftlab.errors import UserError

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


def joined(notices: Iterable[str | None]) -> str | None:
    """Return what users of a model that is made of several are told: all that they are told of any of these.

    Raises:
        UserError: together they are longer than a notice may be.
    """
    told = "; ".join(dict.fromkeys(notice for notice in notices if notice is not None))
    if len(told) > _LONGEST:
        raise UserError(
            f"the notices of the runs have {len(told)} characters together, and users of the result must be told all "
            f"of them in at most {_LONGEST}: leave a run out, or train with shorter ones"
        )
    return told or None


def as_header(notice: str) -> str:
    """Return a notice as the value of an HTTP header: percent-encoded, but for printable ASCII."""
    return quote(notice, safe=" !\"#$&'()*+,/:;<=>?@[]^`{|}~")
