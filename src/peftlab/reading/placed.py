"""Where an example was read."""

from __future__ import annotations


class Placed:
    """A base of examples with a `file` and a `line`, which are fields of their own."""

    __slots__ = ()
    file: str
    line: int | None

    @property
    def place(self) -> str:
        """The file and, if known, the line, for messages."""
        return self.file if self.line is None else f"{self.file}:{self.line}"
