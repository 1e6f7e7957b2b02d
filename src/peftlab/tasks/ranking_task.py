"""What tasks share whose answers are rankings of all items: the items, the ranks, and what is asked."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, ClassVar, NamedTuple

import numpy as np
from pydantic import Field

from peftlab.errors import DataError
from peftlab.recommending.interactions import Catalogue, Interaction
from peftlab.recommending.ranking import ranked
from peftlab.scores.rankings import TOP, RankingScores
from peftlab.tasks.batch import Batch
from peftlab.tasks.from_examples import Study
from peftlab.tasks.inputs.cut_texts import CutTexts
from peftlab.tasks.inputs.texts import Text, encode_texts
from peftlab.tasks.task import Encoded, spec

log = logging.getLogger("peftlab")


class Items(NamedTuple):
    """The items of the training data."""

    catalogue: Catalogue
    encoded: Encoded
    """Their texts."""
    drawn: np.ndarray
    """The places of the items of the training examples: what negatives are drawn from."""
    log_share: np.ndarray
    """The logarithm of each item's share of these, shape (items,); -inf: it is none of them."""


@spec
class RankingTask(CutTexts):
    """Ranks all items for each user; a task adds how users and items are read, and how scores are learnt.

    Its `labels` are the items.
    """

    recent: int = Field(default=20, ge=1)
    """How many of the last items of a history are read."""
    temperature: float = Field(default=0.1, gt=0, allow_inf_nan=False)
    """Divides cosines."""
    example: ClassVar[type] = Interaction
    _items: Items | None = field(default=None, init=False, repr=False)
    _ids_alone: Catalogue | None = field(default=None, init=False, repr=False)

    @property
    @abstractmethod
    def reads_text(self) -> bool:
        """Whether the encoder reads texts of users: what they have asked for, or the titles of their last items."""

    @property
    def scorer(self) -> RankingScores:
        """Return the scorer of rankings."""
        return RankingScores()

    def labels_read(self, examples: Sequence[Interaction]) -> int:
        """Return 0: the index of items reads their texts alone."""
        return 0

    def learn_labels(self, splits: Mapping[str, Sequence[Interaction]], declared: Sequence[str] | None) -> None:
        """Set `labels` to the ids of all items, in the order of their file.

        Raises:
            DataError: the items are not those that are declared, the ones of the run.
        """
        found = next((members[0].catalogue for members in splits.values() if members), None)
        if found is not None and declared and tuple(declared) != found.items:
            odd = sorted({*declared} ^ {*found.items}) or ["their order"]
            raise DataError(
                f"the data has {len(found.items):,} items, and data.labels, or the run, {len(declared):,}: they differ "
                f"in {', '.join(odd[:3])}. Leave data.labels out to train, and score a run on its own items"
            )
        self.labels = list(found.items if found is not None else declared or ())
        validation = splits.get("validation") or ()
        if validation and self.selection.metric != "loss" and all(one.is_cold for one in validation):
            log.warning(
                "task.selection.metric=%s is of items that are trained on, and the validation split has none: it "
                "chooses nothing. Begin validation later (data.format.periods), or set task.selection.metric=loss",
                self.selection.metric,
            )

    def study(self, examples: Sequence[Interaction], about: Study) -> None:
        """Encode the texts of the items."""
        catalogue = examples[0].catalogue
        texts = [Text(f"item:{id}", text, None) for id, text in zip(catalogue.items, catalogue.texts, strict=True)]
        places = np.asarray([one.item for one in examples], np.int64)
        counts = np.bincount(places, minlength=len(texts))
        with np.errstate(divide="ignore"):
            log_share = np.log(counts / counts.sum())
        encoded = encode_texts(texts, about.processor.tokenizer, about.limits.max_tokens)
        self._items = Items(catalogue, encoded, places, log_share)

    def all_lost(self, encoded: Encoded) -> dict[str, int]:
        """Return the numbers of truncated texts and tokens; a user without a history has no text, and loses none."""
        lost = super().all_lost(encoded)
        return {name: count for name, count in lost.items() if name.startswith("truncated")}

    def lost(self, encoded: Encoded, index: int) -> dict[str, Any]:
        """Return ``truncated`` and the number of ``lost_tokens``, where they apply."""
        return {name: value for name, value in super().lost(encoded, index).items() if name != "empty"}

    def weights(self, examples: Sequence[Interaction], encoded: Encoded, indices: Sequence[int]) -> np.ndarray:
        """Return 1 for each example with an item, else 0."""
        return np.asarray([examples[i].item is not None for i in indices], dtype=float)

    def answers(self, outputs: Any, batch: Batch, model: Any, final: bool) -> list[dict[str, Any]]:
        """Return the best unseen items of each user, with their scores, and the rank of the right one."""
        answers = []
        for example, scores in zip(batch.examples, outputs.logits.float().cpu().numpy(), strict=False):
            ranking = ranked(scores, example.item, example.seen, TOP)
            answers.append(
                {
                    "id": example.id,
                    "input": self._input(example),
                    "gold": self.gold(example),
                    "predicted": [self.labels[item] for item in ranking.best],
                    "probability": None,
                    "scores": [float(f"{scores[item]:.7g}") for item in ranking.best],
                    "rank": ranking.rank,
                    "candidates": ranking.candidates,
                    "cold": example.is_cold,
                }
            )
        return answers

    def _input(self, example: Interaction) -> Any:
        """Return the query, or the ids of the items that are read of the history, the oldest first."""
        if example.query is not None:
            return example.query
        return [example.catalogue.items[item] for item in example.last(self.recent)]

    def is_consistent(self, answer: Mapping[str, Any], decisions: Mapping[str, Any]) -> bool:
        """Return whether the scores descend, and the right item stands at its rank, ties counting against it."""
        scores, gold, rank = answer["scores"], answer["gold"], answer["rank"]
        if scores != sorted(scores, reverse=True) or rank is None or gold not in answer["predicted"]:
            return scores == sorted(scores, reverse=True) and (rank is None or rank > len(scores) or gold is None)
        own = scores[answer["predicted"].index(gold)]
        return sum(score > own for score in scores) < rank and sum(score >= own for score in scores) <= rank

    def agree(self, one: Mapping[str, Any], other: Mapping[str, Any], tolerance: float) -> bool:
        """Return whether the scores of the best items are near, on the scale of cosines."""
        scale = tolerance / self.temperature
        both = zip(one["scores"], other["scores"], strict=False)
        return len(one["scores"]) == len(other["scores"]) and all(abs(a - b) <= scale for a, b in both)

    def from_input(self, fields: Mapping[str, Any], id: str) -> Interaction:
        """Return an example of a query, ``text``, or of a ``history``, a list of ids of items, the oldest first.

        Raises:
            DataError: there is neither, or an item is unknown.
        """
        text, history = fields.get("text"), fields.get("history")
        catalogue = self._known
        if isinstance(text, str) and self.reads_text:
            return Interaction(id, "", None, catalogue, query=text)
        if not isinstance(history, list) or (self.reads_text and self._items is None):
            raise DataError(
                "expected `text`, a string: what is asked for, or the titles of the last items, the newest first"
                if self.reads_text
                else "expected `history`, a list of ids of items, the oldest first"
            )
        if unknown := [item for item in history if not isinstance(item, str) or item not in catalogue.places]:
            raise DataError(f"`history`: the item {unknown[0]!r} is none of the run's {len(self.labels):,}")
        places = tuple(catalogue.places[item] for item in history)
        return Interaction(id, "", None, catalogue, places, len(places))

    @property
    def _known(self) -> Catalogue:
        """The items: with their texts where the task has studied them, else their ids alone."""
        if self._items is not None:
            return self._items.catalogue
        if self._ids_alone is None or self._ids_alone.items != tuple(self.labels):
            self._ids_alone = Catalogue(tuple(self.labels), tuple(self.labels), tuple(self.labels))
        return self._ids_alone

    def reply(self, example: Interaction, answer: Mapping[str, Any]) -> dict[str, Any]:
        """Return the best ``items`` that the history does not have, the best first, with their ``scores``."""
        return {"items": answer["predicted"], "scores": answer["scores"]}

    def title(self, example: Interaction) -> str:
        """Return the query, or the ids of the items that are read of the history."""
        return example.query if example.query is not None else "\x1f".join(self._input(example))

    def text_key(self, example: Interaction) -> str:
        """Return the same with the id of the item: many items are right after one history, and none is a copy."""
        return f"{self.title(example)}\x1f{self.gold(example) or ''}"

    def gold(self, example: Interaction) -> str | None:
        """Return the id of the item."""
        return None if example.item is None else example.catalogue.items[example.item]

    def classes(self, example: Interaction) -> dict[str, int]:
        """Return the item."""
        return {} if example.item is None else {example.catalogue.items[example.item]: 1}
