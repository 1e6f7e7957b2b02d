"""The form of a run record: which keys it has, and what may stand under each. What has it can be read without care.

A form is the name of a kind of value, a list with the form of each item, or the keys of an object with theirs. ``?``
behind a kind allows null, behind a key its absence; the key ``*`` stands for all others, which else may hold anything.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any, Literal, get_args

Status = Literal["running", "completed", "failed", "interrupted", "pruned"]
"""How a run stands."""

Form = str | list["Form"] | dict[str, "Form"]

_MOST_LEVELS = 32
"""More than any record has: some of its readers go down level by level."""

_COUNTS: Form = {"*": "count?"}
_SPLIT: Form = {"file?": "text?", "rows?": "count?", "dropped?": _COUNTS}

FORM: dict[str, Form] = {
    "schema_version": "count",
    "run_id": "text?",
    "name": "text?",
    "status": "status",
    "started_at": "time?",
    "ended_at": "time?",
    "command": ["text"],
    "overrides": ["text"],
    "identity": {
        "sha256": "text?",
        "config_sha256": "text?",
        "data_sha256": {"*": "text?"},
        "weights_sha256": "text?",
    },
    "code": {"version": "text?", "commit": "text?", "dirty": "flag?", "diff_sha256": "text?"},
    "environment": {
        "python": "text?",
        "packages_sha256": "text?",
        "platform": "text?",
        "cpu": "text?",
        "isa": "text?",
        "threads": "count?",
        "accelerators": ["text"],
        "devices?": "count?",
        "num_nodes?": "count?",
        "world_size?": "count?",
        "strategy?": "text?",
        "effective_batch_size?": "count?",
        "precision": "text?",
        "deterministic": "flag?",
        "nondeterministic_parts": ["text"],
        "seeds": _COUNTS,
    },
    "data": {
        "name": "text?",
        "splits": {"*": _SPLIT},
        "labels": ["text"],
        "train_test_overlap": "count?",
        "licence": "text?",
    },
    "method": {
        "name": "text?",
        "trainable_parameters": "count?",
        "total_parameters": "count?",
        "adapter_bytes": "count?",
    },
    "selection": {
        "metric": "text?",
        "split": "text?",
        "mode": "text?",
        "value": "number?",
        "epoch": "count?",
        "step": "count?",
        "sha256?": "text?",
    },
    "metrics": [{"name": "text", "split": "text", "value": "number?", "checkpoint": "text", "scorer": "text"}],
    "cost": {
        "wall_seconds": "number?",
        "train_seconds": "number?",
        "steps": "count?",
        "epochs": "number?",
        "samples_per_second": "number?",
        "tokens_per_second": "number?",
        "peak_memory_gib": "number?",
        "train_flops": "number?",
    },
    "history": [{"at": "time", "event": "text", "step?": "count?", "of?": "count?"}],
    "files": [{"path": "path", "bytes": "count", "sha256": "text"}],
    "error": "anything?",
}
_ERROR: Form = {"type": "text", "message": "text"}
_EVENTS: dict[str, Form] = {
    "validated": {"step": "count", "of?": "count?"},
    "out of memory": {"stage": "text", "positions": "count"},
}
"""What events of these names have besides."""


def parsed(text: str) -> dict[str, Any]:
    """Return the record that `text` is the JSON of, of any schema; see `check`.

    Raises:
        ValueError: it is none.
    """
    try:
        record = json.loads(text, object_pairs_hook=_once, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(record, dict) or type(record.get("schema_version")) is not int or record["schema_version"] < 1:
        raise ValueError("it has no schema_version")
    return record


def check(record: dict[str, Any]) -> None:
    """Check that `record`, parsed JSON, has the form of a run record.

    Raises:
        ValueError: it has another; says where, what is expected and what stands there.
    """
    _check_levels(record)
    _check(record, FORM, "")
    if record["error"] is not None:
        _check(record["error"], _ERROR, "error")
    for number, event in enumerate(record["history"]):
        _check(event, _EVENTS.get(event["event"], {}), f"history.{number}")


def _check(value: Any, form: Form, where: str) -> None:
    if isinstance(form, dict):
        _check_object(value, form, where)
    elif isinstance(form, list):
        if not isinstance(value, list):
            raise ValueError(f"{where}: expected a list, not {_shown(value)}")
        for number, item in enumerate(value):
            _check(item, form[0], f"{where}.{number}")
    elif not (form.endswith("?") and value is None):
        what, holds = _KINDS[form.removesuffix("?")]
        if not holds(value):
            raise ValueError(f"{where}: expected {what}, not {_shown(value)}")


def _check_object(value: Any, form: dict[str, Form], where: str) -> None:
    if not isinstance(value, dict):
        raise ValueError(f"{where}: expected keys and values, not {_shown(value)}")
    for key, inner in form.items():
        name = key.removesuffix("?")
        keys = [other for other in value if other not in form] if key == "*" else [name] if name in value else []
        if not keys and key == name != "*":
            raise ValueError(f"{f'{where}.' if where else ''}{name} is missing")
        for each in keys:
            _check(value[each], inner, f"{where}.{each}" if where else each)


def _check_levels(record: Any) -> None:
    level = [record]
    for _ in range(_MOST_LEVELS):
        level = [
            item
            for node in level
            for item in (node.values() if isinstance(node, dict) else node if isinstance(node, list) else ())
        ]
    if level:
        raise ValueError("it is nested too deeply")


def _is_number(value: Any) -> bool:
    """Return whether `value` is a number that a float can be."""
    return type(value) in (int, float) and -1e300 < value < 1e300


def _is_time(value: Any) -> bool:
    try:
        datetime.fromisoformat(value).astimezone()
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def _is_path(value: Any) -> bool:
    """Return whether `value` names something in the folder."""
    if not isinstance(value, str) or "\0" in value:
        return False
    path = PurePosixPath(value)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts


_KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "text": ("a text", lambda value: isinstance(value, str)),
    "count": ("a whole number", lambda value: type(value) is int and abs(value) < 2**63),
    "number": ("a number", _is_number),
    "flag": ("true or false", lambda value: isinstance(value, bool)),
    "time": ("a time such as 2026-01-31T12:00:00+00:00", _is_time),
    "path": ("a path within the run folder", _is_path),
    "status": (f"one of {', '.join(get_args(Status))}", lambda value: value in get_args(Status)),
    "anything": ("anything", lambda value: True),
}
"""What each kind of value is called, and what tells it."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"'{next(name for name in names if names.count(name) > 1)}' stands there twice")
    return values


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
