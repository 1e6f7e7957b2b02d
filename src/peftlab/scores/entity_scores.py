"""Entity-level precision, recall and F1."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self, get_args

import numpy as np

from peftlab.scores.bio import Repair, entities
from peftlab.scores.confusion import Confusion, Precision, by_class, class_table, macro, ratio, report_text
from peftlab.scores.scorer import Direction, Table


class EntityScores(Confusion):
    """Entity-level scores as in the CoNLL-2003 shared task (Tjong Kim Sang & De Meulder 2003).

    A predicted entity is correct if a gold entity has the same type, first and last word. The confusion matrix, shape
    ``(types + 1, types + 1)``, counts spans by gold type (row) and predicted type (column); the last row holds spans
    that are not gold entities (spurious), the last column gold entities whose span is not predicted (missed).
    """

    OUTSIDE = ("spurious", "missed")
    directions: ClassVar[Mapping[str, Direction]] = dict.fromkeys(
        ("entity_precision", "entity_recall", "entity_f1", "entity_f1_macro"), "max"
    )

    def __init__(self, types: Sequence[str], repair: Repair = "conlleval") -> None:
        super().__init__(types)
        self.repair: Repair = repair

    @classmethod
    def named(cls, name: str, labels: Sequence[str]) -> Self | None:
        """Return the scorer of the entity types in BIO `labels`, in their order."""
        types = dict.fromkeys(label[2:] for label in labels if label[:2] in ("B-", "I-"))
        repairs: tuple[Repair, ...] = get_args(Repair)
        return next((scorer for repair in repairs if (scorer := cls([*types], repair)).name == name), None)

    @property
    def name(self) -> str:
        """Return how the scores are computed."""
        return f"conll entity-level, repair={self.repair}"

    def counts(self, answer: Mapping[str, Any]) -> Counter[int]:
        """Return a count for every span that is an entity in the gold or the predicted BIO tags.

        Raises:
            ValueError: ``predicted`` and ``gold`` differ in length, a tag is not BIO, or a type is not in `classes`.
        """
        gold_tags, predicted_tags = answer["gold"], answer["predicted"]
        if len(predicted_tags) != len(gold_tags):
            raise ValueError(f"{len(predicted_tags)} predicted tags for {len(gold_tags)} gold tags")
        predicted = {(entity.start, entity.end): entity.type for entity in entities(predicted_tags, self.repair)}
        gold = {(entity.start, entity.end): entity.type for entity in entities(gold_tags, self.repair)}
        return Counter(self.cell(gold.get(span), predicted.get(span)) for span in predicted.keys() | gold.keys())

    def computed(self, totals: np.ndarray, precision: Precision) -> dict[str, np.ndarray]:
        """Return ``entity_precision``, ``entity_recall``, ``entity_f1`` (micro) and ``entity_f1_macro``, 0 where
        undefined.

        The macro score is the mean over the types that occur in the gold or the predicted tags.
        """
        correct, predicted, gold = self.of_classes(totals)
        _, _, f1 = by_class(correct, predicted, gold, precision)
        overlap, guessed, present = correct.sum(0), predicted.sum(0), gold.sum(0)
        return {
            "entity_precision": ratio(overlap, guessed, precision),
            "entity_recall": ratio(overlap, present, precision),
            "entity_f1": ratio(2 * overlap, guessed + present, precision),
            "entity_f1_macro": macro(f1, predicted + gold > 0),
        }

    def details(self, total: np.ndarray) -> dict[str, float]:
        """Return the overall scores, and precision, recall and F1 of each type."""
        scores = self.scores(total)
        for row in self.rows(total):
            scores[f"entity_precision/{row.name}"] = row.precision
            scores[f"entity_recall/{row.name}"] = row.recall
            scores[f"entity_f1/{row.name}"] = row.f1
        return scores

    def tables(self, total: np.ndarray) -> dict[str, Table]:
        """Return the scores of each entity type and the confusion matrix."""
        return {"entity_types": class_table(self.rows(total), "type"), "confusion": self.confusion_table(total)}

    def report(self, total: np.ndarray) -> str:
        """Return precision, recall, F1 and support of each type and overall."""
        scores = self.scores(total)
        overall = (scores["entity_precision"], scores["entity_recall"], scores["entity_f1"])
        return report_text(self.rows(total), {"all entities": overall})
