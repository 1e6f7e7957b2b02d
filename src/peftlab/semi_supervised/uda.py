"""UDA: sharpened guesses are learnt on strongly edited texts, and easy labelled examples later than others."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from peftlab.regularizers.regularizer import Computed, spec
from peftlab.semi_supervised.companions import Companions
from peftlab.semi_supervised.consistency import Consistency, Judged, certain
from peftlab.semi_supervised.method import in_use
from peftlab.semi_supervised.predicted import predicts_classes, sharpened
from peftlab.semi_supervised.tally import seen_of
from peftlab.tasks.multilabel import MultiLabel
from peftlab.tasks.task import Task


@spec
class Uda(Consistency):
    """Learns sharpened guesses that are certain (Xie et al. 2020, "unsupervised data augmentation", sections 2 and 3).

    A task without classes, such as regression, has predictions of edited texts come near those of the texts themselves.
    """

    threshold: float = Field(default=0.8, ge=0, allow_inf_nan=False)
    """The least probability of the most probable class, the paper's beta; 0: every guess is learnt."""
    temperature: float = Field(default=0.4, gt=0, allow_inf_nan=False)
    """Divides the logits of guesses: below 1, they become more certain."""
    tsa: Literal["log", "linear", "exp"] | None = None
    """Training signal annealing: a labelled example is left out as long as the probability of its label is above a
    limit that rises over the run from 1 / classes to 1, fast at first, evenly, or fast at last (the paper's appendix
    A.2; the mean there is over the others, here over all). None: none is left out."""

    @override
    def unsuited(self, task: Task) -> str | None:
        if self.tsa is not None and (isinstance(task, MultiLabel) or not task.labels or task.head.outputs != "text"):
            return f"tsa={self.tsa}: a text of task={task.name} has not one label. Set semi.tsa=null"
        if not predicts_classes(task) and (self.threshold, self.temperature) != (0, 1):
            return (
                f"threshold={self.threshold:g} and temperature={self.temperature:g} are of classes, and task="
                f"{task.name} has none. Set semi.threshold=0 semi.temperature=1"
            )
        return None

    @override
    def judge(self, guesses: Tensor) -> Judged:
        return Judged(sharpened(guesses, self.temperature), *certain(guesses, self.threshold))

    @override
    def losses(self, computed: Computed) -> Tensor:
        term = super().losses(computed)
        return term if self.tsa is None else term - self._left_out(computed)

    def _left_out(self, computed: Computed) -> Tensor:
        """Return the task's loss of the labelled examples that are left out of the step, 0 of others, (examples,)."""
        own = computed.task.distributions(computed.outputs, computed.batch)
        likely = own.logits.detach().softmax(-1).gather(-1, own.gold.unsqueeze(-1)).squeeze(-1)
        easy = likely > self.limit(own.logits.shape[-1])
        return torch.where(easy, computed.task.losses(computed.outputs, computed.batch), 0)

    def limit(self, classes: int) -> float:
        """Return the probability of its label above which an example is left out of the next step."""
        share = (self.taken + 1) / self.steps
        risen = {"log": 1 - math.exp(-5 * share), "linear": share, "exp": math.exp(5 * (share - 1))}
        return 1.0 if self.tsa is None else risen[self.tsa] * (1 - 1 / classes) + 1 / classes

    @override
    def of_companions(self, computed: Computed, companions: Companions) -> tuple[Tensor, Tensor]:
        if predicts_classes(computed.task):
            return super().of_companions(computed, companions)
        task, device, examples = computed.task, computed.batch.weights.device, len(computed.batch.examples)
        assert computed.batch.part is not None
        drawn = companions.drawn_for(computed.batch.part)
        read = companions.weak(drawn)
        strong = companions.strong(drawn, read).to(device)
        with in_use(computed.model):
            guessed = task.outputs(computed.model, read.batch.to(device))
        apart = task.divergences(guessed, self.forward(computed, strong), strong).view(examples, -1).mean(1)
        ones = torch.ones(len(drawn), dtype=torch.float64, device=device)
        owners = torch.arange(len(drawn), device=device) // companions.mu
        none = ones.new_zeros(len(drawn), 0)
        return apart, seen_of(none, none, ones, ones, None, owners, examples)
