"""Web addresses that say who logs in: ``https://name:password@host/``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from peftlab.personal_data.draw import Draw
from peftlab.personal_data.kind import Kind, Slice

_LOGIN = re.compile(r"""://([^\s/?#"'<>]{1,256}@[^\s/?#"'<>@]{1,253})""")
_RESERVED = ".invalid"


@dataclass(frozen=True)
class Url(Kind):
    """The login and the host of an address that has a login."""

    name: ClassVar[str] = "url"

    def find(self, text: str) -> Iterator[Slice]:
        """Yield what stands between ``://`` and the path."""
        for match in _LOGIN.finditer(text):
            host = match[1].rstrip(".,;:!)]}")
            if not host.lower().endswith(_RESERVED) and not host.endswith("@"):
                yield match.start(1), match.start(1) + len(host)

    def same(self, value: str) -> str:
        """Return the login and the host in small letters."""
        return value.casefold()

    def surrogate(self, value: str, draw: Draw) -> str:
        """Return another login, of a host under ``.invalid``, which cannot be (RFC 2606)."""
        login = value.rpartition("@")[0]
        return f"{draw.like(login.replace('@', 'a'))}@{draw.like('kadora')}{_RESERVED}"
