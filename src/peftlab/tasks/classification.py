"""Classification of texts and text pairs: one label each, out of two or more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from peftlab.scores.class_scores import ClassScores
from peftlab.tasks.batch import Batch
from peftlab.tasks.inputs.labels import learnt_labels
from peftlab.tasks.inputs.texts import Text
from peftlab.tasks.labelled import LabelledTask
from peftlab.tasks.networks.heads import SEQUENCE_CLASSIFICATION, Head
from peftlab.tasks.outputs.distributions import Distributions
from peftlab.tasks.task import IGNORED, Encoded, spec
from peftlab.tasks.text_task import TextTask


@spec
class Classification(LabelledTask, TextTask):
    """One label per text, trained by cross-entropy over the head's logits (Devlin et al. 2019)."""

    head: ClassVar[Head] = SEQUENCE_CLASSIFICATION
    example: ClassVar[type] = Text

    def learn_labels(self, splits: Mapping[str, Sequence[Text]], declared: Sequence[str] | None) -> None:
        """Set `labels` as `Task.learn_labels` does; if all are whole numbers, they are sorted by value."""
        self.labels = learnt_labels(splits, lambda text: (text.label,), declared, fewest=2)

    def label_counts(self, examples: Sequence[Text], encoded: Encoded) -> Counter[str]:
        """Return the number of texts with each label."""
        return Counter(text.label for text in examples if text.label is not None)

    def from_input(self, fields: Mapping[str, Any], id: str) -> Text:
        """Return an example of ``text`` and, for pairs, ``text_pair``."""
        text, pair = self.text_of(fields)
        return Text(id, text, None, pair)

    def targets(self, examples: Sequence[Text]) -> Tensor:
        """Return the label index of each example, shape (examples,), `IGNORED` without gold."""
        number = {label: n for n, label in enumerate(self.labels)}
        return torch.tensor([IGNORED if one.label is None else number[one.label] for one in examples])

    def weights(self, examples: Sequence[Text], encoded: Encoded, indices: Sequence[int]) -> np.ndarray:
        """Return the weight of each text's label, 1 by default; 0 without gold."""
        labels = [examples[i].label for i in indices]
        return np.asarray([0 if label is None else self.weight_of(label) for label in labels], dtype=float)

    def losses(self, outputs: Any, batch: Batch) -> Tensor:
        """Return the weighted cross-entropy of each text."""
        return self._cross_entropy(outputs, batch, "none")

    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        """Return the weighted mean cross-entropy over the texts: the mean of `losses`, in one kernel."""
        return self._cross_entropy(outputs, batch, "mean")

    def distributions(self, outputs: Any, batch: Batch) -> Distributions:
        """Return the distribution over the labels for each text."""
        return Distributions(outputs.logits.float(), batch.targets["labels"].clamp(min=0), batch.weights.float())

    def _cross_entropy(self, outputs: Any, batch: Batch, reduction: str) -> Tensor:
        """Return the cross-entropy of the logits, (texts, labels)."""
        return F.cross_entropy(
            outputs.logits.float(),
            batch.targets["labels"],
            weight=self.label_weights(outputs.logits),
            ignore_index=IGNORED,
            reduction=reduction,
            label_smoothing=self.label_smoothing,
        )

    def answers(self, outputs: Any, batch: Batch, model: Any, final: bool) -> list[dict[str, Any]]:
        """Return each text's most probable label with its probability; final answers have all ``probabilities``."""
        probabilities = outputs.logits.float().softmax(-1)
        answers = []
        for example, label, of_all in zip(
            batch.examples, probabilities.argmax(-1).tolist(), probabilities.tolist(), strict=True
        ):
            answer = {
                "id": example.id,
                "input": self.input_of(example),
                "gold": example.label,
                "predicted": self.labels[label],
                "probability": of_all[label],
            }
            answers.append(answer | {"probabilities": of_all} if final else answer)
        return answers

    def reply(self, example: Text, answer: Mapping[str, Any]) -> dict[str, Any]:
        """Return the ``predicted`` label, its ``probability``, and the ``probabilities`` of all labels."""
        return {
            "predicted": answer["predicted"],
            "probability": answer["probability"],
            "probabilities": dict(zip(self.labels, answer["probabilities"], strict=True)),
        }

    @property
    def scorer(self) -> ClassScores:
        """Return the scorer of single labels."""
        return ClassScores(self.labels)

    def without_gold(self, example: Any) -> Any:
        """Return the text with the first label."""
        return replace(example, label=self.labels[0])

    def gold(self, example: Text) -> str | None:
        """Return the label."""
        return example.label
