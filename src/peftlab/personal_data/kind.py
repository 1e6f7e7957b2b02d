"""The interface of a kind of personal data: how it is found, and what may stand in its place."""

from __future__ import annotations

import importlib
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from peftlab.errors import ConfigError
from peftlab.personal_data.draw import Draw

Slice = tuple[int, int]
"""Start and end, in characters."""

LETTER = "A-Za-z\u00c0-\u1fff"
"""Letters of scripts that put spaces between words, as a part of a character class."""
ALONE_BEFORE, ALONE_AFTER = rf"(?<![{LETTER}0-9_])", rf"(?![{LETTER}0-9_])"
"""That a pattern does not begin, or end, within a word or a number."""


@dataclass(frozen=True)
class Kind(ABC):
    """Finds one kind of personal data.

    Reading a text takes time in proportion to its length: a pattern is bounded, and what it may skip is not searched
    again.
    """

    name: ClassVar[str]
    """What it is called in options, tags and counts."""
    is_number: ClassVar[bool] = False
    """Whether it is a long number, which another kind may take for one of its own."""
    has_regions: ClassVar[bool] = False
    """Whether its forms depend on `regions`."""
    regions: tuple[str, ...] = ()
    """The countries whose forms are looked for, ISO 3166-1 codes such as ``DE``."""

    def check(self) -> None:  # noqa: B027
        """Check that it can work with these regions and the packages that are installed.

        Raises:
            ConfigError: it cannot; the message says what to do.
        """

    @abstractmethod
    def find(self, text: str) -> Iterator[Slice]:
        """Yield where it stands in a plain text, see `peftlab.personal_data.plain_text`."""

    @abstractmethod
    def surrogate(self, value: str, draw: Draw) -> str:
        """Return what stands in place of `value`, in the same form; it is not found again."""

    def found_anywhere(self, value: str) -> bool:
        """Return whether `value` is found in some text; override where that depends on the words around it."""
        return any(self.find(value))

    def same(self, value: str) -> str:
        """Return what two ways to write the same value have in common: by default, its letters and digits."""
        return "".join(filter(str.isalnum, value.casefold()))


def package(name: str, kind: str) -> Any:
    """Return a module of a package of the extra ``privacy``.

    Raises:
        ConfigError: it is missing.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ConfigError(
            f"the kind '{kind}' needs the package {name.partition('.')[0]}, which is missing: pip install "
            '"peftlab[privacy]"'
        ) from None


def before(text: str, place: int, words: re.Pattern[str], characters: int = 40) -> bool:
    """Return whether one of `words` stands in the `characters` before a place, on the same line."""
    return words.search(text[max(0, place - characters) : place].rpartition("\n")[2]) is not None
