"""Entity-level precision, recall and F1, exact over batches and processes."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from peftlab.tasks.bio import Repair, entities
from peftlab.tasks.confusion import Confusion, ratio


class EntityScores(Confusion):
    """Entity-level scores as in the CoNLL-2003 shared task (Tjong Kim Sang & De Meulder 2003).

    A predicted entity is correct if a gold entity has its type, first and last word. The state `confusion`, shape
    ``(types + 1, types + 1)``, counts spans by gold type (row) and predicted type (column); the last row holds spans
    that are no gold entity (spurious), the last column gold entities whose span was not predicted (missed).
    """

    OUTSIDE = ("spurious", "missed")
    SCORES = ("entity_precision", "entity_recall", "entity_f1", "entity_f1_macro")
    """What `compute` returns."""

    def __init__(self, types: Sequence[str], repair: Repair = "conlleval") -> None:
        super().__init__(types)
        self.repair = repair

    @property
    def scorer(self) -> str:
        """How the scores are counted, for records and reports."""
        return f"conll entity-level, repair={self.repair}"

    def update(self, predicted: list[list[str]], gold: list[list[str]]) -> None:
        """Count the entities of some sentences, given as one list of BIO tags a sentence.

        Raises:
            ValueError: `predicted` and `gold` differ in length, a tag is not BIO, or a type is none of `classes`.
                Nothing is counted then.
        """
        if len(predicted) != len(gold):
            raise ValueError(f"{len(predicted)} predicted sentences for {len(gold)} gold sentences")
        neither = len(self.classes)
        counts = [[0] * (neither + 1) for _ in range(neither + 1)]
        for number, (predicted_tags, gold_tags) in enumerate(zip(predicted, gold, strict=True)):
            if len(predicted_tags) != len(gold_tags):
                raise ValueError(
                    f"sentence {number}: {len(predicted_tags)} predicted tags for {len(gold_tags)} gold tags"
                )
            predicted_at = {(entity.start, entity.end): entity.type for entity in entities(predicted_tags, self.repair)}
            gold_at = {(entity.start, entity.end): entity.type for entity in entities(gold_tags, self.repair)}
            for span in predicted_at.keys() | gold_at.keys():
                row = self.index_of(gold_at[span]) if span in gold_at else neither
                column = self.index_of(predicted_at[span]) if span in predicted_at else neither
                counts[row][column] += 1
        self.count(counts)

    def compute(self) -> dict[str, Tensor]:
        """Return ``entity_precision``, ``entity_recall``, ``entity_f1`` (micro) and ``entity_f1_macro``.

        They are float32 scalars, 0 where undefined. The macro score is the mean over the types that occur in the gold
        or the predicted tags.
        """
        correct, predicted, gold = self.correct.sum(), self.predicted.sum(), self.gold.sum()
        _, _, type_f1 = self.by_class()
        return {
            "entity_precision": ratio(correct, predicted),
            "entity_recall": ratio(correct, gold),
            "entity_f1": ratio(2 * correct, predicted + gold),
            "entity_f1_macro": self.macro(type_f1),
        }
