"""Multi-label classification: any number of labels for a text or a text pair, none included."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import BeforeValidator
from torch import Tensor, tensor
from torch.nn import functional as F

from peftlab.errors import ConfigError
from peftlab.scores.label_sets import LabelSets
from peftlab.tasks.batch import Batch
from peftlab.tasks.inputs.labels import learnt_labels
from peftlab.tasks.inputs.several_labels import LabelledText
from peftlab.tasks.losses.class_weights import Weight, settled, with_texts_as_keys
from peftlab.tasks.losses.on_device import on_device
from peftlab.tasks.networks.heads import MULTI_LABEL_CLASSIFICATION, Head
from peftlab.tasks.outputs.kept_answers import Decisions
from peftlab.tasks.outputs.thresholds import USUAL, Threshold, chosen_thresholds, learnt_thresholds
from peftlab.tasks.task import Encoded, spec
from peftlab.tasks.text_task import TextTask

log = logging.getLogger("peftlab")

PositiveWeights = Annotated[Literal["balanced"] | Weight | dict[str, Weight], BeforeValidator(with_texts_as_keys)]

_DIGITS = 7
"""Significant digits of a probability, those that fp32 holds: answers are given by what is kept of them."""


@spec
class MultiLabel(TextTask):
    """Several labels per text: a sigmoid for each label, trained by binary cross-entropy.

    The loss of a text is the mean over the labels, as in transformers, so that learning rates do not depend on their
    number.
    """

    head: ClassVar[Head] = MULTI_LABEL_CLASSIFICATION
    example: ClassVar[type] = LabelledText
    acts_with: ClassVar[Mapping[str, tuple[str, Any]]] = {"threshold_by": ("task.threshold", "auto")}

    threshold: Threshold = "auto"
    """The probability from which a label is given; ``auto``: that with the best F1 on the validation split, learnt
    after the training and frozen before the test. Until then, and for labels that a dict leaves out, it is 0.5."""
    threshold_by: Literal["global", "label"] = "label"
    """Whether ``auto`` learns one threshold for all labels, or one for each that has enough examples, see
    `peftlab.tasks.outputs.thresholds.FEWEST_POSITIVES`."""
    pos_weight: PositiveWeights | None = None
    """The factor on the loss of a label that a text has; one for all, or by label, 1 for the others; ``balanced``: the
    number of training texts without the label over that of those with it. None: 1."""

    def learn_labels(self, splits: Mapping[str, Sequence[LabelledText]], declared: Sequence[str] | None) -> None:
        """Set `labels` as `Task.learn_labels` does; if all are whole numbers, they are sorted by value."""
        self.labels = learnt_labels(splits, lambda one: (None,) if one.labels is None else one.labels, declared, 1)
        if isinstance(self.threshold, Mapping):
            chosen_thresholds(self.threshold, self.labels)

    def settle(self, examples: Sequence[LabelledText], encoded: Encoded) -> None:
        """Complete `pos_weight`, if set, to a factor for every label.

        Raises:
            ConfigError: a key is not a label, or every text has a label, whose factor would be 0.
        """
        if self.pos_weight is None:
            return
        if self.pos_weight == "balanced":
            self.pos_weight = _balanced(examples, self.labels)
        elif isinstance(self.pos_weight, Mapping):
            names = {label: [label] for label in self.labels}
            self.pos_weight = settled(self.pos_weight, self.labels, names, "task.pos_weight")
        else:
            self.pos_weight = dict.fromkeys(self.labels, float(self.pos_weight))

    def settled(self) -> dict[str, Any]:
        """Return the factors on positive labels."""
        return {} if self.pos_weight is None else {"pos_weight": self.pos_weight}

    def from_input(self, fields: Mapping[str, Any], id: str) -> LabelledText:
        """Return an example of ``text`` and, for pairs, ``text_pair``."""
        text, pair = self.text_of(fields)
        return LabelledText(id, text, None, pair)

    def targets(self, examples: Sequence[LabelledText]) -> Tensor:
        """Return whether each example has each label, 1 or 0, shape (examples, labels), in fp32."""
        return tensor([[float(label in (one.labels or ())) for label in self.labels] for one in examples])

    def weights(self, examples: Sequence[LabelledText], encoded: Encoded, indices: Sequence[int]) -> np.ndarray:
        """Return 1 for each text with gold, even with no label; 0 without gold."""
        return np.asarray([examples[i].labels is not None for i in indices], dtype=float)

    def losses(self, outputs: Any, batch: Batch) -> Tensor:
        """Return the binary cross-entropy of each text, the mean over the labels."""
        logits = outputs.logits.float()
        factors = None
        if self.pos_weight is not None:
            assert isinstance(self.pos_weight, Mapping), "it is settled before training"
            factors = on_device(tuple(self.pos_weight[label] for label in self.labels), logits.device)
        of_labels = F.binary_cross_entropy_with_logits(
            logits, batch.targets["labels"], pos_weight=factors, reduction="none"
        )
        return of_labels.mean(-1) * batch.weights.float()

    def divergences(self, outputs: Any, others: Any, batch: Batch) -> Tensor:
        """Return the divergence of the labels' Bernoulli distributions, averaged over the labels as the loss is."""
        mine, theirs = outputs.logits.float(), others.logits.float()
        of_labels = mine.sigmoid() * (F.logsigmoid(mine) - F.logsigmoid(theirs)) + (-mine).sigmoid() * (
            F.logsigmoid(-mine) - F.logsigmoid(-theirs)
        )
        return of_labels.mean(-1) * batch.weights.float()

    def answers(self, outputs: Any, batch: Batch, model: Any, final: bool) -> list[dict[str, Any]]:
        """Return the labels of each text, the ``probability`` of each of them, and the ``probabilities`` of all."""
        probabilities = _rounded(outputs.logits.float().cpu().double().sigmoid().numpy())
        thresholds = self._thresholds(self.decisions)
        answers = []
        for example, of_all in zip(batch.examples, probabilities.tolist(), strict=True):
            by_label = dict(zip(self.labels, of_all, strict=True))
            answer = {
                "id": example.id,
                "input": self.input_of(example),
                "gold": self.gold(example),
                **self._predicted(by_label, thresholds),
            }
            answers.append(answer | {"probabilities": by_label})
        return answers

    def reply(self, example: LabelledText, answer: Mapping[str, Any]) -> dict[str, Any]:
        """Return the ``predicted`` labels, the ``probability`` of each, and the ``probabilities`` of all labels."""
        return {key: answer[key] for key in ("predicted", "probability", "probabilities")}

    @property
    def scorer(self) -> LabelSets:
        """Return the scorer of sets of labels."""
        is_settled = bool(self.labels) and (bool(self.decisions) or self.threshold != "auto")
        return LabelSets(self.labels, self._thresholds(self.decisions) if is_settled else None)

    def without_gold(self, example: LabelledText) -> LabelledText:
        """Return the text without any of the labels."""
        return replace(example, labels=())

    def gold(self, example: LabelledText) -> list[str] | None:
        """Return the labels, sorted."""
        return None if example.labels is None else list(example.labels)

    @property
    def decides(self) -> bool:
        """Whether the thresholds are learnt."""
        return self.threshold == "auto"

    def decide(self, answers: Iterable[Mapping[str, Any]]) -> Decisions:
        """Return the ``thresholds`` by label with the best F1 on `answers`."""
        pairs = [(one["probabilities"], one["gold"]) for one in answers if one["gold"] is not None]
        shape = (len(pairs), len(self.labels))
        probabilities = np.asarray([[of_all[label] for label in self.labels] for of_all, _ in pairs]).reshape(shape)
        gold = np.asarray([[label in labels for label in self.labels] for _, labels in pairs], bool).reshape(shape)
        return {"thresholds": learnt_thresholds(probabilities, gold, self.labels, self.threshold_by == "label")}

    def decided(self, answer: Mapping[str, Any], decisions: Decisions) -> dict[str, Any]:
        """Return the answer with the labels that it has under these thresholds."""
        return {**answer, **self._predicted(answer["probabilities"], self._thresholds(decisions))}

    def is_consistent(self, answer: Mapping[str, Any], decisions: Decisions) -> bool:
        """Return whether the labels are those whose probability reaches the threshold."""
        return self.decided(answer, decisions) == dict(answer)

    def agree(self, one: Mapping[str, Any], other: Mapping[str, Any], tolerance: float) -> bool:
        """Return whether the probabilities of all labels are near."""
        mine, theirs = one["probabilities"], other["probabilities"]
        return mine.keys() == theirs.keys() and all(abs(mine[key] - theirs[key]) <= tolerance for key in mine)

    def _thresholds(self, decisions: Decisions) -> dict[str, float]:
        if self.threshold != "auto":
            return chosen_thresholds(self.threshold, self.labels)
        learnt: dict[str, float] = decisions.get("thresholds", {})
        return {label: learnt.get(label, USUAL) for label in self.labels}

    def _predicted(self, by_label: Mapping[str, float], thresholds: Mapping[str, float]) -> dict[str, Any]:
        """Return ``predicted``, sorted, and the ``probability`` of each of an answer with these probabilities."""
        predicted = sorted(label for label, probability in by_label.items() if probability >= thresholds[label])
        return {"predicted": predicted, "probability": [by_label[label] for label in predicted]}


def _balanced(examples: Sequence[LabelledText], labels: Sequence[str]) -> dict[str, float]:
    """Return, for each label, the number of texts without it over that of those with it; 1 for one that none has."""
    number = dict.fromkeys(labels, 0)
    for one in examples:
        for label in one.labels or ():
            number[label] += 1
    if missing := [label for label, count in number.items() if not count]:
        log.warning("task.pos_weight=balanced: no training example has %s: the factor is 1", ", ".join(missing))
    everywhere = [label for label, count in number.items() if count == len(examples)]
    if everywhere:
        raise ConfigError(
            f"task.pos_weight=balanced: every training example has {', '.join(everywhere)}, so that its factor is 0. "
            "Name the factors, task.pos_weight={LABEL: x}"
        )
    return {label: (len(examples) - count) / count if count else 1.0 for label, count in number.items()}


def _rounded(probabilities: np.ndarray) -> np.ndarray:
    """Return probabilities with `_DIGITS` significant digits, as decimal numbers are rounded."""
    with np.errstate(divide="ignore"):
        digits = np.clip(_DIGITS - 1 - np.floor(np.log10(probabilities)), 0, 22)  # 10**22 is exact in doubles
    shift = 10.0**digits
    return np.rint(probabilities * shift) / shift
