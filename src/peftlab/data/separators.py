"""Column separators, as written in the configuration."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator


def _read(value: Any) -> Any:
    """Return `value` with the word and the escape for a tab replaced: neither the shell nor Hydra does that."""
    if not isinstance(value, str):
        return value
    quoted = len(value) > 2 and value[0] == value[-1] and value[0] in "\"'"
    bare = value[1:-1] if quoted else value
    if bare.lower() == "tab":
        return "\t"
    return bare.replace("\\t", "\t") if "\\t" in bare else value


Separator = Annotated[str, BeforeValidator(_read)]
"""The characters themselves; ``tab`` and ``\\t`` mean a tab, with or without quotation marks."""


def setting(key: str, separator: str | None) -> str:
    """Return the override that sets `key` to `separator`, as typed into a shell."""
    if separator is None:
        return f"{key}=null"
    return f"{key}=tab" if separator == "\t" else f"\"{key}='{separator}'\""
