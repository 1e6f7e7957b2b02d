"""MixText: labelled and unlabelled texts are mixed inside the model, with their labels and guesses."""

from __future__ import annotations

from dataclasses import field, replace
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import one_hot
from transformers.utils import ModelOutput
from typing_extensions import override

from peftlab.methods.targets import blocks_of
from peftlab.regularizers.mixup import changed_at, never_mixed
from peftlab.regularizers.regularizer import Computed, spec
from peftlab.semi_supervised.companions import Companions
from peftlab.semi_supervised.method import SemiSupervised, in_use
from peftlab.semi_supervised.predicted import divergence, predicted, sharpened
from peftlab.semi_supervised.tally import seen_of
from peftlab.tasks.batch import Batch
from peftlab.tasks.multilabel import MultiLabel
from peftlab.tasks.task import Task


@spec
class MixText(SemiSupervised):
    """Learns interpolations of texts in place of the texts (Chen et al. 2020, section 4).

    A labelled example, its companions and their edited versions are a group. The guess of a companion is the mean of
    the predictions for both of its versions, sharpened. Each text of a group is mixed with another, drawn at random:
    the pass goes on after a layer with ``l * e + (1 - l) * f`` of their hidden states, and learns the same mixture of
    their distributions; l, the larger of a draw from Beta(alpha, alpha) and 1 minus it, is that of the group. The
    objective is the mean divergence of mixtures that are mostly of a labelled example, plus `lambda_u` times that of
    the others. Pairs are of one group, where the paper draws them from a whole batch: so a step may be divided. The
    paper's penalty on the entropy of guesses is left out. A step makes 3 + 4 * `mu` passes.
    """

    temperature: float = Field(default=0.5, gt=0, allow_inf_nan=False)
    """Divides the logits of guesses: below 1, they become more certain."""
    alpha: float = Field(default=0.75, gt=0, allow_inf_nan=False)
    """The parameter of the Beta distribution."""
    layers: list[int] | None = Field(default=None, min_length=1)
    """Where to mix, one of them drawn for each step: 0 is the output of the embedding module, n that of the nth block.
    None: after 7, 9 and 12 twelfths of the blocks, as in the paper."""
    hooks: ClassVar[bool] = True
    chosen: list[int] = field(default_factory=list, init=False, repr=False)
    """The layers, set by `set_up`."""

    @property
    @override
    def passes(self) -> int:  # type: ignore[override]  # it depends on an option
        return 2 * (1 + 2 * self.mu)

    @property
    @override
    def replaces(self) -> float:
        return 1.0

    @override
    def unsuited(self, task: Task) -> str | None:
        if isinstance(task, MultiLabel) or not task.labels or task.head.outputs != "text" or task.couples_rows:
            return f"it mixes texts with one label each, and those of task={task.name} have not. Choose semi=fixmatch"
        return super().unsuited(task)

    @override
    def idle(self, model: nn.Module) -> str | None:
        if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
            return (
                "an encoder-decoder reads a text twice, and one of its states alone would be mixed. Use semi=fixmatch"
            )
        return never_mixed(model, self._layers_of(model))

    @override
    def set_up(self, model: nn.Module) -> None:
        self.chosen = self._layers_of(model)

    def _layers_of(self, model: nn.Module) -> list[int]:
        blocks = len(list(blocks_of(model)))
        return self.layers or sorted({max(1, round(blocks * twelfths / 12)) for twelfths in (7, 9, 12)})

    @override
    def losses(self, computed: Computed) -> Tensor:
        assert self.companions is not None, "`begin` has been called"
        batch, task, device = computed.batch, computed.task, computed.batch.weights.device
        examples, term = len(batch.examples), torch.zeros(len(batch.weights), device=device)
        sums = torch.zeros(len(batch.weights), 5 + 2 * len(task.labels), dtype=torch.float64, device=device)
        if examples:
            own, sums[:examples] = self.of_companions(computed, self.companions)
            term[:examples] = own * batch.weights[:examples].to(own.dtype)
        computed.tell(seen=sums)
        return term

    @override
    def of_companions(self, computed: Computed, companions: Companions) -> tuple[Tensor, Tensor]:
        """Return the objective of each group, and what was seen of its companions."""
        batch, task, device, mu = computed.batch, computed.task, computed.batch.weights.device, companions.mu
        assert batch.part is not None
        examples, drawn = len(batch.examples), companions.drawn_for(batch.part)
        weak = companions.weak(drawn)
        joint = companions.with_labelled(batch.examples, weak.examples, companions.strong(drawn, weak).examples)
        joint = joint.to(device)
        with in_use(computed.model):
            outputs = task.outputs(computed.model, joint)
        first, second = outputs.logits[examples:].float().softmax(-1).chunk(2)
        guesses = sharpened((first + second) / 2, self.temperature)
        gold = one_hot(task.distributions(outputs, joint).gold[:examples], guesses.shape[-1]).to(guesses.dtype)
        targets = torch.cat([gold, guesses, guesses])
        pairs, shares = (each.to(device) for each in self._pairs(batch.part.epoch or 0, batch.part.examples))
        share = shares.to(targets.dtype).unsqueeze(-1)
        mixed = share * targets + (1 - share) * targets[pairs]
        logits = self._mixed_logits(computed, joint, pairs, share.unsqueeze(-1))
        apart = divergence(mixed, logits)
        of_labelled, of_others = apart[:examples], apart[examples:].view(2, examples, mu).mean((0, 2))
        term = of_labelled + self.weight * of_others
        right = None
        if weak.hidden is not None:
            of_weak = ModelOutput(logits=outputs.logits[examples : examples + len(drawn)])
            right = predicted(task, of_weak, weak.hidden.to(device)).gold == guesses.argmax(-1)
        weights, owners = torch.ones_like(guesses[:, 0]), torch.arange(len(drawn), device=device) // mu
        return term, seen_of(guesses, guesses, weights, guesses.max(-1).values, right, owners, examples)

    def _mixed_logits(self, computed: Computed, joint: Batch, pairs: Tensor, share: Tensor) -> Tensor:
        """Return the logits of mixed rows, (rows, classes)."""
        assert self.companions is not None
        random = np.random.default_rng([self.companions.seed, self.taken, 6])
        layer = self.chosen[int(random.integers(len(self.chosen)))]
        inputs = dict(joint.inputs)
        inputs["attention_mask"] = torch.maximum(inputs["attention_mask"], inputs["attention_mask"][pairs])

        def change(states: Tensor) -> Tensor:
            own = share.to(states.dtype)
            return own * states + (1 - own) * states[pairs]

        with changed_at(computed.model, layer, change):
            outputs = self.forward(computed, replace(joint, inputs=inputs))
        logits: Tensor = outputs.logits.float()
        return logits

    def _pairs(self, epoch: int, labelled: list[int]) -> tuple[Tensor, Tensor]:
        """Return the row that each row is mixed with, and its own share, both of shape (rows,).

        Rows are the labelled examples, then the companions of each, then their edited versions.
        """
        assert self.companions is not None
        mu, number = self.companions.mu, len(labelled)
        pairs, shares = np.zeros(number * (1 + 2 * mu), dtype=np.int64), np.zeros(number * (1 + 2 * mu))
        for place, example in enumerate(labelled):
            random = np.random.default_rng([self.companions.seed, epoch, example, 5])
            weak = number + place * mu + np.arange(mu)
            members = np.concatenate([[place], weak, weak + number * mu])
            pairs[members] = random.permutation(members)
            share = random.beta(self.alpha, self.alpha)
            shares[members] = max(share, 1 - share)
        return torch.from_numpy(pairs), torch.from_numpy(shares)
