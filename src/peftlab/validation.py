"""Validate the configuration against pydantic dataclasses: each error names its key and the allowed values."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from peftlab.errors import ConfigError, did_you_mean

_NO_KEY = re.compile(r"function-.*|constrained-.*|(dataclass|is-instance|list|dict|literal)\[.*|str|int|float|bool")
"""Entries in the location of a pydantic error that are no keys: its own steps and the members of a union."""
_NO_SECTION = ("dataclass_type", "is_instance_of", "callable_type")
"""Errors of a value that stands in the place of a section; pydantic would name classes of ours."""


def checked(cls: type, values: Any, path: str) -> Any:
    """Return the `cls` built from `values`, the section at the dotted key `path`.

    Raises:
        ConfigError: names each wrong key, the allowed values and the nearest match.
    """
    try:
        return TypeAdapter(cls).validate_python(values)
    except ValidationError as error:
        raise ConfigError("\n       ".join(_lines(cls, error.errors(), path))) from error
    except TypeError as error:  # an abstract class, such as a task: no concrete one is named
        raise ConfigError(f"{path and f'{path}: '}a _target_ is missing: {error}") from error


def _lines(cls: type, details: list[ErrorDetails], path: str) -> Iterator[str]:
    """Yield a line for each wrong key: where several forms are allowed, pydantic has an error for each of them."""
    keys: dict[str, list[str]] = {}
    for detail in details:
        line = explain(cls, detail, path)
        end = line.find(": should be ")
        keys.setdefault(line if end < 0 else line[:end], []).append("" if end < 0 else line[end + 2 :])
    for key, allowed in keys.items():
        several = [each.removesuffix(".") for each in dict.fromkeys(allowed)]
        yield f"{key}: {', or '.join(several)}." if len(several) > 1 else f"{key}: {allowed[0]}" if allowed[0] else key


def explain(cls: type, detail: ErrorDetails, path: str, within: bool = True) -> str:
    """Return one line for one error of pydantic's below `path`, or at `path` itself where not `within`."""
    own = detail["ctx"]["class_name"] if detail["type"] == "dataclass_type" else None
    location = [str(part) for part in detail["loc"] if within and not _NO_KEY.fullmatch(str(part)) and part != own]
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
    if detail["type"] in _NO_SECTION and not (detail["type"] == "is_instance_of" and "Sequence" in message):
        message = "should be a section of keys and values"
        if names := _field_names(cls, location):
            message += f": {', '.join(names)}"
    value = detail["input"]
    shown = f" = {value!r}" if isinstance(value, (str, int, float, bool, list, type(None))) else ""
    return f"{key}{shown}: {message}.{hint}".replace("..", ".")


def _field_names(cls: Any, location: list[str]) -> list[str]:
    """Return the keys of the section at a location within another; none where it may be one of several kinds."""
    for part in location:
        if not part.isdigit():  # a place in a list
            sections = list(_sections(get_type_hints(cls).get(part))) if is_dataclass(cls) else []
            cls = sections[0] if len(sections) == 1 else None
    if not is_dataclass(cls):
        return []
    known = getattr(cls, "__pydantic_fields__", {})
    return [getattr(known.get(f.name), "alias", None) or f.name for f in fields(cls) if f.init]


def _sections(hint: Any) -> Iterator[Any]:
    """Yield the dataclasses in the type of a field, such as that of an optional section or of a list of them."""
    if is_dataclass(hint):
        yield hint
    for inner in get_args(hint):
        yield from _sections(inner)


def unknown_key(key: str, allowed: list[str]) -> str:
    """Return the message for a key that is none of `allowed`."""
    leaf = key.rpartition(".")[2]
    return f"there is no key '{key}'.{did_you_mean(leaf, allowed)} Allowed: {', '.join(sorted(allowed)) or 'none'}"
