"""AdaMatch: the threshold follows how certain the model is of labelled examples, and guesses follow their classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from peftlab.regularizers.regularizer import Computed, spec
from peftlab.semi_supervised.averages import Average, aligned
from peftlab.semi_supervised.consistency import Consistency, Judged, certain
from peftlab.semi_supervised.predicted import predicted, sharpened
from peftlab.semi_supervised.tally import Seen


@spec
class AdaMatch(Consistency):
    """Learns the most probable class of aligned guesses that reach a relative threshold (Berthelot et al. 2022, section
    3).

    Guesses are aligned to the classes that the model predicts for labelled examples, and the threshold is a share of
    the mean probability of the most probable class of these. Both are averages over the steps before, where the paper
    takes the labelled examples of the same step: so a step may be divided. Its interpolation of logits is for batch
    normalisation, which these models have not.
    """

    threshold: float = Field(default=0.9, ge=0, allow_inf_nan=False)
    """The share of the mean confidence in labelled examples, the paper's tau."""
    decay: float = Field(default=0.999, ge=0, lt=1)
    """The decay of the averages in each step."""

    @override
    def begin(self, *arguments: Any) -> None:
        super().begin(*arguments)
        assert self.tally is not None
        classes = len(self.tally.classes)
        # of labelled examples, the probabilities of classes and last the confidence
        sizes = {"labelled": classes + 1, "guesses": classes}
        self.averages = {name: Average(self.decay, size) for name, size in sizes.items()}

    @override
    def judge(self, guesses: Tensor) -> Judged:
        threshold, labelled, guessed = self.threshold, self.averages["labelled"], self.averages["guesses"]
        if labelled.begun and guessed.begun:
            guesses = aligned(guesses, labelled.mean[:-1], guessed.mean)
            threshold = self.threshold * float(labelled.mean[-1])
        return Judged(sharpened(guesses, 0), *certain(guesses, threshold))

    @override
    def told(self, computed: Computed) -> dict[str, Tensor]:
        """Return, of each labelled example, the sums over its distributions: their number, classes and confidence."""
        batch, examples = computed.batch, len(computed.batch.weights)
        own = predicted(computed.task, computed.outputs, batch)
        guesses = own.logits.detach().softmax(-1).double()
        values = torch.cat([torch.ones_like(guesses[:, :1]), guesses, guesses.max(-1, keepdim=True).values], 1)
        return {"labelled": values.new_zeros(examples, values.shape[1]).index_add(0, own.owners, values)}

    @override
    def learn(self, seen: Seen, told: Mapping[str, Tensor]) -> None:
        number, *sums = told["labelled"].tolist()
        if number:
            self.averages["labelled"].add(torch.tensor(sums, dtype=torch.float64) / number)
        self.averages["guesses"].add(seen.guesses / seen.number)
