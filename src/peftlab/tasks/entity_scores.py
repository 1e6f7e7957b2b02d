"""Entity-level precision, recall and F1, exact over batches and processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchmetrics import Metric

from peftlab.tasks.bio import Repair, entities


@dataclass(frozen=True)
class TypeScores:
    """The scores of one entity type."""

    type: str
    precision: float
    recall: float
    f1: float
    support: int
    """Entities of the type in the gold tags."""
    predicted: int
    """Entities of the type in the predicted tags."""


class EntityScores(Metric):  # type: ignore[misc]  # mypy does not follow torchmetrics
    """Entity-level scores as in the CoNLL-2003 shared task (Tjong Kim Sang & De Meulder 2003).

    A predicted entity is correct if a gold entity has its type, first and last word. The state `confusion`, shape
    ``(types + 1, types + 1)``, counts spans by gold type (row) and predicted type (column); the last row holds spans that
    are no gold entity (spurious), the last column gold entities whose span was not predicted (missed). Counts add up
    over batches and processes to those of the whole set. F1 is not linear in them: a mean of batch F1s is another
    number, which changes with the batch size and counts a batch without entities as much as one with many.
    """

    SCORES = ("entity_precision", "entity_recall", "entity_f1", "entity_f1_macro")
    """What `compute` returns."""

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    confusion: Tensor

    def __init__(self, types: Sequence[str], repair: Repair = "conlleval") -> None:
        super().__init__()
        self.types = list(types)
        self.repair = repair
        self._index = {type_: index for index, type_ in enumerate(self.types)}
        size = len(self.types) + 1
        self.add_state("confusion", torch.zeros(size, size, dtype=torch.long), dist_reduce_fx="sum")

    @property
    def correct(self) -> Tensor:
        """Correct entities of each type, shape ``(types,)``."""
        return self.confusion.diagonal()[:-1]

    @property
    def predicted(self) -> Tensor:
        """Predicted entities of each type, shape ``(types,)``."""
        return self.confusion.sum(0)[:-1]

    @property
    def gold(self) -> Tensor:
        """Gold entities of each type, shape ``(types,)``."""
        return self.confusion.sum(1)[:-1]

    @property
    def scorer(self) -> str:
        """How the scores are counted, for records and reports."""
        return f"conll entity-level, repair={self.repair}"

    def update(self, predicted: list[list[str]], gold: list[list[str]]) -> None:
        """Count the entities of some sentences, given as one list of BIO tags a sentence.

        Raises:
            ValueError: `predicted` and `gold` differ in length, a tag is not BIO, or a type is none of `types`. Nothing
                is counted then.
        """
        if len(predicted) != len(gold):
            raise ValueError(f"{len(predicted)} predicted sentences for {len(gold)} gold sentences")
        neither = len(self.types)
        counts = [[0] * (neither + 1) for _ in range(neither + 1)]
        for number, (predicted_tags, gold_tags) in enumerate(zip(predicted, gold, strict=True)):
            if len(predicted_tags) != len(gold_tags):
                raise ValueError(
                    f"sentence {number}: {len(predicted_tags)} predicted tags for {len(gold_tags)} gold tags"
                )
            predicted_at = {(entity.start, entity.end): entity.type for entity in entities(predicted_tags, self.repair)}
            gold_at = {(entity.start, entity.end): entity.type for entity in entities(gold_tags, self.repair)}
            for span in predicted_at.keys() | gold_at.keys():
                row = self._index_of(gold_at[span]) if span in gold_at else neither
                column = self._index_of(predicted_at[span]) if span in predicted_at else neither
                counts[row][column] += 1
        # one transfer to the device for all
        self.confusion = self.confusion + torch.tensor(counts, dtype=torch.long, device=self.confusion.device)

    def compute(self) -> dict[str, Tensor]:
        """Return ``entity_precision``, ``entity_recall``, ``entity_f1`` (micro) and ``entity_f1_macro``.

        They are float32 scalars, 0 where undefined. The macro score is the mean over the types that occur in the gold
        or the predicted tags.
        """
        correct, predicted, gold = self.correct.sum(), self.predicted.sum(), self.gold.sum()
        occurring = (self.predicted + self.gold) > 0
        type_f1 = _ratio(2 * self.correct, self.predicted + self.gold)
        return {
            "entity_precision": _ratio(correct, predicted),
            "entity_recall": _ratio(correct, gold),
            "entity_f1": _ratio(2 * correct, predicted + gold),
            "entity_f1_macro": type_f1.sum() / occurring.sum().clamp(min=1),
        }

    def table(self) -> list[TypeScores]:
        """Return one row a type, sorted by type, of all processes together; all have to call it, as `compute`."""
        with self.sync_context(dist_sync_fn=self.dist_sync_fn):
            states = self.correct.tolist(), self.predicted.tolist(), self.gold.tolist()
        rows = []
        for type_, correct, predicted, gold in sorted(zip(self.types, *states, strict=True)):
            rows.append(
                TypeScores(
                    type=type_,
                    precision=correct / predicted if predicted else 0.0,
                    recall=correct / gold if gold else 0.0,
                    f1=2 * correct / (predicted + gold) if predicted + gold else 0.0,
                    support=gold,
                    predicted=predicted,
                )
            )
        return rows

    def confusion_table(self) -> list[list[str | int]]:
        """Return `confusion` of all processes together as rows that begin with their name, sorted by type.

        All processes have to call it, as `compute`.
        """
        with self.sync_context(dist_sync_fn=self.dist_sync_fn):
            counts = self.confusion.tolist()
        order = [*sorted(range(len(self.types)), key=self.types.__getitem__), len(self.types)]
        names = [*self.types, "spurious"]
        return [[names[row], *(counts[row][column] for column in order)] for row in order]

    def _index_of(self, type_: str) -> int:
        if type_ not in self._index:
            raise ValueError(f"unknown entity type {type_!r}; the types are {', '.join(self.types)}")
        return self._index[type_]


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    # float32 by name: dividing integers gives the default dtype, which is bfloat16 inside a bf16-true step, and float64
    # does not exist on MPS; a zero denominator comes with a zero numerator
    return numerator.to(torch.float32) / denominator.clamp(min=1)
