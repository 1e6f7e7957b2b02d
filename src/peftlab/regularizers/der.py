"""Dark experience replay: remembered examples keep the logits that an earlier run gave them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
import torch
from pydantic import BeforeValidator, Field
from torch import Tensor
from typing_extensions import override

from peftlab.errors import ConfigError
from peftlab.regularizers.earlier import Earlier, earlier_runs
from peftlab.regularizers.regularizer import Computed, Material, Term, spec
from peftlab.tasks.batch import Batch
from peftlab.tasks.task import Task


class Kept(NamedTuple):
    """What is kept of an example."""

    logits: np.ndarray
    """Those of the earlier run, shape (rows, [tokens,] labels)."""
    places: list[int]
    """The places of its labels among those of this run."""
    text: Any
    """The example's text, see `Task.encoded_text`."""


@spec
class Der(Term):
    """Adds ``alpha`` times the mean squared distance from an earlier run's logits to those of remembered examples.

    This is DER++ (Buzzega et al. 2020, equation 6): ``data.replay`` names the runs and chooses the examples, whose gold
    is learnt beside, as their labels' share of the task's loss. Each has the logits of the run that it comes from, as
    that ended, for the labels that it knew. Of a task that answers for tokens, those with gold count.

    Both are means over the whole batch, in which the memory has the share that it has in an epoch. The paper draws as
    many remembered examples as new ones in every step: raise ``times`` of a memory that is much smaller.
    """

    sha256: Annotated[list[str], BeforeValidator(lambda digests: digests or [])] = field(default_factory=list)
    """The digests of the runs, in the order of ``data.replay``; empty: whatever is there."""
    alpha: float = Field(default=0.5, ge=0, allow_inf_nan=False)
    """0.1 to 1 in the paper."""
    runs: list[Earlier] = field(default_factory=list, init=False, repr=False)
    """The runs, set by `prepare`."""
    kept: dict[str, Kept] = field(default_factory=dict, init=False, repr=False)
    """By id of an example, what is kept of it."""
    neutral: ClassVar[Mapping[str, float]] = {"alpha": 0}
    waits: ClassVar[bool] = True
    host_work: ClassVar[str | None] = "it looks up the logits of each example"

    @override
    def prepare(self, material: Material) -> None:
        task = material.task
        if not material.memories:
            raise ConfigError(
                "nothing is remembered whose logits could be kept: name a run, data.replay=[{run: RUN, per_class: 5}]"
            )
        if task.packs:
            raise ConfigError(
                "task.packing lays several examples into a row, and logits are kept by row. Set it to off"
            )
        self.runs = earlier_runs([place for place, _ in material.memories], self.sha256, material)
        self.kept = {}
        for run, (_, examples) in zip(self.runs, material.memories, strict=True):
            run.check_reads_alike(task)
            places = run.places(task.labels) if task.labels else [0]
            order = [run.task.labels.index(task.labels[place]) for place in places] if task.labels else [0]
            for example, logits in zip(examples, run.logits(examples), strict=True):
                self.kept[example.id] = Kept(logits[..., order], places, task.encoded_text(example))

    @override
    def resolved(self) -> dict[str, Any]:
        return {"sha256": [run.sha256 for run in self.runs]}

    @override
    def acted(self) -> Mapping[str, float]:
        return {"remembered": len(self.kept)}

    @override
    def losses(self, computed: Computed) -> Tensor:
        task, batch, own = computed.task, computed.batch, computed.outputs.logits.float()
        theirs, share = self._targets(task, batch, own)
        distance = (share * (own - theirs) ** 2).sum(-1)
        if distance.ndim > 1:
            return self.alpha * task.distributions(computed.outputs, batch).by_example(distance, batch)
        return self.alpha * batch.by_example(distance) * batch.weights.to(distance.dtype)

    def _targets(self, task: Task, batch: Batch, own: Tensor) -> tuple[Tensor, Tensor]:
        """Return the kept logits in the form of `own`, and the share of each in a mean over labels, 0 elsewhere."""
        theirs, share = np.zeros(own.shape, dtype=np.float32), np.zeros(own.shape, dtype=np.float32)
        row_of = batch.rows.cpu().numpy()
        for number, example in enumerate(batch.examples):
            kept = self.kept.get(example.id) or self.kept.get(example.id.rpartition(":")[0])  # of a repetition
            if kept is None:
                continue
            rows = np.flatnonzero(row_of == number)
            if own.ndim > 2 and task.encoded_text(example) != kept.text:
                raise ConfigError(
                    "regularizer.der: an augmentation has changed a remembered example, and the logits that are kept "
                    "are those of its own tokens. Leave one of them out"
                )
            for row, logits in zip(rows, kept.logits, strict=True):
                for whole, values in ((theirs[row], logits), (share[row], 1 / len(kept.places))):
                    (whole if own.ndim == 2 else whole[: len(logits)])[..., kept.places] = values
        return torch.from_numpy(theirs).to(own.device), torch.from_numpy(share).to(own.device)
