"""The one door for text: from a file, a stream, an argument or a program, it comes out as valid Unicode.

A surrogate is half a character, and no encoding can write it. It comes from an escape in JSON (``"\\ud83d"``, a text
cut within an emoji), from an argument or a file name whose bytes are not UTF-8, or from a Python string. Each becomes
one U+FFFD, so that positions do not change.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

_SURROGATE = re.compile("[\ud800-\udfff]")
_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f]")


class Door:
    """Makes texts valid, and counts surrogates and control characters."""

    def __init__(self) -> None:
        self.mended = 0
        """Surrogates replaced with U+FFFD."""
        self.controls = 0
        """Control characters, which are kept: NUL and the like, not white space."""

    def __call__(self, text: str) -> str:
        """Return `text` as valid Unicode."""
        if text.isprintable():  # it has neither surrogates nor control characters
            return text
        valid, mended = _SURROGATE.subn("\ufffd", text)
        self.mended += mended
        self.controls += len(_CONTROL.findall(valid))
        return valid

    @property
    def counts(self) -> dict[str, int]:
        """The counts, under their names in the run record."""
        return {"mended_characters": self.mended, "control_characters": self.controls}

    @property
    def findings(self) -> str:
        """The counts as text for a message; empty if all are zero."""
        mended = f"halves of characters, read as U+FFFD: {self.mended}" if self.mended else ""
        controls = f"control characters such as NUL, kept: {self.controls}" if self.controls else ""
        return "; ".join(filter(None, (mended, controls)))

    def value(self, value: Any) -> Any:
        """Return a JSON value with every text in it, keys included, as valid Unicode."""
        if isinstance(value, str):
            return self(value)
        if isinstance(value, Mapping):
            return {self.value(key): self.value(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            each_valid = [self.value(each) for each in value]
            return tuple(each_valid) if isinstance(value, tuple) else each_valid
        return value


def is_valid(text: str) -> bool:
    """Return whether `text` holds no surrogate."""
    return not _SURROGATE.search(text)


def has_controls(text: str) -> bool:
    """Return whether `text` holds a control character, line ends and tabs included; names must not."""
    return bool(_CONTROL.search(text)) or any(space in text for space in "\t\n\v\f\r")


def code_points(text: str) -> str:
    """Return `text` for a message, with its code point in place of each character that is not visible by itself.

    ``"a\\u200b"`` becomes ``'a' U+200B``, and an e with its accent as a second character ``'e' U+0301``.
    """
    inner = range(len(text) - len(text.lstrip()), len(text.rstrip()))
    shown: list[str] = []
    for seen, run in itertools.groupby(enumerate(text), lambda pair: pair[0] in inner and _is_seen(pair[1])):
        part = "".join(character for _, character in run)
        shown += [repr(part)] if seen else [f"U+{ord(character):04X}" for character in part]
    return " ".join(shown)


def _is_seen(character: str) -> bool:
    return character == " " or (character.isprintable() and not unicodedata.category(character).startswith("M"))
