"""Lengths of time as people write them, such as 90s or 1d."""

from __future__ import annotations

import re

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


def seconds_in(text: str, units: str = "smhdw") -> float | None:
    """Return the seconds in a length of time, a number and one of `units`; None if `text` is none."""
    match = re.fullmatch(rf"(\d{{1,6}}(?:\.\d{{1,3}})?)\s*([{units}])", text)
    return float(match[1]) * _SECONDS[match[2]] if match else None
