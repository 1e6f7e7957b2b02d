"""The answers that a run keeps: what a task decides by them, and whether they contradict themselves or each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Decisions = dict[str, Any]
"""What a task has learnt from its answers to the validation split, such as thresholds, as JSON values."""


class KeptAnswers:
    """The part of a task that reads the answers that a run keeps (`Task.kept`), as they come back from their file.

    A task may leave something open that the training cannot learn, such as the probability from which a label is
    given. It learns such decisions from its answers to the validation split with the best checkpoint. From then on they
    are frozen: the test split, and whoever uses the run, gets answers by them.
    """

    @property
    def decides(self) -> bool:
        """Whether the task, as it is configured, learns decisions."""
        return False

    def decide(self, answers: Iterable[Mapping[str, Any]]) -> Decisions:
        """Return the decisions that are best on `answers`, which are read once, in their order.

        They are a function of the answers alone: the run check repeats it. Answers that say nothing, such as none with
        gold, leave the values that hold without decisions.
        """
        raise NotImplementedError(f"{type(self).__name__} has `decides` without `decide`")

    def decided(self, answer: Mapping[str, Any], decisions: Decisions) -> dict[str, Any]:
        """Return a kept answer as it is under `decisions`: the same as `Task.answers` gives under them, to the last
        digit, and so computed from the same rounded numbers."""
        return dict(answer)

    def is_consistent(self, answer: Mapping[str, Any], decisions: Decisions) -> bool:
        """Return whether what a kept answer predicts follows from its own numbers and `decisions`.

        By default the predicted label is the most probable one of ``probabilities``, or each is of a list of them.
        """
        if self.decides:
            return self.decided(answer, decisions) == dict(answer)
        return _is_most_probable(answer["predicted"], answer["probability"], answer.get("probabilities"))

    def agree(self, one: Mapping[str, Any], other: Mapping[str, Any], tolerance: float) -> bool:
        """Return whether two answers to an example, one of which may be no final one, are equal up to rounding.

        By default the ``probability`` of each prediction is near, and predictions differ only where another label may
        be as probable.

        Args:
            one: a kept answer.
            other: the answer of another computation.
            tolerance: how far apart probabilities may be.
        """
        mine, theirs = (_listed(each["probability"]) for each in (one, other))
        labels, their_labels = (_listed(each["predicted"]) for each in (one, other))
        if not len(mine) == len(theirs) == len(labels) == len(their_labels):
            return False
        return all(
            (p is None and q is None and a == b)
            or (p is not None and q is not None and abs(p - q) <= tolerance and (a == b or p <= 0.5 + tolerance))
            for p, q, a, b in zip(mine, theirs, labels, their_labels, strict=True)
        )


def _is_most_probable(predicted: Any, probability: Any, probabilities: Any) -> bool:
    if isinstance(probabilities, list):
        return all(map(_is_most_probable, predicted, probability, probabilities))
    if not isinstance(probabilities, dict):
        return True
    own = probabilities.get(predicted, -1.0)
    return bool(own == max(probabilities.values()) and abs(own - probability) <= 1e-6)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
