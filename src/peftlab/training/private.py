"""Differentially private steps: clipped gradients of single examples or groups, summed, with noise."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import asdict
from functools import partial
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor
from typing_extensions import override

from peftlab.data.module import DataModule
from peftlab.errors import RunError
from peftlab.privacy.choice import choose
from peftlab.privacy.clipping import ClippedSum, Count, generator_of
from peftlab.privacy.guarantee import Guarantee
from peftlab.privacy.per_example import WAYS, Learner, OneByOne
from peftlab.runs.privacy import SECTION
from peftlab.runs.record import RunRecord
from peftlab.tasks.batch import Batch, Part
from peftlab.training.step import Step
from peftlab.training.tuner import Tuner

log = logging.getLogger("peftlab")

_NUMBERS = 2**27
"""The numbers in the gradients of the examples that are held at a time: 512 MiB in fp32."""
_MOVED_AFTER = 10
"""The step after which the weights are seen to have moved."""


class PrivateGradient:
    """The gradient of a step in differentially private training (Abadi et al. 2016, algorithm 1).

    Of each unit, an example or a group of them, the gradient is scaled down to a norm; their sum gets Gaussian noise,
    and is divided by the expected number of units. A step without any unit is noise alone.

    Args:
        guarantee: noise, norm and expected number.
        secret: what the noise is drawn from.
        data: the training split and its units.
        tuner: the model in training.
    """

    def __init__(self, guarantee: Guarantee, secret: bytes, data: DataModule, tuner: Tuner) -> None:
        self.guarantee, self.secret, self.data, self.tuner = guarantee, secret, data, tuner
        self.chosen: dict[str, Any] = {}
        """Which way computes the gradients, and why; empty before `choose`."""
        self.count = Count()
        self._most: int | None = None
        """The largest number of examples computed at a time; None: not known yet."""

    def __call__(self, step: Step) -> None:
        """Set the parameters' gradients to the private one of `step`."""
        assert step.number is not None
        learner = self._learner(step)
        while (total := self._summed(step, learner)) is None:
            pass
        noisy = total.noisy_mean(self.guarantee, generator_of(self.secret, step.number))
        for parameter, gradient in zip(learner.trained.values(), noisy, strict=True):
            parameter.grad = gradient.to(parameter.dtype)
        # a method's penalty is a function of the weights alone, and spends nothing
        if (penalty := self.tuner.method.penalty(self.tuner.model)) is not None:
            penalty.backward()  # type: ignore[no-untyped-call]
        self._keep(total.count)

    def _keep(self, count: Count) -> None:
        if count.not_finite and not self.count.not_finite:
            log.warning("privacy: the gradient of an example is not finite; such examples are left out of the sum")
        self.count = Count(**{key: value + getattr(self.count, key) for key, value in asdict(count).items()})

    def _summed(self, step: Step, learner: Learner) -> ClippedSum | None:
        """Return the clipped sum of a step; None where it ran out of memory and smaller pieces can be tried."""
        step.start_over()
        total = ClippedSum(list(learner.trained.values()), self.guarantee.max_grad_norm)
        of_parts = [part.part.examples for part in step.parts if part.part]
        examples = [example for members in of_parts for example in members]
        for chunk in self._chunks(examples, max(map(len, of_parts))):
            units = self.data.poisson.units[chunk].tolist()  # type: ignore[union-attr]  # a private run has it
            batch = self.data.part_of(step.parts[0], chunk)
            computed = step.pieces.attempt(partial(self._add, step, learner, total, units, len(examples)), batch)
            if computed is None:
                self._most = max(1, len(chunk) // 2)
                return None
        total.close()
        return total

    def _add(self, step: Step, learner: Learner, total: ClippedSum, units: list[int], of: int, batch: Batch) -> None:
        kind = next(way for way in WAYS if way.name == self.chosen["gradients"])
        computed = kind(learner)(batch.to(step.device))
        total.add(computed.gradients, units)
        if learner.objective is None:  # else it has noted its losses itself
            step.loss = step.loss + computed.losses.float().sum() / of

    def _chunks(self, examples: list[int], most: int) -> Iterator[list[int]]:
        """Yield the examples in pieces of at most so many, those of a unit one after another."""
        units = self.data.poisson.units  # type: ignore[union-attr]
        ordered = sorted(examples, key=lambda example: (units[example], example))
        trained = sum(parameter.numel() for parameter in self.tuner.parameters() if parameter.requires_grad)
        size = self._most or max(1, min(most, _NUMBERS // trained))
        for start in range(0, len(ordered), size):
            yield ordered[start : start + size]

    def choose(self) -> None:
        """Choose the way to compute gradients, on the first batch of the plan, unless that has been done."""
        if self.chosen:
            return
        examples = next((batch for batch in self.data.plan_of() if batch), [0])
        first = self.data.training_part(Part(examples, examples, 0))
        tuner, optimizer = self.tuner, self.tuner.trainer.optimizers[0]
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        autocast = tuner.trainer.precision_plugin.forward_context
        learner = self._learner(Step([first], parameters, tuner.guards.training, autocast))
        ways = (OneByOne,) if learner.objective or tuner.rules.of_passes else WAYS
        choice = choose(learner, first.to(tuner.device), ways)
        log.info("privacy: gradients of single examples are computed by %s%s", choice.way.name, _why(choice.others))
        self.chosen = {
            "gradients": choice.way.name,
            "disagreement": choice.disagreement,
            "other_ways": choice.others,
        }

    def _learner(self, step: Step) -> Learner:
        tuner, ids = self.tuner, {id(parameter) for parameter in step.parameters}
        trained = {name: p for name, p in tuner.model.named_parameters() if p.requires_grad}
        if ids != {id(parameter) for parameter in trained.values()}:
            raise RunError("privacy: the optimiser's parameters are not those that the model trains")
        objective = partial(self._objective, step) if tuner.objective.terms else None
        return Learner(tuner.model, tuner.task, trained, tuner, step.autocast, self._pick, self._count_of, objective)

    def _objective(self, step: Step, one: Batch) -> Tensor:
        """Return the loss of one example with its regularisers, and note it."""
        with step.autocast():
            losses = self.tuner.losses_of(one)
        step.note(losses, one)
        total = losses.total if losses.penalty is None else losses.total - losses.penalty
        return total * (one.weights.sum() / self._count_of(one).sum().clamp(min=1e-30)).to(total.dtype)

    def _pick(self, batch: Batch, places: list[int]) -> Batch:
        assert batch.part is not None
        return self.data.part_of(batch, [batch.part.examples[place] for place in places])

    def _count_of(self, batch: Batch) -> Tensor:
        """Return the weight of each example without class weights, which would count twice."""
        if getattr(self.tuner.task, "class_weights", None) is None:
            return batch.weights
        assert batch.part is not None
        plain, split = copy(self.tuner.task), self.data.splits["train"]
        plain.class_weights = None  # type: ignore[attr-defined]
        return torch.from_numpy(plain.weights(split.examples, split.encoded, batch.part.examples)).to(batch.weights)


def _why(others: Mapping[str, str]) -> str:
    return f" (not by {'; '.join(f'{name}: {reason}' for name, reason in others.items())})" if others else ""


class KeepGuarantee(Callback):
    """Keeps the privacy section of the record.

    Args:
        guarantee: what the training promises.
        record: the run's record.
        facts: other entries of the section.
    """

    def __init__(self, guarantee: Guarantee, record: RunRecord, facts: Mapping[str, Any]) -> None:
        self.guarantee, self.record, self.facts = guarantee, record, facts

    @override
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        log.info("privacy: %s", self.guarantee)
        self.record.extend(SECTION, {**asdict(self.guarantee), **self.facts})

    @override
    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn == "fit" and trainer.global_step:
            log.info("privacy: epsilon %.3g so far", self.guarantee.spent(trainer.global_step))

    @override
    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        steps = trainer.global_step
        spent = {"steps_taken": steps, "epsilon_of_steps_taken": self.guarantee.spent(steps)}
        self.record.extend(SECTION, spent | self.found(trainer))

    def found(self, trainer: L.Trainer) -> dict[str, Any]:
        """Return what the training has shown of its gradients, for the section."""
        return {}


class KeepPrivacy(KeepGuarantee):
    """Keeps the privacy section of the record, and what a resumed training needs of it.

    Args:
        private: computes the gradients.
        record: the run's record.
        facts: other entries of the section.
    """

    def __init__(self, private: PrivateGradient, record: RunRecord, facts: Mapping[str, Any]) -> None:
        super().__init__(private.guarantee, record, facts)
        self.private = private
        self.moved = False
        """Whether the first steps have been seen to move the weights."""
        self._first: dict[str, Tensor] | None = None
        self._after = 0

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"chosen": self.private.chosen, "count": asdict(self.private.count), "moved": self.moved}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.private.chosen, self.moved = state_dict["chosen"], state_dict["moved"]
        self.private.count = Count(**state_dict["count"])

    @override
    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self.private.choose()
        if not self.moved:
            self._first = {name: tensor.detach().clone() for name, tensor in self._weights().items()}
            self._after = min(trainer.global_step + _MOVED_AFTER, int(trainer.estimated_stepping_batches))

    @override
    def on_train_batch_end(self, trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
        """Check that the first steps have moved the weights: a private training that learns nothing looks like one.

        Raises:
            RunError: they have not.
        """
        if self._first is None or trainer.global_step < self._after:
            return
        weights = self._weights()
        still = [name for name, first in self._first.items() if torch.equal(first, weights[name])]
        if len(still) == len(weights):
            raise RunError(f"privacy: {trainer.global_step} steps have moved none of the trained weights")
        if still:
            log.warning(
                "privacy: %d of %d trained tensors have not moved, first %s", len(still), len(weights), still[0]
            )
        self.moved, self._first = True, None

    @override
    def found(self, trainer: L.Trainer) -> dict[str, Any]:
        count = self.private.count
        return {
            **self.private.chosen,
            "clipped": count.clipped / max(1, count.units),
            "not_finite": count.not_finite,
            "weights_moved": self.moved,
        }

    def _weights(self) -> dict[str, Tensor]:
        named = self.private.tuner.model.named_parameters()
        return {name: parameter.detach() for name, parameter in named if parameter.requires_grad}
