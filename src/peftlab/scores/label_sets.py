"""F1, subset accuracy, Hamming loss and ranking of examples with any number of labels each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from typing_extensions import override

from peftlab.scores.scorer import Direction, Scorer, Table

_OF_EXAMPLES = 4
"""Counts besides those of labels: examples, exact ones, and the sums of their F1 and of their average precision."""


class LabelSets(Scorer):
    """Scores of multi-label classification, as scikit-learn computes them.

    Micro F1 counts the labels of all examples together; macro F1 is the mean over the labels that occur in the gold or
    are predicted, weighted F1 the mean weighted by their occurrences in the gold, and samples F1 the mean over the
    examples, 1 for one that rightly has no label. Subset accuracy is the share of examples with exactly the gold
    labels, Hamming loss the share of wrong decisions. The ranking average precision depends on no threshold: for each
    gold label, it is the share of gold labels among those that are as probable or more (Schapire & Singer 2000); 1 for
    an example with no label, or with all.
    """

    directions: ClassVar[Mapping[str, Direction]] = {
        "ranking_average_precision": "max",
        "micro_f1": "max",
        "macro_f1": "max",
        "weighted_f1": "max",
        "samples_f1": "max",
        "subset_accuracy": "max",
        "hamming_loss": "min",
    }
    dtype: ClassVar[type[np.number[Any]]] = np.float64

    def __init__(self, labels: Sequence[str], thresholds: Mapping[str, float] | None = None) -> None:
        """Score sets of `labels`; tables show the `thresholds` that answers are given by, if they are known."""
        self.labels, self.thresholds = list(labels), dict(thresholds or {})
        self._index = {label: n for n, label in enumerate(self.labels)}

    @override
    @classmethod
    def named(cls, name: str, labels: Sequence[str]) -> Self | None:
        scorer = cls(labels)
        return scorer if scorer.name == name else None

    @property
    def name(self) -> str:
        """Return how the scores are computed."""
        return "label sets, exact counts; macro over the labels in gold or predicted"

    @property
    def width(self) -> int:
        """Return the number of counts: of each label those correct, predicted and in the gold, and `_OF_EXAMPLES`."""
        return 3 * len(self.labels) + _OF_EXAMPLES

    @override
    def counts(self, answer: Mapping[str, Any]) -> dict[int, int | float]:
        """Return the counts of an answer, whose ``probabilities`` are by label, or in the order of the labels.

        Raises:
            ValueError: a label is unknown, or one has no probability.
        """
        gold, predicted = (self._places(answer[key]) for key in ("gold", "predicted"))
        number, counts = len(self.labels), dict[int, int | float]()
        for block, places in enumerate((gold & predicted, predicted, gold)):
            counts |= dict.fromkeys((block * number + place for place in sorted(places)), 1)
        both = len(gold) + len(predicted)
        f1 = 2 * len(gold & predicted) / both if both else 1.0
        precision = self._ranking(answer["probabilities"], gold)
        of_example = (1, int(gold == predicted), f1, precision)
        return counts | {3 * number + n: count for n, count in enumerate(of_example)}

    def _places(self, labels: Sequence[str]) -> set[int]:
        if unknown := [label for label in labels if label not in self._index]:
            raise ValueError(f"unknown label {unknown[0]!r}; the labels are {', '.join(self.labels)}")
        return {self._index[label] for label in labels}

    def _ranking(self, probabilities: Mapping[str, float], gold: set[int]) -> float:
        """Return the average precision of the ranking of the labels; equal probabilities share the lowest rank."""
        if probabilities.keys() != self._index.keys():
            raise ValueError("an answer has not the probabilities of all labels")
        if not 0 < len(gold) < len(self.labels):
            return 1.0
        of_all = np.sort([probabilities[label] for label in self.labels])
        of_gold = np.sort([probabilities[self.labels[place]] for place in gold])
        above, right = (len(many) - np.searchsorted(many, of_gold, side="left") for many in (of_all, of_gold))
        return float((right / above).mean())

    @override
    def scores(self, total: np.ndarray) -> dict[str, float]:
        return {name: float(np.float32(values[0])) for name, values in self.batched(total[None]).items()}

    @override
    def batched(self, totals: np.ndarray) -> dict[str, np.ndarray]:
        correct, predicted, gold = self._of_labels(totals)
        examples, exact, f1, precision = totals[:, 3 * len(self.labels) :].T
        of_labels = _ratio(2 * correct, predicted + gold)
        wrong = (predicted + gold - 2 * correct).sum(1)
        return {
            "ranking_average_precision": _ratio(precision, examples),
            "micro_f1": _ratio(2 * correct.sum(1), (predicted + gold).sum(1)),
            "macro_f1": _ratio(of_labels.sum(1), (predicted + gold > 0).sum(1)),
            "weighted_f1": _ratio((of_labels * gold).sum(1), gold.sum(1)),
            "samples_f1": _ratio(f1, examples),
            "subset_accuracy": _ratio(exact, examples),
            "hamming_loss": _ratio(wrong, examples * len(self.labels)),
        }

    def _of_labels(self, totals: np.ndarray) -> np.ndarray:
        """Return how often each label is correct, is predicted and is in the gold, shape (3, number, labels)."""
        number = len(self.labels)
        return np.moveaxis(totals[:, : 3 * number].reshape(len(totals), 3, number), 1, 0)

    @override
    def details(self, total: np.ndarray) -> dict[str, float]:
        """Return the overall scores, and precision, recall and F1 of each label."""
        scores = self.scores(total)
        for label, precision, recall, f1, *_ in self._rows(total):
            scores |= {f"precision/{label}": precision, f"recall/{label}": recall, f"f1/{label}": f1}
        return scores

    def _rows(self, total: np.ndarray) -> list[tuple[str, float, float, float, int, int]]:
        """Return label, precision, recall, F1, occurrences in the gold and in the predictions, sorted by label."""
        correct, predicted, gold = self._of_labels(total[None])[:, 0]
        scores = (_ratio(correct, predicted), _ratio(correct, gold), _ratio(2 * correct, predicted + gold))
        rows = zip(self.labels, *(column.tolist() for column in (*scores, gold, predicted)), strict=True)
        return sorted((*row[:4], int(row[4]), int(row[5])) for row in rows)

    @override
    def tables(self, total: np.ndarray) -> dict[str, Table]:
        """Return the scores of each label, and its threshold."""
        columns = ["label", "precision", "recall", "f1", "support", "predicted", "threshold"]
        return {"labels": (columns, [[*row, self.thresholds.get(row[0])] for row in self._rows(total)])}

    @override
    def report(self, total: np.ndarray) -> str:
        """Return precision, recall, F1, support and threshold of each label, then the overall scores."""
        width = max([len("label"), *map(len, self.labels)])
        lines = [f"{'label':>{width}}  precision  recall      f1  support  threshold"]
        for label, precision, recall, f1, support, _ in self._rows(total):
            threshold = self.thresholds.get(label)
            shown = "" if threshold is None else f"{threshold:.4f}"
            lines.append(f"{label:>{width}}  {precision:9.4f}  {recall:6.4f}  {f1:6.4f}  {support:7}  {shown:>9}")
        overall = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in self.scores(total).items())
        return "\n".join([*lines, overall])


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Return the quotient, 0 where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.zeros(np.shape(denominator)), where=denominator > 0)
