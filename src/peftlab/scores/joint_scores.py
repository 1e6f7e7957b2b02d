"""Scores of intents and slots, apart and together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self, get_args

import numpy as np

from peftlab.scores.bio import Repair
from peftlab.scores.class_scores import ClassScores
from peftlab.scores.confusion import ratio
from peftlab.scores.entity_scores import EntityScores
from peftlab.scores.scorer import Direction, Scorer, Table

INTENT = "intent/"
"""Begins the labels that are intents; the others are BIO tags of slots."""

_SLOTS = {"slot_precision": "entity_precision", "slot_recall": "entity_recall", "slot_f1": "entity_f1"}
"""The scores of slots, and those of entities that they are."""


class JointScores(Scorer):
    """Accuracy of intents, F1 of slots, and the share of utterances in which the intent and every tag are right.

    Slots are scored as entities are in the CoNLL-2003 shared task, see `EntityScores`; intents as single labels.
    """

    directions: ClassVar[Mapping[str, Direction]] = dict.fromkeys(
        ("sentence_accuracy", "intent_accuracy", *_SLOTS), "max"
    )

    def __init__(self, types: Sequence[str], intents: Sequence[str], repair: Repair = "conlleval") -> None:
        self.slots, self.intents = EntityScores(types, repair), ClassScores(intents)
        self.repair: Repair = repair

    @classmethod
    def named(cls, name: str, labels: Sequence[str]) -> Self | None:
        """Return the scorer of the slots and the intents in `labels`, in their order."""
        types = [*dict.fromkeys(label[2:] for label in labels if label[:2] in ("B-", "I-"))]
        intents = [label.removeprefix(INTENT) for label in labels if label.startswith(INTENT)]
        repairs: tuple[Repair, ...] = get_args(Repair)
        return next((scorer for repair in repairs if (scorer := cls(types, intents, repair)).name == name), None)

    @property
    def name(self) -> str:
        """Return how the scores are computed."""
        return f"intents, slots by {self.slots.name}"

    @property
    def width(self) -> int:
        """Return the number of counts: utterances that are wholly right, then those of slots and of intents."""
        return 1 + self.slots.width + self.intents.width

    def counts(self, answer: Mapping[str, Any]) -> dict[int, int]:
        """Return the counts of one answer; ``gold`` and ``predicted`` have an ``intent`` and ``tags``.

        Raises:
            ValueError: an intent or a tag is none of the labels, or the numbers of tags differ.
        """
        gold, predicted = answer["gold"], answer["predicted"]
        slots = self.slots.counts({"gold": gold["tags"], "predicted": predicted["tags"]})
        intent = self.intents.counts({"gold": gold["intent"], "predicted": predicted["intent"]})
        whole = {0: 1} if gold == predicted else {}
        begin = 1 + self.slots.width
        return whole | {1 + n: count for n, count in slots.items()} | {begin + n: c for n, c in intent.items()}

    def _parts(self, totals: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the counts of right utterances, (...), of slots and of intents, (..., width)."""
        begin = 1 + self.slots.width
        return totals[..., 0], totals[..., 1:begin], totals[..., begin:]

    def scores(self, total: np.ndarray) -> dict[str, float]:
        """Return the overall scores, 0 where undefined."""
        right, slots, intents = self._parts(total)
        of_slots = self.slots.scores(slots)
        return {
            "sentence_accuracy": float(ratio(right, intents.sum())),
            "intent_accuracy": self.intents.scores(intents)["accuracy"],
            **{name: of_slots[own] for name, own in _SLOTS.items()},
        }

    def batched(self, totals: np.ndarray) -> dict[str, np.ndarray]:
        """Return the overall scores of many sums of counts."""
        right, slots, intents = self._parts(totals)
        of_slots = self.slots.batched(slots)
        return {
            "sentence_accuracy": ratio(right, intents.sum(-1), np.float64),
            "intent_accuracy": self.intents.batched(intents)["accuracy"],
            **{name: of_slots[own] for name, own in _SLOTS.items()},
        }

    def details(self, total: np.ndarray) -> dict[str, float]:
        """Return the overall scores, and F1 of each slot and each intent."""
        _, slots, intents = self._parts(total)
        of_slots = {f"slot_f1/{row.name}": row.f1 for row in self.slots.rows(slots)}
        return self.scores(total) | of_slots | {f"intent_f1/{row.name}": row.f1 for row in self.intents.rows(intents)}

    def tables(self, total: np.ndarray) -> dict[str, Table]:
        """Return the scores of each slot and each intent, and the confusion matrix of the intents."""
        _, slots, intents = self._parts(total)
        return {
            "slots": self.slots.tables(slots)["entity_types"],
            "intents": self.intents.tables(intents)["classes"],
            "confusion": self.intents.confusion_table(intents),
        }

    def report(self, total: np.ndarray) -> str:
        """Return precision, recall, F1 and support of each slot and each intent, and the accuracies."""
        _, slots, intents = self._parts(total)
        scores = self.scores(total)
        overall = (
            f"sentence accuracy {scores['sentence_accuracy']:.4f}, intent accuracy {scores['intent_accuracy']:.4f}, "
            f"slot F1 {scores['slot_f1']:.4f}"
        )
        return f"{self.slots.report(slots)}\n\n{self.intents.report(intents)}\n\n{overall}"
