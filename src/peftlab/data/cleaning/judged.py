"""What a model says of the label of every text or word, read from the predictions that a run keeps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from peftlab.data.cleaning.finding import Finding
from peftlab.data.cleaning.label_errors import SCORES, ScoreName, is_error, worst
from peftlab.errors import DataError


@dataclass(frozen=True)
class Judged:
    """The labels of a split's texts, or of their words, and the probabilities of all labels."""

    labels: list[str]
    probabilities: np.ndarray
    """Shape (units, labels)."""
    gold: np.ndarray
    """The number of each unit's label, shape (units,)."""
    example: np.ndarray
    """The prediction that each unit belongs to, ascending, shape (units,)."""
    place: np.ndarray
    """The position of each word in its text, shape (units,); -1: the unit is the whole text."""

    @cached_property
    def best(self) -> np.ndarray:
        """The number of each unit's most probable label, shape (units,)."""
        return self.probabilities.argmax(axis=1)


def judged(rows: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> Judged:
    """Return the units of predictions; words and texts without gold or without a prediction are left out.

    Args:
        rows: the predictions of a run with the probabilities of all `labels`, of a text or of each of its words.
        labels: the labels in order.

    Raises:
        DataError: a prediction lacks the probability of a label, or may have several labels or parts.
    """
    number = {label: n for n, label in enumerate(labels)}
    units: list[tuple[int, int, int, list[float]]] = []
    for n, row in enumerate(rows):
        if isinstance(row.get("gold"), list) and isinstance(row.get("probabilities"), Mapping):
            raise DataError(
                f"{row.get('id')}: it may have several labels: confident learning compares the one label of a text, or "
                "of a word, with the probabilities of the others"
            )
        if isinstance(row.get("gold"), Mapping):
            raise DataError(
                f"{row.get('id')}: its gold has several parts, such as an intent and slots: confident learning "
                "compares the one label of a text, or of a word, with the probabilities of the others"
            )
        for place, gold, of_all in _units(row):
            if of_all is None or gold is None:
                continue
            if not isinstance(of_all, Mapping) or not all(label in of_all for label in labels) or gold not in number:
                raise DataError(
                    f"{row.get('id')}: the prediction has not the probabilities of all {len(labels)} labels"
                )
            units.append((n, place, number[gold], [of_all[label] for label in labels]))
    return Judged(
        list(labels),
        np.asarray([unit[3] for unit in units], dtype=np.float64).reshape(-1, len(labels)),
        np.asarray([unit[2] for unit in units], dtype=np.int64),
        np.asarray([unit[0] for unit in units], dtype=np.int64),
        np.asarray([unit[1] for unit in units], dtype=np.int64),
    )


def _units(row: Mapping[str, Any]) -> Iterator[tuple[int, Any, Any]]:
    """Yield position, gold and probabilities of each unit of a prediction."""
    gold, probabilities = row.get("gold"), row.get("probabilities")
    if isinstance(gold, list) and isinstance(probabilities, list):
        for place, (label, of_all) in enumerate(zip(gold, probabilities, strict=True)):
            yield place, label, of_all
    else:
        yield -1, gold, probabilities


def label_errors(
    rows: Sequence[Mapping[str, Any]],
    labels: Sequence[str],
    split: str,
    score: ScoreName = "self_confidence",
) -> list[Finding]:
    """Return the examples that have a label error by confident learning, the worst first; ties keep their order.

    Args:
        rows: predictions of a model that was not trained on these examples, see `judged`.
        labels: the labels in order.
        split: the split that the examples belong to.
        score: the score by which they are ranked.

    Raises:
        DataError: a prediction lacks the probability of a label.
    """
    units = judged(rows, labels)
    if not len(units.gold):
        return []
    wrong = is_error(units.probabilities, units.gold)
    scores = SCORES[score](units.probabilities, units.gold)
    of_each, unit = worst(scores, units.example, len(rows))
    in_doubt: dict[int, list[int]] = {}
    for n in np.flatnonzero(wrong).tolist():
        in_doubt.setdefault(int(units.example[n]), []).append(n)
    ranked = sorted(in_doubt, key=lambda n: of_each[n])
    return [_finding(rows[n], units, in_doubt[n], split, float(of_each[n]), int(unit[n])) for n in ranked]


def _finding(
    row: Mapping[str, Any], units: Judged, wrong: Sequence[int], split: str, score: float, least: int
) -> Finding:
    gold = [units.labels[units.gold[n]] for n in wrong]
    suggested = [units.labels[units.best[n]] for n in wrong]
    note = ""
    if units.place[wrong[0]] >= 0:
        words = [row["input"][units.place[n]] for n in wrong]
        gold = [f"{word}:{label}" for word, label in zip(words, gold, strict=True)]
        suggested = [f"{word}:{label}" for word, label in zip(words, suggested, strict=True)]
        note = f"worst word: {row['input'][units.place[least]]}"
    return Finding(
        split, row["id"], "label error", text_of(row["input"]), " ".join(gold), " ".join(suggested), score, note
    )


def text_of(parts: str | Sequence[str]) -> str:
    """Return a text, the words of one, or the texts of a pair, as one text."""
    return parts if isinstance(parts, str) else " ".join(parts)
