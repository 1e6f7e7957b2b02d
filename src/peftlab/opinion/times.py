"""Times of texts, and the windows that they lie in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any
from zoneinfo import ZoneInfo

from peftlab.reading.durations import seconds_in

_MONDAY = 4 * 86400.0
"""Seconds from the first of January 1970, a Thursday, to a Monday."""
_EARLIEST, _LATEST = -62135596800.0, 253402300800.0
"""The beginning of the year 1, and the end of the year 9999: Python knows no other dates."""
_DAY = 86400.0


def duration(value: Any) -> Any:
    """Return the seconds in ``90s``, ``15m``, ``1h``, ``1d`` or ``1w``; a number stays as it is.

    Raises:
        ValueError: the text is none of these.
    """
    if not isinstance(value, str):
        return value
    if (seconds := seconds_in(value.strip())) is None:
        raise ValueError("expected a length of time, such as 15m, 1h, 1d or 1w")
    return seconds


def moment(value: Any, zone: str) -> float:
    """Return the seconds since 1970 (UTC) of a time: ISO 8601, or a number of seconds or milliseconds since then.

    Args:
        value: of a row.
        zone: of times that do not say theirs.

    Raises:
        ValueError: it is no time.
    """
    if isinstance(value, str):
        text = value.strip()
        if not re.fullmatch(r"\d{9,13}(\.\d+)?", text):  # 1710120112345 would be a date of 1710, too
            try:
                parsed = datetime.fromisoformat(text)
            except ValueError:
                raise ValueError(f"'{value}' is no time; expected one such as 2026-03-01T12:30:00+01:00") from None
            return (parsed if parsed.tzinfo else parsed.replace(tzinfo=ZoneInfo(zone))).timestamp()
        value = float(text)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1000 * _LATEST:
        raise ValueError(f"{value!r} is no time; expected one such as 2026-03-01T12:30:00+01:00")
    return value / 1000 if value >= 1e11 else float(value)


@dataclass(frozen=True)
class Clock:
    """Divides time into windows, by the clock on a wall in a zone.

    A day has the 23 or 25 hours that it has there; windows of an hour that the clock is set back over hold both.
    """

    width: float
    """Seconds."""
    zone: str

    @cached_property
    def _zone(self) -> ZoneInfo | None:
        return None if self.zone == "UTC" else ZoneInfo(self.zone)

    def window(self, seconds: float) -> int:
        """Return the number of the window with a moment.

        Raises:
            ValueError: a window at the edge of all years, such as of 9999-12-31, which mostly stands for no time.
        """
        if not _EARLIEST + self.width + _DAY <= seconds < _LATEST - self.width - _DAY:
            raise ValueError("the time is too near to the year 1 or to the end of 9999 to lie in a window")
        if self._zone is not None:
            offset = datetime.fromtimestamp(seconds, self._zone).utcoffset() or timedelta()
            seconds += offset.total_seconds()
        return int((seconds - _MONDAY) // self.width)

    def start(self, window: int) -> datetime:
        """Return when a window begins."""
        wall = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=_MONDAY + window * self.width)
        return wall if self._zone is None else wall.replace(tzinfo=self._zone)

    def end(self, window: int) -> float:
        """Return when a window ends, in seconds."""
        return self.start(window + 1).timestamp()
