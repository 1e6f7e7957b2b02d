"""Who asks."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

ADMIN = "admin"
"""The scope of administration; it is no pattern of models."""


@dataclass(frozen=True, kw_only=True)
class Caller:
    """The holder of a key or token."""

    name: str
    """The name of the key, ``token:`` and the subject of a token, or ``anyone``."""
    scopes: tuple[str, ...] = ()
    """Patterns of the names of models, such as ``ner-*``; and `ADMIN`."""
    requests: int | None = None
    """The most requests a minute; None: the server's."""
    tokens: int | None = None
    """The most tokens a minute; None: the server's."""

    @property
    def admin(self) -> bool:
        """Whether the caller may administrate."""
        return ADMIN in self.scopes

    def may(self, model: str) -> bool:
        """Return whether the caller may ask the model of this name."""
        return any(fnmatchcase(model, scope) for scope in self.scopes if scope != ADMIN)


ANYONE = Caller(name="anyone", scopes=("*", ADMIN))
"""Who asks where no key is asked for."""
