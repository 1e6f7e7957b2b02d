"""Accuracy and F1 of texts with one label each, exact over batches and processes."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from peftlab.tasks.confusion import Confusion, ratio


class ClassScores(Confusion):
    """Scores of single-label classification, as scikit-learn's ``precision_recall_fscore_support`` computes them.

    Macro scores are means over the classes that occur in the gold or are predicted; weighted F1 weighs the classes by
    their share of the gold. Micro precision, recall and F1 are all the accuracy where every text has one label.
    """

    SCORES = ("accuracy", "macro_f1", "micro_f1", "weighted_f1", "macro_precision", "macro_recall")
    """What `compute` returns."""

    SCORER = "single label, exact counts; macro over the classes in gold or predicted"
    """How the scores are counted, for records and reports."""

    def update(self, predicted: Sequence[str], gold: Sequence[str]) -> None:
        """Count some texts, given as one label a text.

        Raises:
            ValueError: `predicted` and `gold` differ in length, or a label is none of `classes`. Nothing is counted
                then.
        """
        if len(predicted) != len(gold):
            raise ValueError(f"{len(predicted)} predicted labels for {len(gold)} gold labels")
        counts = [[0] * len(self.classes) for _ in self.classes]
        for predicted_label, gold_label in zip(predicted, gold, strict=True):
            counts[self.index_of(gold_label)][self.index_of(predicted_label)] += 1
        self.count(counts)

    def compute(self) -> dict[str, Tensor]:
        """Return `SCORES`, float32 scalars, 0 where undefined."""
        precision, recall, f1 = self.by_class()
        accuracy = ratio(self.correct.sum(), self.gold.sum())
        return {
            "accuracy": accuracy,
            "macro_f1": self.macro(f1),
            "micro_f1": accuracy,
            "weighted_f1": ratio((f1 * self.gold).sum(), self.gold.sum()),
            "macro_precision": self.macro(precision),
            "macro_recall": self.macro(recall),
        }
