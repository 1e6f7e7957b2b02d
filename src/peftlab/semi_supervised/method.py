"""The interface of a semi-supervised method: a term of the objective, of unlabelled texts beside labelled examples."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import override

from peftlab.data.augmentation.augmentation import Augmentation
from peftlab.errors import ConfigError
from peftlab.regularizers.regularizer import Computed, Term, spec
from peftlab.regularizers.repeatable import random_state, same_random_numbers
from peftlab.semi_supervised.averages import Average
from peftlab.semi_supervised.companions import Companions
from peftlab.semi_supervised.predicted import classes_of, predicts_classes
from peftlab.semi_supervised.tally import Seen, Tally
from peftlab.semi_supervised.unlabelled import REST
from peftlab.tasks.batch import Batch
from peftlab.tasks.task import Task


@spec
class SemiSupervised(Term):
    """Adds a loss of unlabelled texts, which the model itself, or a teacher, has guessed the labels of.

    Each labelled example of a step is accompanied by `mu` unlabelled texts, see `Companions`. The term of the example
    is its weight times the mean loss of these, over all of them, whether their guess is certain enough to be learnt or
    not; so the term is the mean over all the unlabelled texts of a step, and does not depend on how that is divided.

    A step makes 1 + 2 * `mu` passes, each over as many texts as it has examples: every text is guessed and learnt. The
    class of a method says if it makes others.
    """

    unlabelled: str = REST
    """The texts: the training texts that the budget's sample leaves out, ``rest``, or a file, see `read_unlabelled`."""
    at_most: int | None = Field(default=None, ge=1)
    """The size of a random sample of the texts; None: all."""
    mu: int = Field(default=7, ge=1)
    """The number of unlabelled texts for each labelled one."""
    lambda_u: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    """The weight of the term."""
    ramp_up: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """The steps over which this weight rises from 0, or below 1, the share of the run's steps."""
    weak: dict[str, Augmentation] = Field(default_factory=dict)
    """What edits a text before its label is guessed, by name."""
    strong: dict[str, Augmentation] = Field(default_factory=dict)
    """What edits it before the guess is learnt, by name; empty: only dropout makes a difference."""
    companions: Companions | None = field(default=None, init=False, repr=False)
    tally: Tally | None = field(default=None, init=False, repr=False)
    facts: dict[str, Any] = field(default_factory=dict, init=False, repr=False)
    """What the record says about the texts, before the training."""
    keep: Callable[[dict[str, Any]], None] = field(default=lambda entries: None, init=False, repr=False)
    """Keeps entries in the record."""
    steps: int = field(default=1, init=False, repr=False)
    """The steps of the run."""
    taken: int = field(default=0, init=False, repr=False)
    """The steps that have been taken."""
    averages: dict[str, Average] = field(default_factory=dict, init=False, repr=False)
    """What a method that learns keeps of the steps before, by name; set by `begin`."""
    learns: ClassVar[bool] = True
    draws: ClassVar[bool] = True
    neutral: ClassVar[Mapping[str, float]] = {"lambda_u": 0}
    host_work: ClassVar[str | None] = "it draws texts without labels"
    hooks: ClassVar[bool] = False
    """Whether it changes what the model computes on the way, which compiled code does not allow."""

    @property
    @override
    def passes(self) -> int:  # type: ignore[override]  # it depends on an option
        return 2 * self.mu

    @property
    @override
    def reads_layers(self) -> bool:
        return True  # its texts have no cached activations

    def begin(self, companions: Companions, steps: int) -> None:
        """Take the texts, before a run of so many `steps`.

        Raises:
            ConfigError: the method does not suit the task.
        """
        if (reason := self.unsuited(companions.task)) is not None:
            raise ConfigError(f"semi: {reason}")
        self.companions, self.steps, self.tally = companions, steps, Tally(classes_of(companions.task), steps)

    def unsuited(self, task: Task) -> str | None:
        """Return why the method cannot be used for a task; None: it can."""
        if predicts_classes(task):
            return None
        return f"it guesses classes, and task={task.name} has none. semi=uda can do without"

    @override
    def resolved(self) -> dict[str, Any]:
        views = {"weak": self.weak, "strong": self.strong}
        place = self.unlabelled if self.unlabelled == REST else str(Path(self.unlabelled).expanduser().absolute())
        settled = {view: {name: each.resolved() for name, each in own.items()} for view, own in views.items()}
        return {"unlabelled": place, **settled}

    @property
    def weight(self) -> float:
        """The weight of the term in the next step."""
        over = self.ramp_up * self.steps if self.ramp_up < 1 else self.ramp_up
        return self.lambda_u * min(1.0, self.taken / over) if over else self.lambda_u

    @override
    def losses(self, computed: Computed) -> Tensor:
        assert self.companions is not None, "`begin` has been called"
        batch, classes = computed.batch, len(classes_of(computed.task))
        term = torch.zeros(len(batch.weights), device=batch.weights.device)
        sums = torch.zeros(len(batch.weights), 5 + 2 * classes, dtype=torch.float64, device=term.device)
        if batch.examples and self.weight:
            own, seen = self.of_companions(computed, self.companions)
            term[: len(own)] = self.weight * own * batch.weights[: len(own)].to(own.dtype)
            sums[: len(seen)] = seen
        computed.tell(seen=sums, **self.told(computed))
        return term

    @abstractmethod
    def of_companions(self, computed: Computed, companions: Companions) -> tuple[Tensor, Tensor]:
        """Return the mean loss of the companions of each labelled example, and what was seen of them.

        Returns:
            shape (labelled examples,), and what `seen_of` returns.
        """

    def told(self, computed: Computed) -> dict[str, Tensor]:
        """Return what the method learns from labelled examples, for `learn`, each of shape (examples, ...)."""
        return {}

    def learn(self, seen: Seen, told: Mapping[str, Tensor]) -> None:
        """Learn from a step that was taken: from what was seen, and the sums of what was `told`."""

    @override
    def after_step(self, told: Mapping[str, Tensor]) -> None:
        assert self.tally is not None
        told = {name: sums.cpu() for name, sums in told.items()}
        seen = Seen(told.pop("seen"), len(self.tally.classes))
        self.taken += 1
        if seen.number:
            self.learn(seen, told)
        self.tally.add(seen, self.taken)
        if self.taken % self.tally.every == 0 or self.taken == self.steps:
            self.keep(self.facts | self.tally.described())

    @override
    def acted(self) -> Mapping[str, float | Tensor] | None:
        assert self.tally is not None
        return {"used": self.tally.used} if self.tally.used else None

    @override
    def state(self) -> dict[str, Tensor]:
        assert self.tally is not None
        averages = {name: average.values for name, average in self.averages.items()}
        return {"taken": torch.tensor(self.taken), **self.tally.state(), **averages}

    @override
    def load_state(self, state: Mapping[str, Tensor]) -> None:
        assert self.tally is not None
        self.taken = int(state["taken"])
        self.tally.load_state(state)
        for name, average in self.averages.items():
            average.values = state[name]

    def forward(self, computed: Computed, batch: Batch) -> Any:
        """Return the outputs of a training pass, whose dropout depends on the labelled examples and the epoch alone.

        The dropout of the other passes is the same with it and without.
        """
        assert self.companions is not None
        part = computed.batch.part
        assert part is not None
        seed = np.random.SeedSequence([self.companions.seed, part.epoch or 0, 4, *part.examples])
        with same_random_numbers(random_state(batch.weights.device)):
            torch.manual_seed(int(seed.generate_state(1, np.uint64)[0]))
            return computed.forward(batch)


@contextmanager
def in_use(model: nn.Module) -> Iterator[None]:
    """Have `model` compute in this context as it does when it is used: without dropout, and without a gradient."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True


def mean_of_companions(values: Tensor, weights: Tensor, owners: Tensor, examples: int) -> Tensor:
    """Return the weighted mean of `values` for each labelled example, shape (examples,); 0 where nothing has weight.

    Args:
        values: shape (distributions,).
        weights: those of the task's loss, of the same shape.
        owners: the labelled example of each, of the same shape.
        examples: the number of labelled examples.
    """
    sums, total = (
        values.new_zeros(examples).index_add(0, owners, each) for each in (values * weights, weights.to(values.dtype))
    )
    return sums / torch.where(total > 0, total, 1)
