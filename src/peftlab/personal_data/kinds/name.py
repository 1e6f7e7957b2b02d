"""Names of people, which a model finds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from peftlab.personal_data.draw import Draw
from peftlab.personal_data.kind import Kind, Slice


@dataclass(frozen=True)
class Name(Kind):
    """Names; no pattern finds them: `peftlab.personal_data.masker.Masker` is given a model's answers."""

    name: ClassVar[str] = "name"

    def find(self, text: str) -> Iterator[Slice]:
        """Yield nothing."""
        yield from ()

    def surrogate(self, value: str, draw: Draw) -> str:
        """Return another word for each word: the same for the same word, so that a surname stays one in the family."""
        return re.sub(r"\w+", lambda word: draw.of(word[0].casefold()).like(word[0]), value)
