"""The expected form of JSON: which keys an object has, and what each may hold.

A form is the name of a kind of value (see `KINDS`), a list with the form of each item, or the keys of an object with
their forms. ``?`` after a kind allows null, after a key its absence; the key ``*`` stands for all other keys, which may
hold anything where the form has no ``*``.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any

from peftlab.storage.entries import is_inner

Form = str | list["Form"] | dict[str, "Form"]

_MOST_LEVELS = 32
"""The deepest nesting of a document: some readers are recursive."""
_SHOWN = 40
"""How many characters of a value a message shows."""


def parsed(text: str, null_for_nan: bool = False) -> Any:
    """Return the value of the JSON in `text`.

    Args:
        text: the JSON.
        null_for_nan: whether NaN and infinities, which JSON lacks but Python writes, are read as null; else they are
            refused.

    Raises:
        ValueError: it is not JSON, has a duplicate key or a number that JSON lacks, or is nested too deeply.
    """
    try:
        value = json.loads(text, object_pairs_hook=_once, parse_constant=(lambda _: None) if null_for_nan else _refuse)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    _check_levels(value)
    return value


def finite(value: Any) -> Any:
    """Return `value` with null in place of nan and infinities, which JSON lacks."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def has_form(value: Any, form: Form) -> bool:
    """Return whether a value has a form, see `check`."""
    try:
        check(value, form)
    except ValueError:
        return False
    return True


def check(value: Any, form: Form, where: str = "") -> None:
    """Check that parsed JSON has the expected form.

    Args:
        value: the parsed JSON.
        form: the expected form.
        where: the dotted key of `value`, for the message.

    Raises:
        ValueError: it differs; says where, what is expected and the value there.
    """
    if isinstance(form, dict):
        _check_object(value, form, where)
    elif isinstance(form, list):
        if not isinstance(value, list):
            raise _unexpected(value, "a list", where)
        for number, item in enumerate(value):
            check(item, form[0], f"{where}.{number}")
    elif not (form.endswith("?") and value is None):
        what, holds = KINDS[form.removesuffix("?")]
        if not holds(value):
            raise _unexpected(value, what, where)


def _check_object(value: Any, form: dict[str, Form], where: str) -> None:
    if not isinstance(value, dict):
        raise _unexpected(value, "keys and values", where)
    within = f"{where}." if where else ""
    inner = {key.removesuffix("?"): one for key, one in form.items()}
    if (missing := next((key for key in form if key not in value and key != "*" and key in inner), None)) is not None:
        raise ValueError(f"{within}{missing} is missing")
    for key, item in value.items():
        if (one := inner.get(key, inner.get("*"))) is not None:
            check(item, one, f"{within}{key}")


def _check_levels(value: Any) -> None:
    level = [value]
    for _ in range(_MOST_LEVELS):
        level = [
            item
            for node in level
            for item in (node.values() if isinstance(node, dict) else node if isinstance(node, list) else ())
        ]
    if level:
        raise ValueError("it is nested too deeply")


def _is_number(value: Any) -> bool:
    """Return whether `value` is a number that a float can hold."""
    return type(value) in (int, float) and -1e300 < value < 1e300


def _is_time(value: Any) -> bool:
    try:
        datetime.fromisoformat(value).astimezone()
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def _is_path(value: Any) -> bool:
    """Return whether `value` is a path inside the folder."""
    return isinstance(value, str) and is_inner(value) and bool(PurePosixPath(value).parts)


KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "text": ("a text", lambda value: isinstance(value, str)),
    "count": ("a whole number", lambda value: type(value) is int and abs(value) < 2**63),
    "number": ("a number", _is_number),
    "flag": ("true or false", lambda value: isinstance(value, bool)),
    "time": ("a time such as 2026-01-31T12:00:00+00:00", _is_time),
    "path": ("a path within the run folder", _is_path),
    "scalar": ("a text, a number, true or false", lambda value: isinstance(value, str | bool) or _is_number(value)),
    "anything": ("anything", lambda value: True),
}
"""The name of each kind of value in messages, and the check for it."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        times = Counter(name for name, _ in pairs)
        raise ValueError(f"'{next(name for name in times if times[name] > 1)}' stands there twice")
    return values


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _unexpected(value: Any, expected: str, where: str) -> ValueError:
    text = json.dumps(value)
    shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
    return ValueError(f"{f'{where}: ' if where else ''}expected {expected}, not {shown}")
