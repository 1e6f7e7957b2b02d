"""Accuracy and F1 of examples with one label each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from typing_extensions import override

from peftlab.scores.confusion import Confusion, Precision, by_class, class_table, macro, ratio, report_text, summed
from peftlab.scores.scorer import Direction, Table


class ClassScores(Confusion):
    """Scores of single-label classification, as scikit-learn's ``precision_recall_fscore_support`` computes them.

    Macro scores are means over the classes that occur in the gold or are predicted; weighted F1 weights the classes by
    their share of the gold. With one label per example, micro precision, recall and F1 all equal the accuracy.
    """

    directions: ClassVar[Mapping[str, Direction]] = dict.fromkeys(
        ("accuracy", "macro_f1", "micro_f1", "weighted_f1", "macro_precision", "macro_recall"), "max"
    )

    @classmethod
    def named(cls, name: str, labels: Sequence[str]) -> Self | None:
        """Return the scorer of these `labels`."""
        scorer = cls(labels)
        return scorer if scorer.name == name else None

    @property
    def name(self) -> str:
        """Return how the scores are computed."""
        return "single label, exact counts; macro over the classes in gold or predicted"

    def counts(self, answer: Mapping[str, Any]) -> dict[int, int]:
        """Return one count, in the cell of the answer's gold and predicted label.

        Raises:
            ValueError: a label is not in `classes`.
        """
        return {self.cell(answer["gold"], answer["predicted"]): 1}

    @override
    def computed(self, totals: np.ndarray, precision: Precision) -> dict[str, np.ndarray]:
        correct, predicted, gold = self.of_classes(totals)
        precisions, recalls, f1 = by_class(correct, predicted, gold, precision)
        occurring = predicted + gold > 0
        accuracy = ratio(correct.sum(0), gold.sum(0), precision)
        return {
            "accuracy": accuracy,
            "macro_f1": macro(f1, occurring),
            "micro_f1": accuracy,
            "weighted_f1": ratio(summed(f1 * gold.astype(precision)), gold.sum(0), precision),
            "macro_precision": macro(precisions, occurring),
            "macro_recall": macro(recalls, occurring),
        }

    def details(self, total: np.ndarray) -> dict[str, float]:
        """Return the overall scores, and precision, recall and F1 of each label."""
        scores = self.scores(total)
        for row in self.rows(total):
            scores |= {
                f"precision/{row.name}": row.precision,
                f"recall/{row.name}": row.recall,
                f"f1/{row.name}": row.f1,
            }
        return scores

    def tables(self, total: np.ndarray) -> dict[str, Table]:
        """Return the scores of each label and the confusion matrix."""
        return {"classes": class_table(self.rows(total), "label"), "confusion": self.confusion_table(total)}

    def report(self, total: np.ndarray) -> str:
        """Return precision, recall, F1 and support of each label, their macro average, and the accuracy."""
        scores = self.scores(total)
        average = (scores["macro_precision"], scores["macro_recall"], scores["macro_f1"])
        table = report_text(self.rows(total), {"macro average": average})
        return f"{table}\naccuracy {scores['accuracy']:.4f}, weighted F1 {scores['weighted_f1']:.4f}"
