"""The one door for text: from wherever it comes, a file, a stream, an argument or a program, it leaves as Unicode.

A surrogate stands for half a character, and no encoding writes it. One comes in by an escape in JSON (``"\\ud83d"``, a
text cut within an emoji), by an argument or a file name whose bytes are not UTF-8, or by a Python string. Each becomes
U+FFFD, one character for one, so that positions stay what they are.
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
    """Makes texts valid, and counts what is odd about them."""

    def __init__(self) -> None:
        self.mended = 0
        """Surrogates that have become U+FFFD."""
        self.controls = 0
        """Control characters, which stay: NUL and the like, but no white space."""

    def __call__(self, text: str) -> str:
        """Return `text` as valid Unicode."""
        if text.isprintable():  # neither surrogates nor control characters are
            return text
        valid, mended = _SURROGATE.subn("\ufffd", text)
        self.mended += mended
        self.controls += len(_CONTROL.findall(valid))
        return valid

    @property
    def counts(self) -> dict[str, int]:
        """What the record says of them."""
        return {"mended_characters": self.mended, "control_characters": self.controls}

    @property
    def findings(self) -> str:
        """What is odd, for a message; empty where nothing is."""
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
    """Return whether `text` holds a control character, line ends and tabs included: names have none."""
    return bool(_CONTROL.search(text)) or any(space in text for space in "\t\n\v\f\r")


def code_points(text: str) -> str:
    """Return `text` for a message, with the number in place of each character that is not seen by itself.

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
