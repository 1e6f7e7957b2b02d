"""What is asked of each text: the labels that a run may give it, and the errors that the run makes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from peftlab.errors import ConfigError
from peftlab.opinion.correction import Confusion
from peftlab.reading.words import SPACELESS
from peftlab.runs.folder import read_predictions

_WORD = re.compile(rf"[{SPACELESS}]|[^\W\d_{SPACELESS}]+")


@dataclass
class Question:
    """Something that each text has one answer to.

    Attributes:
        name: such as opinion, or a column.
        labels: the answers; those of columns are added as they appear.
        confusion: of the run that answers; None: the answers are true.
        words: of the texts that the run was tested on; empty: they are unknown.
    """

    name: str
    labels: list[str] = field(default_factory=list)
    confusion: Confusion | None = None
    words: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Number the labels."""
        self._number = {label: number for number, label in enumerate(self.labels)}

    @property
    def grows(self) -> bool:
        """Whether further answers may appear."""
        return self.confusion is None

    def number(self, label: str) -> int:
        """Return the number of a label; -1: the run cannot give it."""
        number = self._number.get(label, -1)
        if number < 0 and self.grows:
            number = self._number[label] = len(self.labels)
            self.labels.append(label)
        return number


def of_run(folder: Path, name: str, split: str) -> Question:
    """Return the question that a run answers, from the answers that it has kept: no model is loaded.

    Raises:
        ConfigError: there are none, or they are not one label each.
    """
    file = folder / "predictions" / f"{split}.jsonl"
    try:
        rows = read_predictions(file)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{file}: cannot be read ({error}). The errors of the run of '{name}' are counted in it; "
            "`confusion: validation` or `test` chooses the split"
        ) from None
    pairs: list[tuple[Any, Any]] = [(row["gold"], row.get("predicted")) for row in rows if row.get("gold") is not None]
    if not pairs or not all(isinstance(gold, str) and isinstance(given, str) for gold, given in pairs):
        raise ConfigError(
            f"{folder}: the run gives no text exactly one label, and shares are of such labels: name a run of "
            "task=classification"
        )
    named = [each for row in rows if isinstance(each := row.get("probabilities"), dict)]
    labels, seen = list(rows[0].get("probabilities") or ()), set().union(*named, *pairs)
    if seen.difference(labels):  # with task.top_k, a row names the most probable labels alone
        labels = sorted(seen)
    number = {label: place for place, label in enumerate(labels)}
    counts = np.zeros((len(labels), len(labels)))
    np.add.at(counts, ([number[gold] for gold, _ in pairs], [number[given] for _, given in pairs]), 1)
    inputs = (row.get("input") for row in rows)
    words = frozenset().union(*(words_of(one) for one in inputs if isinstance(one, str)))
    return Question(name, labels, Confusion(tuple(labels), counts), words)


def words_of(text: str) -> list[str]:
    """Return the words of a text, without case; neither numbers nor addresses are words."""
    return _WORD.findall(text.casefold())


def unknown_share(text: str, words: Iterable[str] | frozenset[str]) -> float:
    """Return the share of the words of a text that are none of `words`; 0 of a text without words."""
    own = words_of(text)
    return sum(word not in words for word in own) / len(own) if own else 0.0
