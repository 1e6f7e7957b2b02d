"""The errors a user sees.

Each says what is wrong, where, what is allowed and how to fix it, in one short message, which the entry points print
without a traceback. A `UserError` is raised before a run folder exists, exit code 2; a `RunError` later, exit code 1.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

MOST_CHARACTERS = 4_000
"""The length of a message: text quoted from a file may be of any length."""

_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
"""Characters that control a terminal or reverse the text around them, and lone surrogates."""


def escaped(text: str) -> str:
    """Return `text` with escapes for the characters that change how the rest is shown; line breaks stay."""
    return _UNSEEN.sub(lambda match: ascii(match[0])[1:-1], text)


def presentable(text: str) -> str:
    """Return `text` as shown in a message: `escaped`, and without its middle where it is very long."""
    shown = escaped(text)
    if len(shown) <= MOST_CHARACTERS:
        return shown
    head, tail = MOST_CHARACTERS * 5 // 8, MOST_CHARACTERS // 4
    return f"{shown[:head]}[... {len(shown) - head - tail:,} characters left out ...]{shown[-tail:]}"


class _PresentableError(Exception):
    """An error whose message may quote arbitrary data."""

    def __str__(self) -> str:
        return presentable(super().__str__())


class UserError(_PresentableError):
    """A mistake that the user can fix; printed without a traceback, exit code 2."""


class ConfigError(UserError):
    """A key, value or option of the configuration that cannot be used."""


class DataError(UserError):
    """A data file that cannot be used; the message names the file and the line."""


class SourceError(UserError):
    """A model or data set that cannot be fetched or whose digest does not match."""


class RunError(_PresentableError):
    """An error that ends a run after its start; printed without a traceback, exit code 1, and kept in the record."""


class NonFiniteError(RunError):
    """A value is NaN or infinite."""


class OutOfMemoryError(RunError):
    """Memory has run out, and the computation cannot or may not be made smaller."""


class DiskError(RunError):
    """A file cannot be written."""


class DamagedError(RunError):
    """A file of the run is not as the run wrote it."""


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` with the choice nearest to `word`, or an empty string where none is near."""
    near = difflib.get_close_matches(word, [choice for choice in choices if choice != word], n=1, cutoff=0.6)
    return f" Did you mean '{near[0]}'?" if near else ""
