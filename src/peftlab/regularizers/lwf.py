"""Learning without forgetting: on new examples, the old labels keep the probabilities of an earlier run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor
from transformers.utils import ModelOutput
from typing_extensions import override

from peftlab.errors import ConfigError
from peftlab.regularizers.earlier import Earlier, earlier_runs
from peftlab.regularizers.outputs import softened
from peftlab.regularizers.regularizer import Computed, Material, Term, spec
from peftlab.tasks.networks.heads import logits_of


@spec
class Lwf(Term):
    """Adds ``alpha * T^2 * KL(earlier / T || model / T)``, over an earlier run's labels (Li & Hoiem 2016, section 3).

    Both distributions are over the labels that the earlier run knows: new ones have no part in them. The examples are
    those of this run. In contrast to `Distil`, the task's own loss keeps its weight. A step makes two passes, one of
    them the earlier run's.
    """

    previous: str | None = None
    """The folder of a finished run with the same task, whose labels are among those of this run, or the start of its
    id."""
    sha256: str | None = None
    """The digest of its identity and its adapter; None: whatever is there."""
    alpha: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    """The paper's lambda_o, 1 there."""
    temperature: float = Field(default=2.0, gt=0, allow_inf_nan=False)
    """T, 2 in the paper."""
    earlier: Earlier | None = field(default=None, init=False, repr=False)
    """The earlier run, set by `prepare`."""
    places: list[int] | None = field(default=None, init=False, repr=False)
    """The places of its labels among those of this run; None: they are the same."""
    passes: ClassVar[int] = 1
    neutral: ClassVar[Mapping[str, float]] = {"alpha": 0}
    waits: ClassVar[bool] = True  # a run that begins with the earlier one gives its very answers
    host_work: ClassVar[str | None] = "it asks a second model"

    @override
    def prepare(self, material: Material) -> None:
        if self.previous is None:
            raise ConfigError("previous is null: name a finished run by its folder or its id")
        (earlier,) = earlier_runs([self.previous], [self.sha256] if self.sha256 else [], material)
        task, theirs = material.task, earlier.task
        if type(task) is not type(theirs):
            raise ConfigError(f"{earlier.place} is a run of task={theirs.name}, and this one is of {task.name}")
        if strange := [label for label in theirs.labels if label not in task.labels]:
            raise ConfigError(
                f"{earlier.place} has the label '{strange[0]}', and this run has not: its answers cannot be kept. "
                "Declare the labels of both, data.labels=[...]"
            )
        earlier.check_reads_alike(task)
        self.earlier = earlier
        self.places = None if len(theirs.labels) == len(task.labels) else earlier.places(task.labels)

    @override
    def resolved(self) -> dict[str, Any]:
        return {"previous": self.earlier.place, "sha256": self.earlier.sha256} if self.earlier else {}

    @override
    def losses(self, computed: Computed) -> Tensor:
        task, batch, outputs = computed.task, computed.batch, computed.outputs
        computed.tell(examples=batch.weights > 0)  # of a filler too: ranks sum what all of them have told
        if not batch.examples:  # a filler, without weight
            return task.losses(outputs, batch) * 0
        assert self.earlier is not None, "`prepare` has been called"
        theirs, mine = softened(self.earlier.outputs(batch), self.temperature), softened(outputs, self.temperature)
        if self.places is not None:
            kept = {name: logits[..., self.places] for name, logits in logits_of(mine).items()}
            mine = ModelOutput(**{**mine, **kept})
        return self.alpha * self.temperature**2 * task.divergences(theirs, mine, batch)
