"""Addresses of network devices (EUI-48)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from peftlab.personal_data.draw import Draw
from peftlab.personal_data.kind import Kind, Slice

_MAC = re.compile(
    r"(?<![\w:-])(?:[0-9a-f]{2}([:-])(?:[0-9a-f]{2}\1){4}[0-9a-f]{2}|[0-9a-f]{4}\.[0-9a-f]{4}\.[0-9a-f]{4})(?![\w:-])",
    re.IGNORECASE,
)
_OWN = "fe0000"
"""A beginning that only an address given locally has, which no maker uses."""
_NOBODY = ("000000000000", "ffffffffffff")


@dataclass(frozen=True)
class Mac(Kind):
    """Addresses with colons, hyphens or dots; not the one of all devices, nor that of none."""

    name: ClassVar[str] = "mac"

    def find(self, text: str) -> Iterator[Slice]:
        """Yield each address."""
        for match in _MAC.finditer(text):
            digits = self.same(match[0])
            if digits not in _NOBODY and not digits.startswith(_OWN):
                yield match.span()

    def surrogate(self, value: str, draw: Draw) -> str:
        """Return an address that begins with fe:00:00, which no maker gives to a device."""
        digits = iter(_OWN + f"{draw.below(2**24):06x}")
        new = "".join(next(digits) if character.isalnum() else character for character in value)
        return new.upper() if value.upper() == value else new
