"""What separates columns, as the configuration writes it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator


def _read(value: Any) -> Any:
    """Return a tab for the word and for the escape: neither the shell nor Hydra makes one of it."""
    if not isinstance(value, str):
        return value
    quoted = len(value) > 2 and value[0] == value[-1] and value[0] in "\"'"
    bare = value[1:-1] if quoted else value
    if bare.lower() == "tab":
        return "\t"
    return bare.replace("\\t", "\t") if "\\t" in bare else value


Separator = Annotated[str, BeforeValidator(_read)]
"""The characters themselves; ``tab`` and ``\\t`` are a tab, in quotation marks or without."""


def setting(key: str, separator: str | None) -> str:
    """Return the override that sets `key` to `separator`, as it can be typed into a shell."""
    if separator is None:
        return f"{key}=null"
    return f"{key}=tab" if separator == "\t" else f"\"{key}='{separator}'\""
