"""Addresses of the Internet Protocol, versions 4 and 6."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from peftlab.personal_data.draw import Draw
from peftlab.personal_data.kind import Kind, Slice, before

_FOUR = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?!\w|\.\w)")
_SIX = re.compile(r"(?<![\w:.])[0-9a-f]{0,4}:[0-9a-f:]{2,35}(?:(?:\d{1,3}\.){3}\d{1,3})?(?![\w:])", re.IGNORECASE)
_VERSION = re.compile(r"(?:\b(?:v|ver|version|release|rel|build|firmware|section|chapter|§)\W{0,2})$", re.IGNORECASE)
_DOCUMENTATION = ipaddress.ip_network("2001:db8::/32")


@dataclass(frozen=True)
class Ip(Kind):
    """Addresses of hosts, private ones included; not those that are reserved, of the own host, or of none."""

    name: ClassVar[str] = "ip"

    def find(self, text: str) -> Iterator[Slice]:
        """Yield each address; a number of a version is none."""
        for pattern in (_FOUR, _SIX):
            for match in pattern.finditer(text):
                if _is_host(match[0]) and not before(text, match.start(), _VERSION, 12):
                    yield match.span()

    def same(self, value: str) -> str:
        """Return the address in its shortest form."""
        return str(ipaddress.ip_address(value))

    def surrogate(self, value: str, draw: Draw) -> str:
        """Return an address of 240.0.0.0/4 (RFC 1112, section 4) or 2001:db8::/32 (RFC 3849), which no host has."""
        if ipaddress.ip_address(value).version == 4:
            return str(ipaddress.IPv4Address(0xF0000000 + draw.below(2**28 - 1)))
        return str(ipaddress.IPv6Address(int(_DOCUMENTATION.network_address) + draw.below(2**63)))


def _is_host(address: str) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if parsed.is_loopback or parsed.is_unspecified:
        return False
    if parsed.version == 6:  # a::b has more often to do with programs
        return any(map(str.isdigit, address)) and parsed not in _DOCUMENTATION
    return not parsed.is_reserved
