"""Base of the methods in which a changed text is to be answered as the text itself is."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from peftlab.regularizers.regularizer import Computed, spec
from peftlab.semi_supervised.companions import Companions, Read
from peftlab.semi_supervised.method import SemiSupervised, in_use, mean_of_companions
from peftlab.semi_supervised.predicted import divergence, predicted
from peftlab.semi_supervised.tally import seen_of


class Judged(NamedTuple):
    """What is made of guesses."""

    targets: Tensor
    """The distributions to learn, shape (distributions, classes)."""
    weights: Tensor
    """How much each counts, 0 to 1, shape (distributions,)."""
    confidences: Tensor
    """How certain each guess is, shape (distributions,)."""


@spec
class Consistency(SemiSupervised):
    """Guesses the labels of weakly edited texts, and learns them on strongly edited ones.

    Guesses are made as the model answers when it is used, without dropout and without a gradient.
    """

    @abstractmethod
    def judge(self, guesses: Tensor) -> Judged:
        """Return what is made of guessed distributions, shape (distributions, classes)."""

    def guess(self, computed: Computed, read: Read) -> Any:
        """Return the outputs that guesses are read off."""
        with in_use(computed.model):
            return computed.task.outputs(computed.model, read.batch)

    @override
    def of_companions(self, computed: Computed, companions: Companions) -> tuple[Tensor, Tensor]:
        task, device, examples = computed.task, computed.batch.weights.device, len(computed.batch.examples)
        assert computed.batch.part is not None
        drawn = companions.drawn_for(computed.batch.part)
        read = companions.weak(drawn)
        read = read._replace(batch=read.batch.to(device))
        outputs = self.guess(computed, read)
        guessed = predicted(task, outputs, read.batch)
        guesses, owners = guessed.logits.softmax(-1), guessed.owners // companions.mu
        judged = self.judge(guesses)
        right = None
        if read.hidden is not None:
            right = predicted(task, outputs, read.hidden.to(device)).gold == judged.targets.argmax(-1)
        seen = seen_of(guesses, judged.targets, judged.weights, judged.confidences, right, owners, examples)
        if not judged.weights.any():
            return torch.zeros(examples, device=device), seen
        strong = companions.strong(drawn, read).to(device)
        mine = predicted(task, self.forward(computed, strong), strong)
        apart = divergence(judged.targets, mine.logits) * judged.weights
        return mean_of_companions(apart, guessed.weights, owners, examples), seen


def certain(guesses: Tensor, threshold: float | Tensor) -> tuple[Tensor, Tensor]:
    """Return whether the probability of the most probable class reaches the threshold, 1 or 0, and that probability."""
    confidences = guesses.max(-1).values
    return (confidences >= threshold).to(guesses.dtype), confidences
