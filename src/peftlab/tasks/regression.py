"""Regression: a number for a text or a text pair, such as a grade or how alike two sentences are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field
from torch import Tensor, tensor
from torch.nn import functional as F
from typing_extensions import override

from peftlab.errors import ConfigError, DataError
from peftlab.scores.numbers import NumberScores
from peftlab.tasks.batch import Batch
from peftlab.tasks.inputs.labels import shown
from peftlab.tasks.inputs.texts import Text
from peftlab.tasks.networks.heads import REGRESSION, Head
from peftlab.tasks.task import Encoded, Task, spec
from peftlab.tasks.text_task import TextTask

Finite = Annotated[float, Field(allow_inf_nan=False)]

_LARGEST = 1e100
"""The largest target: the sums of squares that scores follow from are still finite."""
_LEAST_SPREAD = 1e-4
"""The least standard deviation of targets, as a share of their mean. Scores follow from sums of squares, and below it
rounding reaches the fifth digit of the correlation of predictions whose spread is a tenth of it."""


@spec
class Regression(TextTask):
    """One number per text, the ``label`` of its file: any format of labelled texts will do.

    The model learns standardised targets, (y - mean) / sd; the loss is in these units, answers and scores are on the
    scale of the data. Without it, a scale far from 1 would take most of the training to reach.
    """

    head: ClassVar[Head] = REGRESSION
    example: ClassVar[type] = Text
    acts_with: ClassVar[Mapping[str, tuple[str, Any]]] = {"huber_delta": ("task.criterion", "huber")}
    exported: ClassVar[str] = (
        "It gives standardised numbers: times {task.sd}, plus {task.mean}, they are on the scale of the data."
    )

    criterion: Literal["mse", "huber"] = "mse"
    """The squared error; or Huber's, which is half of it up to `huber_delta`, and linear beyond (Huber 1964)."""
    huber_delta: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """Where Huber's loss becomes linear, in standard deviations of the training targets."""
    mean: Finite | None = None
    """The mean of the targets; None: that of the training split."""
    sd: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """The standard deviation of the targets; None: that of the training split."""

    def learn_labels(self, splits: Mapping[str, Sequence[Text]], declared: Sequence[str] | None) -> None:
        """Check that the label of every example is a number."""
        super().learn_labels(splits, declared)
        for texts in splits.values():
            for text in texts:
                number_of(text)

    def settle(self, examples: Sequence[Text], encoded: Encoded) -> None:
        """Set `mean` and `sd`, unless they are given, to those of the training examples.

        Raises:
            ConfigError: all training targets are equal, or differ too little beside their mean to be scored.
        """
        numbers = np.asarray([number for text in examples if (number := number_of(text)) is not None], np.float64)
        if self.mean is None:
            self.mean = float(numbers.mean())
        spread, size = float(numbers.std()), abs(float(numbers.mean()))
        if spread <= 1e-12 * max(1.0, size):
            if self.sd is None:
                raise ConfigError(
                    f"task={self.name}: all {len(numbers)} training targets are {numbers[0]:g}: there is nothing to "
                    "learn. Take more examples, or set task.sd=..."
                )
        elif spread < _LEAST_SPREAD * size:
            raise ConfigError(
                f"task={self.name}: the training targets have the mean {numbers.mean():g} and the standard deviation "
                f"{spread:g}: rounding would spoil their correlation. Subtract a constant, such as the mean, from the "
                "targets of all splits: it changes no score"
            )
        if self.sd is None:
            self.sd = spread

    def settled(self) -> dict[str, Any]:
        """Return mean and standard deviation of the targets."""
        return {"mean": self.mean, "sd": self.sd}

    @override
    def in_own_units(self, logits: Any, other: Task) -> Any:
        assert isinstance(other, Regression), "tasks of one class"
        (mean, sd), (their_mean, their_sd) = self.scale, other.scale
        if (mean, sd) == (their_mean, their_sd):  # to the last bit what they are
            return logits
        return logits * (their_sd / sd) + (their_mean - mean) / sd

    def from_input(self, fields: Mapping[str, Any], id: str) -> Text:
        """Return an example of ``text`` and, for pairs, ``text_pair``."""
        text, pair = self.text_of(fields)
        return Text(id, text, None, pair)

    def targets(self, examples: Sequence[Text]) -> Tensor:
        """Return the standardised number of each example, shape (examples,), in fp32; 0 without gold."""
        mean, sd = self.scale
        numbers = [number_of(text) for text in examples]
        return tensor([0.0 if number is None else (number - mean) / sd for number in numbers])

    def weights(self, examples: Sequence[Text], encoded: Encoded, indices: Sequence[int]) -> np.ndarray:
        """Return 1 for each text with gold, 0 without."""
        return np.asarray([examples[i].label is not None for i in indices], dtype=float)

    def losses(self, outputs: Any, batch: Batch) -> Tensor:
        """Return the loss of each text, in standard deviations of the training targets."""
        predicted, target = outputs.logits.float().squeeze(-1), batch.targets["labels"]
        if self.criterion == "huber":
            losses = F.huber_loss(predicted, target, reduction="none", delta=self.huber_delta)
        else:
            losses = F.mse_loss(predicted, target, reduction="none")
        return losses * batch.weights.float()

    def divergences(self, outputs: Any, others: Any, batch: Batch) -> Tensor:
        """Return the divergence of normal distributions with the predicted means and the standard deviation 1.

        It is half the squared difference: the loss is the likelihood of such a distribution.
        """
        difference = outputs.logits.float().squeeze(-1) - others.logits.float().squeeze(-1)
        return difference.square() / 2 * batch.weights.float()

    def answers(self, outputs: Any, batch: Batch, model: Any, final: bool) -> list[dict[str, Any]]:
        """Return the number of each text, on the scale of the data."""
        mean, sd = self.scale
        return [
            {
                "id": example.id,
                "input": self.input_of(example),
                "gold": number_of(example),
                "predicted": mean + sd * number,
                "probability": None,
            }
            for example, number in zip(batch.examples, outputs.logits.float().squeeze(-1).tolist(), strict=True)
        ]

    def reply(self, example: Text, answer: Mapping[str, Any]) -> dict[str, Any]:
        """Return the ``predicted`` number."""
        return {"predicted": answer["predicted"]}

    @property
    def scorer(self) -> NumberScores:
        """Return the scorer of numbers."""
        return NumberScores()

    def without_gold(self, example: Text) -> Text:
        """Return the text with the number 0."""
        return replace(example, label="0")

    def gold(self, example: Text) -> float | None:
        """Return the number."""
        return number_of(example)

    def agree(self, one: Mapping[str, Any], other: Mapping[str, Any], tolerance: float) -> bool:
        """Return whether the numbers are as near as `tolerance` standard deviations of the training targets."""
        return bool(abs(one["predicted"] - other["predicted"]) <= tolerance * self.scale[1])

    @property
    def scale(self) -> tuple[float, float]:
        """Return mean and standard deviation of the targets."""
        assert self.mean is not None, "they are settled before training"
        assert self.sd is not None, "they are settled before training"
        return self.mean, self.sd


def number_of(text: Text) -> float | None:
    """Return the number that a label stands for; None without gold.

    Raises:
        DataError: it is no finite number up to 1e100; the message names file and line.
    """
    if text.label is None:
        return None
    try:
        number = float(text.label)
    except ValueError:
        number = math.nan
    # 1_0 is ten in Python's notation alone
    if not abs(number) <= _LARGEST or "_" in text.label:
        raise DataError(
            f"{text.place or text.id}: the label {shown(text.label)} is no finite number up to {_LARGEST:g}, which a "
            "regression learns. Write one, such as 2.5, or choose another column, data.format.label=..."
        )
    return number
