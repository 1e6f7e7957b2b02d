"""The errors a user sees.

Each says what is wrong, where, what is allowed and how to mend it, in one short message. They are raised before a run
folder exists; the entry points print the message without a traceback and exit with code 2.
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


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the choice nearest to `word`, or an empty string where none is near."""
    near = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.6)
    return f" Did you mean '{near[0]}'?" if near else ""
