"""Which rows are trained on, and which come after them: splits by date, or at random."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

import numpy as np

from peftlab.errors import DataError

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

_DATE = re.compile(r"(\d{4})(?:-(\d\d))?")


def date_of(written: object, place: str, column: str) -> datetime:
    """Return a date: ``2024``, ``2024-05``, ``2024-05-17``, with or without a time.

    Raises:
        DataError: it is none; days and months in another order cannot be told apart, and are none.
    """
    text = str(written).strip()
    try:
        if short := _DATE.fullmatch(text):
            return datetime(int(short[1]), int(short[2] or 1), 1, tzinfo=UTC)
        date = datetime.fromisoformat(text) if "-" in text else None
    except ValueError:
        date = None
    if date is None:
        raise DataError(
            f"{place}: '{column}' is {text[:80]!r}; expected a date as ISO 8601 writes it, such as 2024-05-17, 2024-05 "
            "or 2024. Rewrite the column, or take --split random, which cannot show how a score ages"
        )
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def by_date(dates: Sequence[datetime], validation: float, test: float) -> np.ndarray:
    """Return the split of each row: the last rows are for test, those before for validation, shape (rows,).

    Rows of one date stay together, in the later split: it may be larger than its share by them.

    Args:
        dates: of the rows.
        validation: share of the rows for validation.
        test: share for test.

    Raises:
        DataError: there are too few different dates.
    """
    times = np.array([date.timestamp() for date in dates])
    ordered = np.sort(times)
    first_test, first_validation = (
        ordered[min(round(len(ordered) * (1 - share)), len(ordered) - 1)] for share in (test, test + validation)
    )
    places = np.where(times >= first_test, 2, np.where(times >= first_validation, 1, 0))
    return _named(places, f"{len(set(dates))} different dates")


def at_random(units: Sequence[str], validation: float, test: float, seed: int) -> np.ndarray:
    """Return the split of each row by a hash of its unit, such as its applicant or its id, shape (rows,)."""
    digests = [hashlib.sha256(f"{seed}:{unit}".encode(errors="surrogatepass")).digest() for unit in units]
    shares = np.array([int.from_bytes(digest[:8], "big") / 2**64 for digest in digests])
    places = np.where(shares < test, 2, np.where(shares < test + validation, 1, 0))
    return _named(places, f"{len(set(units))} rows or groups")


def _named(places: np.ndarray, of: str) -> np.ndarray:
    if missing := [SPLITS[place] for place in range(3) if not (places == place).any()]:
        raise DataError(
            f"no row is left for {' and '.join(missing)}: the table has {of}. Take other shares with --validation and "
            "--test, or more rows"
        )
    return np.array(SPLITS)[places]
