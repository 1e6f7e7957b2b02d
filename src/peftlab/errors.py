"""The errors a user sees.

Each says what is wrong, where, what is allowed and how to mend it, in one short message, which the entry points print
without a traceback. A `UserError` is raised before a run folder exists, exit code 2; a `RunError` later, exit code 1.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

MOST_CHARACTERS = 4_000
"""Of a message: what a file holds may be of any length."""

_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
"""Characters that a terminal acts upon, or that turn round what stands beside them, and halves of characters."""


def escaped(text: str) -> str:
    """Return `text` with escapes for the characters that change how the rest of it is shown; it may have lines."""
    return _UNSEEN.sub(lambda found: ascii(found[0])[1:-1], text)


def presentable(text: str) -> str:
    """Return `text` as a message is shown: `escaped`, and without its middle where it is very long."""
    shown = escaped(text)
    if len(shown) <= MOST_CHARACTERS:
        return shown
    head, tail = MOST_CHARACTERS * 5 // 8, MOST_CHARACTERS // 4
    return f"{shown[:head]}[... {len(shown) - head - tail:,} characters left out ...]{shown[-tail:]}"


class _PresentableError(Exception):
    """An error whose message may quote data of anybody's."""

    def __str__(self) -> str:
        return presentable(super().__str__())


class UserError(_PresentableError):
    """A mistake that the user can mend; printed without a traceback, exit code 2."""


class ConfigError(UserError):
    """A key, value or option of the configuration that cannot be used."""


class DataError(UserError):
    """A data file that cannot be used; the message names the file and the line."""


class SourceError(UserError):
    """A model or data set that cannot be fetched or whose digest does not match."""


class RunError(_PresentableError):
    """What ended a run after it had begun; printed without a traceback, exit code 1, and kept in the record."""


class NonFiniteError(RunError):
    """NaN or an infinity has come up."""


class OutOfMemoryError(RunError):
    """Memory does not suffice, and what is computed may not or cannot be made smaller."""


class DiskError(RunError):
    """A file cannot be written."""


class DamagedError(RunError):
    """A file of the run is not what the run has written."""


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the choice nearest to `word`, or an empty string where none is near."""
    near = difflib.get_close_matches(word, [choice for choice in choices if choice != word], n=1, cutoff=0.6)
    return f" Did you mean '{near[0]}'?" if near else ""
