"""Clicks: the probability that a user likes an item, from texts, ids and numbers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import override

from peftlab.errors import ConfigError, DataError
from peftlab.recommending.interactions import LARGEST, Catalogue, Interaction
from peftlab.scores.clicks import ClickScores
from peftlab.tasks.batch import Batch
from peftlab.tasks.inputs.cut_texts import CutTexts
from peftlab.tasks.inputs.padded_texts import padded
from peftlab.tasks.inputs.texts import Text, encode_texts
from peftlab.tasks.limits import Limits
from peftlab.tasks.networks.click_model import CLICK, ITEM, NUMBERS, SETTINGS, USER
from peftlab.tasks.networks.heads import Head
from peftlab.tasks.processor import Processor
from peftlab.tasks.task import Encoded, Random, Task, spec


@spec
class Click(CutTexts):
    """Whether a user likes an item: its label in the data, such as a click, or a rating of 4 or more.

    The encoder reads the item's text beside what the user has asked for, or the titles of his last items. Users and
    items that occur `least` times in the training examples have embeddings; all others share one. In a share of the
    training examples the ids are dropped, so that the shared one is learnt too.
    """

    recent: int = Field(default=5, ge=1)
    """How many titles of a history are read."""
    least: int = Field(default=3, ge=1)
    """Training examples of a user, or of an item, from which it has an embedding of its own."""
    id_dropout: float = Field(default=0.1, ge=0, lt=1)
    """The share of training examples in which the ids are dropped: the user's, and apart from it the item's."""
    size: int = Field(default=16, ge=1)
    """Length of the embeddings of ids."""
    hidden: int = Field(default=64, ge=1)
    """Units of the hidden layer."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Dropout of the hidden layer."""
    known_users: list[str] | None = None
    """The users with embeddings; None: those that occur often enough."""
    known_items: list[str] | None = None
    """The items with embeddings, likewise."""
    means: list[float] | None = None
    """The means of the numbers; None: those of the training examples."""
    sds: list[float] | None = None
    """Their standard deviations, likewise."""
    head: ClassVar[Head] = CLICK
    example: ClassVar[type] = Interaction
    encoded_by: ClassVar[frozenset[str]] = frozenset({"recent"})
    pointers: ClassVar[frozenset[str] | None] = frozenset({"examples"})
    host_work: ClassVar[str | None] = None

    @property
    def draws_inputs(self) -> bool:  # type: ignore[override]  # it depends on an option
        """Whether the dropping of ids is drawn anew in every epoch."""
        return self.id_dropout > 0

    @property
    def scorer(self) -> ClickScores:
        """Return the scorer of probabilities."""
        return ClickScores()

    @property
    @override
    def reading_options(self) -> list[str]:
        return [f"task.{name}=null" for name, value in self.settled().items() if value is None]

    @property
    @override
    def head_of(self) -> dict[str, str]:
        return {"users": "task.known_users", "items": "task.known_items"}

    def head_settings(self) -> dict[str, Any]:
        """Return the sizes of the head."""
        about = {"users": len(self.known_users or ()), "items": len(self.known_items or ())}
        about |= {"numbers": len(self.means or ()), "size": self.size, "hidden": self.hidden}
        return super().head_settings() | {SETTINGS: about | {"dropout": self.dropout}}

    def learn_labels(self, splits: Mapping[str, Sequence[Interaction]], declared: Sequence[str] | None) -> None:
        """Check that interactions have labels.

        Raises:
            DataError: none of the training split has one, or all have the same.
        """
        super().learn_labels(splits, declared)
        if (train := splits.get("train")) and len({one.label for one in train} - {None}) < 2:
            raise DataError(
                f"{train[0].file}: the training interactions have no two different labels. Name the column of ratings "
                "or clicks, data.format.label=COLUMN, and what counts as liked, data.format.positive=4"
            )

    def settle(self, examples: Sequence[Interaction], encoded: Encoded) -> None:
        """Set the known ids, and the means and standard deviations of the numbers, to those of the training examples.

        Raises:
            ConfigError: only one of means and standard deviations is given.
        """
        if self.known_users is None:
            self.known_users = _often((one.user for one in examples), self.least)
        if self.known_items is None:
            self.known_items = _often((_item_id(one) for one in examples), self.least)
        if (self.means is None) != (self.sds is None):
            raise ConfigError("task.means and task.sds belong together: give both or neither")
        if self.means is None:
            numbers = np.asarray([_numbers(one) for one in examples], np.float64).reshape(len(examples), -1)
            counted = np.maximum((~np.isnan(numbers)).sum(0), 1)
            means = np.nansum(numbers, 0) / counted
            sds = np.sqrt(np.nansum((numbers - means) ** 2, 0) / counted)
            self.means, self.sds = means.tolist(), np.where(sds > 0, sds, 1.0).tolist()

    def settled(self) -> dict[str, Any]:
        """Return the known ids, means and standard deviations."""
        return {name: getattr(self, name) for name in ("known_users", "known_items", "means", "sds")}

    @override
    def makes_inputs_of(self, other: Task) -> bool:
        return self.settled() == other.settled()  # numbers of ids, and the scale of the numbers

    def encode(self, examples: Sequence[Interaction], processor: Processor, limits: Limits) -> Encoded:
        """Tokenise pairs of an item's text and what is read of the user."""
        if limits.long == "split":
            raise ConfigError("data.long=split: an interaction is one row; set data.long=truncate")
        texts = [Text(one.id, *self._texts(one), file=one.file, line=one.line) for one in examples]
        return encode_texts(texts, processor.tokenizer, limits.max_tokens)

    def _texts(self, example: Interaction) -> tuple[str, None, str]:
        assert example.item is not None, "there is an item to judge"
        return example.catalogue.texts[example.item], None, example.text(self.recent)

    def encoded_text(self, example: Interaction) -> Any:
        """Return both texts."""
        return self._texts(example)

    def collate(
        self, examples: Sequence[Interaction], encoded: Encoded, indices: Sequence[int], random: Random | None = None
    ) -> Batch:
        """Return one row an interaction, and ``labels``, 1 if it is liked, else 0, of shape (rows, 1)."""
        chosen = [examples[i] for i in indices]
        inputs, padding = padded([(encoded, i) for i in indices])
        tokens = int(inputs["attention_mask"].sum())
        users, items = (
            {id: n for n, id in enumerate(known or (), 1)} for known in (self.known_users, self.known_items)
        )
        ids = np.asarray([[users.get(one.user, 0), items.get(_item_id(one), 0)] for one in chosen], np.int64)
        if random is not None:
            ids *= np.asarray([random(i).random(2) >= self.id_dropout for i in indices])
        width = len(self.means or ())
        numbers = np.asarray([_numbers(one) for one in chosen], np.float64).reshape(len(chosen), -1)
        standard = np.nan_to_num((numbers[:, :width] - (self.means or [])) / (self.sds or []))
        inputs |= {USER: torch.from_numpy(ids[:, 0].copy()), ITEM: torch.from_numpy(ids[:, 1].copy())}
        inputs[NUMBERS] = torch.from_numpy(standard).float() if width else torch.zeros(len(chosen), 1)
        return Batch(
            inputs=inputs,
            targets={"labels": torch.tensor([[float(one.label or False)] for one in chosen])},
            weights=torch.from_numpy(self.weights(examples, encoded, indices)),
            rows=torch.arange(len(chosen)),
            examples=chosen,
            tokens=tokens,
            padding=padding,
        )

    def weights(self, examples: Sequence[Interaction], encoded: Encoded, indices: Sequence[int]) -> np.ndarray:
        """Return 1 for each interaction with a label, else 0."""
        return np.asarray([examples[i].label is not None for i in indices], dtype=float)

    def losses(self, outputs: Any, batch: Batch) -> Tensor:
        """Return the logarithmic loss of each interaction."""
        logits = outputs.logits.float().squeeze(-1)
        losses = F.binary_cross_entropy_with_logits(logits, batch.targets["labels"][:, 0], reduction="none")
        return losses * batch.weights.float()

    @override
    def divergences(self, outputs: Any, others: Any, batch: Batch) -> Tensor:
        """Return the divergence of the probabilities as Bernoulli distributions."""
        mine, theirs = (each.logits.float().squeeze(-1) for each in (outputs, others))
        of_liked = mine.sigmoid() * (F.logsigmoid(mine) - F.logsigmoid(theirs))
        of_others = (-mine).sigmoid() * (F.logsigmoid(-mine) - F.logsigmoid(-theirs))
        return (of_liked + of_others) * batch.weights.float()

    def answers(self, outputs: Any, batch: Batch, model: Any, final: bool) -> list[dict[str, Any]]:
        """Return whether each user likes the item, and the probability of that as ``score``."""
        answers = []
        for example, score in zip(batch.examples, outputs.logits.float().squeeze(-1).sigmoid().tolist(), strict=False):
            answers.append(
                {
                    "id": example.id,
                    "input": self._input(example),
                    "gold": example.label,
                    "predicted": score >= 0.5,
                    "probability": max(score, 1 - score),
                    "score": score,
                    "user": example.user,
                }
            )
        return answers

    def _input(self, example: Interaction) -> list[str]:
        item, _, user = self._texts(example)
        return [item, user, example.user, _item_id(example)]

    def is_consistent(self, answer: Mapping[str, Any], decisions: Mapping[str, Any]) -> bool:
        """Return whether what is predicted, and its probability, follow from the score."""
        score = answer["score"]
        return answer["predicted"] == (score >= 0.5) and math.isclose(answer["probability"], max(score, 1 - score))

    def from_input(self, fields: Mapping[str, Any], id: str) -> Interaction:
        """Return an example of an item's ``text``, with the optional ``user`` and ``item``, their ids, ``query``, what
        the user has asked for or the titles of his last items, and ``numbers``, a list: those of the item, then those
        of the user, each in the order of ``data.format.numbers``.

        Raises:
            DataError: there is no text, or another part is not what it must be.
        """
        text = fields.get("text")
        user, item, query = (fields.get(name, "") for name in ("user", "item", "query"))
        numbers = fields.get("numbers", [math.nan] * len(self.means or ()))
        if not isinstance(text, str) or not all(isinstance(one, str) for one in (user, item, query)):
            raise DataError("expected `text`, a string, and optionally `user`, `item` and `query`, strings")
        if not isinstance(numbers, list) or len(numbers) != len(self.means or ()) or not all(map(_is_number, numbers)):
            raise DataError(
                f"`numbers`: expected a list of {len(self.means or ())} numbers up to {LARGEST:g}, null where one is "
                "not known: those of data.format.numbers that are columns of items, in their order, and then those of "
                "users"
            )
        return Interaction(id, user, 0, Catalogue((item,), (text,), (text,)), query=query, numbers=_known(numbers))

    def reply(self, example: Interaction, answer: Mapping[str, Any]) -> dict[str, Any]:
        """Return whether the item is ``liked``, and the ``probability`` that it is."""
        return {"liked": answer["predicted"], "probability": answer["score"]}

    def text_key(self, example: Interaction) -> str:
        """Return the texts and the ids."""
        return "\x1f".join(self._input(example))

    def gold(self, example: Interaction) -> bool | None:
        """Return the label."""
        return example.label

    @override
    def without_gold(self, example: Interaction) -> Interaction:
        return replace(example, label=False)


def _item_id(example: Interaction) -> str:
    assert example.item is not None, "there is an item to judge"
    return example.catalogue.items[example.item]


def _numbers(example: Interaction) -> list[float]:
    """Return the numbers of the item, then those of the user."""
    of_items = example.catalogue.numbers
    return [*(of_items[example.item].tolist() if len(of_items) else ()), *example.numbers]


def _known(numbers: Sequence[float | None]) -> tuple[float, ...]:
    return tuple(math.nan if one is None else one for one in numbers)


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value is None or (is_number and not abs(value) > LARGEST)  # one that is not known may be NaN


def _often(ids: Any, least: int) -> list[str]:
    return sorted(id for id, count in Counter(ids).items() if count >= least)
