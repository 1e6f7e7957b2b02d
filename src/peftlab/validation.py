"""Validate the configuration against pydantic dataclasses: each error names its key and the allowed values."""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from peftlab.errors import ConfigError, did_you_mean

_NO_KEY = re.compile(r"function-.*|(dataclass|is-instance|list|dict)\[.*|str|int|float|bool")
"""Entries in the location of a pydantic error that are no keys: its own steps and the members of a union."""


def checked(cls: type, values: Any, path: str) -> Any:
    """Return the `cls` built from `values`, the section at the dotted key `path`.

    Raises:
        ConfigError: names each wrong key, the allowed values and the nearest match.
    """
    try:
        return TypeAdapter(cls).validate_python(values)
    except ValidationError as error:
        raise ConfigError("\n       ".join(explain(cls, detail, path) for detail in error.errors())) from error
    except TypeError as error:  # an abstract class, such as a task: no concrete one is named
        raise ConfigError(f"{path and f'{path}: '}a _target_ is missing: {error}") from error


def explain(cls: type, detail: ErrorDetails, path: str, within: bool = True) -> str:
    """Return one line for one error of pydantic's below `path`, or at `path` itself where not `within`."""
    location = [str(part) for part in detail["loc"] if within and not _NO_KEY.fullmatch(str(part))]
    key = ".".join([path, *location] if path else location)
    if detail["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return unknown_key(key, _field_names(cls, location[:-1]))
    if detail["type"] in ("missing", "missing_argument"):
        return f"{key} is missing: give it a value, {key}=..."
    if detail["type"] == "value_error" and not location:
        return f"{path}: {detail['ctx']['error']}"
    message = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
    hint = ""
    if detail["type"] == "literal_error":
        choices = detail["ctx"]["expected"].replace(" or ", ", ").replace("'", "").split(", ")
        message, hint = f"should be one of {', '.join(choices)}", did_you_mean(str(detail["input"]), choices)
    value = detail["input"]
    shown = f" = {value!r}" if isinstance(value, (str, int, float, bool, list, type(None))) else ""
    return f"{key}{shown}: {message}.{hint}".replace("..", ".")


def _field_names(cls: Any, location: list[str]) -> list[str]:
    for part in location:
        cls = get_type_hints(cls).get(part) if is_dataclass(cls) else None
    return [f.name for f in fields(cls) if f.init] if is_dataclass(cls) else []


def unknown_key(key: str, allowed: list[str]) -> str:
    """Return the message for a key that is none of `allowed`."""
    leaf = key.rpartition(".")[2]
    return f"there is no key '{key}'.{did_you_mean(leaf, allowed)} Allowed: {', '.join(sorted(allowed)) or 'none'}"
