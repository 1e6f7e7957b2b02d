"""Terms that say who a text is about, in plain text files: a theme of the package, or a file of the user's own.

The first line of a file names the groups, and each other line has one term a group, counterparts of each other, with
``|`` between them: ``she | he`` below ``female | male``. A cell may be empty; lines that begin with ``#`` are comments.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from peftlab.data.text_files import lines_of, read_text
from peftlab.errors import DataError, did_you_mean
from peftlab.reading.words import SPACELESS
from peftlab.storage.digests import sha256_of

_FOLDER = Path(__file__).parent

THEMES = tuple(sorted(file.stem for file in _FOLDER.glob("*.txt")))
"""The themes whose terms are part of the package, in English."""

NONE = "none"
"""The group of a text without any of the terms."""


@dataclass(frozen=True)
class Identities:
    """Terms of two or more groups, in small letters."""

    name: str
    groups: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    """Counterparts: a term for each group, or an empty one."""

    @cached_property
    def places(self) -> dict[str, tuple[int, list[int]]]:
        """By term, the place of its group, and the rows that have it."""
        places: dict[str, tuple[int, list[int]]] = {}
        for number, row in enumerate(self.rows):
            for group, term in enumerate(row):
                if term:
                    places.setdefault(term, (group, []))[1].append(number)
        return places

    @cached_property
    def _spaceless(self) -> list[str]:
        """The terms of several characters in scripts that write no spaces: texts are divided within them."""
        return [term for term in self.places if len(term) > 1 and re.search(f"[{SPACELESS}]", term)]

    @property
    def sha256(self) -> str:
        """The digest of groups and terms."""
        return sha256_of([self.groups, self.rows])

    def groups_in(self, words: Iterable[str]) -> frozenset[str]:
        """Return the groups of which a term is among `words`, whatever its case, or in several of them together in a
        script that writes no spaces.
        """
        words = list(map(str.lower, words))
        text = "".join(words) if self._spaceless else ""
        present = [word for word in words if word in self.places] + [term for term in self._spaceless if term in text]
        return frozenset(self.groups[self.places[term][0]] for term in present)

    def label(self, words: Iterable[str]) -> str:
        """Return the one group that a text of `words` belongs to: ``female``, ``female+male`` or ``none``."""
        present = self.groups_in(words)
        return "+".join(group for group in self.groups if group in present) or NONE


def identities(theme: str) -> Identities:
    """Return the terms of a theme of the package, or of a file.

    Raises:
        DataError: there is no such theme or file, or the file is malformed; the message names the line.
    """
    if theme in THEMES:
        return _read(_FOLDER / f"{theme}.txt", theme)
    if not os.path.isfile(theme):
        raise DataError(
            f"{theme}: there are no such terms.{did_you_mean(theme, THEMES)} Allowed: a file, or {', '.join(THEMES)}"
        )
    return _read(Path(theme), Path(theme).stem)


def _read(file: Path, name: str) -> Identities:
    lines = [(number, line.strip()) for number, line in enumerate(lines_of(read_text(file)), start=1)]
    rows = [(n, [cell.strip().lower() for cell in line.split("|")]) for n, line in lines if line and line[0] != "#"]
    if len(rows) < 2 or not all(rows[0][1]) or len(set(rows[0][1])) < len(rows[0][1]):
        raise DataError(f"{file}: expected a line with the groups, such as 'female | male', and their terms below it")
    groups, owner = tuple(rows[0][1]), dict[str, str]()
    for number, row in rows[1:]:
        if len(row) != len(groups) or not any(row):
            raise DataError(f"{file}:{number}: {len(row)} terms for the {len(groups)} groups {' | '.join(groups)}")
        for group, term in zip(groups, row, strict=True):
            if len(term.split()) > 1:
                raise DataError(f"{file}:{number}: '{term}' is more than a word, and texts are searched word by word")
            if term and owner.setdefault(term, group) != group:
                raise DataError(f"{file}:{number}: '{term}' stands for {owner[term]} and {group}: leave it out of one")
    return Identities(name, groups, tuple(tuple(row) for _, row in rows[1:]))
