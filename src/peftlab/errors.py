"""The errors a user sees.

Each says what is wrong, where, what is allowed and how to mend it, in one short message, which the entry points print
without a traceback. A `UserError` is raised before a run folder exists, exit code 2; a `RunError` later, exit code 1.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake that the user can mend; printed without a traceback, exit code 2."""


class ConfigError(UserError):
    """A key, value or option of the configuration that cannot be used."""


class DataError(UserError):
    """A data file that cannot be used; the message names the file and the line."""


class SourceError(UserError):
    """A model or data set that cannot be fetched or whose digest does not match."""


class RunError(Exception):
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
