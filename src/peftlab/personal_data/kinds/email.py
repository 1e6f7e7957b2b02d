"""E-mail addresses, also those that say ``(at)`` and ``(dot)``, or stand in a web address with ``%40``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from peftlab.personal_data.draw import Draw
from peftlab.personal_data.kind import LETTER, Kind, Slice

_AT = re.compile(r"@|%40|[ ]?[(\[{][ ]?(?:at|@)[ ]?[)\]}][ ]?", re.IGNORECASE)
_LOCAL = re.compile(rf"[{LETTER}0-9_.!#$%&'*+/=?^`{{|}}~-]{{1,64}}")
_QUOTED = re.compile(r'"[^"\n]{1,62}"')
_DOT = r"(?:\.|[ ]?[(\[{][ ]?(?:dot|punkt|\.)[ ]?[)\]}][ ]?)"
_DOMAIN = re.compile(
    rf"(?:[{LETTER}0-9](?:[{LETTER}0-9-]{{0,61}}[{LETTER}0-9])?{_DOT}){{1,8}}(?:xn--[a-z0-9-]{{2,59}}|[{LETTER}]{{2,24}})"
    r"|\[?(?:\d{1,3}\.){3}\d{1,3}\]?",
    re.IGNORECASE,
)
_RESERVED = ".invalid"
"""The domain under which no address can be (RFC 2606)."""


@dataclass(frozen=True)
class Email(Kind):
    """Addresses of RFC 5322 with a domain of two parts or more, letters of any script included."""

    name: ClassVar[str] = "email"

    def find(self, text: str) -> Iterator[Slice]:
        """Yield each address; those of ``.invalid`` are nobody's."""
        done = 0
        for at in _AT.finditer(text):
            if at.start() < done:
                continue
            domain = _DOMAIN.match(text, at.end())
            if domain is None or domain[0].lower().endswith(_RESERVED):
                continue
            backwards = text[max(done, at.start() - 64) : at.start()][::-1]
            local = _QUOTED.match(backwards) or _LOCAL.match(backwards)
            if local is None:
                continue
            name = local[0][::-1]
            start = at.start() - len(name) + (len(name) - len(name.lstrip(".'`*/={|")))
            if start < at.start():
                yield start, domain.end()
                done = domain.end()

    def same(self, value: str) -> str:
        """Return the address in small letters, with ``@`` and points."""
        return re.sub(_DOT, ".", _AT.sub("@", value), flags=re.IGNORECASE).casefold()

    def surrogate(self, value: str, draw: Draw) -> str:
        """Return an address under ``.invalid``, which nobody can have (RFC 2606)."""
        at = _AT.search(value)
        assert at is not None
        return f"{draw.like(value[: at.start()])}{at[0]}{draw.like('kadora')}{_RESERVED}"
