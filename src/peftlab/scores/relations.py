"""The score of labelled relations between two entities, as SemEval-2010 task 8 has it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from typing_extensions import override

from peftlab.scores.confusion import (
    ClassRow,
    Confusion,
    Precision,
    by_class,
    macro,
    ratio,
    report_text,
)
from peftlab.scores.scorer import Direction, Table

_DIRECTION = re.compile(r"\s*\((e1,\s*e2|e2,\s*e1)\)$")


def relation_of(label: str) -> str:
    """Return the relation of a label without its direction: ``Cause-Effect`` of ``Cause-Effect(e2,e1)``."""
    return _DIRECTION.sub("", label)


class RelationScores(Confusion):
    """Precision, recall and F1 of each relation, with its directions taken into account, and their means.

    This is the official score of SemEval-2010 task 8 (Hendrickx et al. 2010, section 4), as its scorer 1.2 computes it:
    the two directions of a relation are one class, of which a prediction is correct if its direction is too, and means
    are taken over the relations that occur in the gold, without the label for none of them. ``type_f1`` takes the
    directions not into account. A macro F1 over directed labels would be another number.
    """

    directions: ClassVar[Mapping[str, Direction]] = dict.fromkeys(
        ("relation_f1", "relation_precision", "relation_recall", "micro_f1", "type_f1", "accuracy"), "max"
    )

    def __init__(self, labels: Sequence[str], none: str | None) -> None:
        """Make a scorer of these labels, of which `none`, if there is one, stands for no relation."""
        super().__init__(labels)
        self.none = none
        of_labels = {n: relation_of(label) for n, label in enumerate(labels) if label != none}
        self.relations = sorted(set(of_labels.values()))
        places: dict[str, list[int]] = {name: [] for name in self.relations}
        for place, name in of_labels.items():
            places[name].append(place)
        self._places = list(places.values())

    @classmethod
    def named(cls, name: str, labels: Sequence[str]) -> Self | None:
        """Return the scorer of these `labels`."""
        return next((cls(labels, none) for none in (None, *labels) if _name(none) == name), None)

    @property
    def name(self) -> str:
        """Return how the scores are computed."""
        return _name(self.none)

    def counts(self, answer: Mapping[str, Any]) -> dict[int, int]:
        """Return one count, in the cell of the answer's gold and predicted label.

        Raises:
            ValueError: a label is not in `classes`.
        """
        return {self.cell(answer["gold"], answer["predicted"]): 1}

    def _of_relations(self, total: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return how often each relation is correct, is found whatever its direction, is predicted, and is in the gold.

        Each has the shape (relations,), or (relations, number) for several sums of counts.
        """
        of_labels = self.of_classes(total)
        correct, predicted, gold = (self._summed(counts) for counts in of_labels)
        matrix = np.moveaxis(total, -1, 0).reshape(self._size, self._size, *total.shape[:-1])
        typed = [matrix[np.ix_(own, own)].sum((0, 1)) for own in self._places]
        return correct, np.asarray(typed).reshape(correct.shape), predicted, gold

    def _summed(self, counts: np.ndarray) -> np.ndarray:
        sums = [counts[own].sum(0) for own in self._places]
        return np.asarray(sums, counts.dtype).reshape(len(self.relations), *counts.shape[1:])

    @override
    def computed(self, totals: np.ndarray, precision: Precision) -> dict[str, np.ndarray]:
        correct, typed, predicted, gold = self._of_relations(totals)
        exact = self.of_classes(totals)
        occurring = gold > 0  # the official scorer leaves the others out, and what is predicted of them
        correct, typed, predicted = (np.where(occurring, counts, 0) for counts in (correct, typed, predicted))
        precisions, recalls, f1 = by_class(correct, predicted, gold, precision)
        _, _, type_f1 = by_class(typed, predicted, gold, precision)
        return {
            "relation_f1": macro(f1, occurring),
            "relation_precision": macro(precisions, occurring),
            "relation_recall": macro(recalls, occurring),
            "micro_f1": ratio(2 * correct.sum(0), (predicted + gold).sum(0), precision),
            "type_f1": macro(type_f1, occurring),
            "accuracy": ratio(exact[0].sum(0), exact[2].sum(0), precision),
        }

    @override
    def rows(self, total: np.ndarray) -> list[ClassRow]:
        """Return the scores of each relation, in double precision, 0 where undefined, sorted by name."""
        states = [counts.tolist() for counts in self._of_relations(total)]
        return [
            ClassRow.of_counts(name, correct, predicted, gold)
            for name, correct, _, predicted, gold in zip(self.relations, *states, strict=True)
        ]

    def details(self, total: np.ndarray) -> dict[str, float]:
        """Return the overall scores, and precision, recall and F1 of each relation."""
        scores = self.scores(total)
        for row in self.rows(total):
            scores |= {
                f"relation_precision/{row.name}": row.precision,
                f"relation_recall/{row.name}": row.recall,
                f"relation_f1/{row.name}": row.f1,
            }
        return scores

    def tables(self, total: np.ndarray) -> dict[str, Table]:
        """Return the scores of each relation with its errors of direction and of type, and the confusion matrix."""
        correct, typed, *_ = (counts.tolist() for counts in self._of_relations(total))
        columns = ["relation", "precision", "recall", "f1", "support", "predicted", "wrong direction", "wrong relation"]
        cells: list[list[Any]] = [
            [row.name, row.precision, row.recall, row.f1, row.support, row.predicted, same - right, row.support - same]
            for row, right, same in zip(self.rows(total), correct, typed, strict=True)
        ]
        return {"relations": (columns, cells), "confusion": self.confusion_table(total)}

    def report(self, total: np.ndarray) -> str:
        """Return precision, recall, F1 and support of each relation, their mean, and what the errors are about."""
        scores = self.scores(total)
        correct, typed, _, gold = (int(counts.sum()) for counts in self._of_relations(total))
        mean = (scores["relation_precision"], scores["relation_recall"], scores["relation_f1"])
        return (
            f"{report_text(self.rows(total), {'macro average': mean})}\n"
            f"accuracy {scores['accuracy']:.4f}, macro F1 whatever the direction {scores['type_f1']:.4f}; of {gold} "
            f"relations, {typed - correct} have the wrong direction and {gold - typed} another label"
        )


def _name(none: str | None) -> str:
    without = "" if none is None else f" without {none}"
    return f"directed relations, macro over those in gold{without} (SemEval-2010 task 8)"
