"""The members of an ensemble in one pass: frozen layers see the rows of all, trained ones those of their own."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from peftlab.packing.joint_model import JointModel
from peftlab.packing.rows import NotJoinableError
from peftlab.packing.run_context import RandomStates
from peftlab.tasks.networks.heads import logits_of
from peftlab.tasks.outputs.mixing import Members

log = logging.getLogger("peftlab")

_FEW = 64
"""Tokens of a batch, padding included, up to which one pass pays on a CPU: there is as much to multiply in one as in
several, and only their overhead is saved. Eight LoRA members of MiniLM took 3.1 times the CPU time of one in one pass
and 7.9 in several for single sentences, 7.8 and 7.2 for batches of eight (experiments/ensembles/cost.py)."""
_TOLERANCE = 1e-3
"""How far logits of one pass may be from those of several, as a share of the largest: rounding in 16 bits is less, and
rows that were mixed up are more."""


def join(model: nn.Module) -> None:
    """Have the members of an ensemble run in one pass where they can; any other model stays as it is."""
    if isinstance(model, Members) and len(model.members) > 1:
        model.together = _Together(list(model.members))


class _NoRandoms(RandomStates):
    """Nothing is drawn, and the states of the process stay as they are."""

    @override
    def put_torch(self) -> None:
        """Do nothing."""

    @override
    def keep_torch(self) -> None:
        """Do nothing."""


class _Together:
    """Runs models in one pass where that pays and gives the same as several, else one after another.

    A joint pass is compared with separate ones for each new number of rows, since it recognises the tensors of rows by
    their size. Models that cannot be joined are left apart, and one line in the log says why.
    """

    def __init__(self, models: Sequence[nn.Module]) -> None:
        self.models = models
        self._joint: JointModel | None = None
        self.apart: str | None = None
        """Why the models run apart."""
        self._checked: set[int] = set()
        """Numbers of rows for which both have been compared."""

    def __call__(self, inputs: Mapping[str, Tensor]) -> list[Any]:
        """Return the outputs of each model."""
        ids = next(iter(inputs.values()))
        pays = ids.device.type != "cpu" or ids.numel() <= _FEW
        learns = torch.is_grad_enabled() or any(model.training for model in self.models)
        if not pays or learns or self.apart or torch.compiler.is_compiling():
            return self._one_by_one(inputs)
        try:
            return self._together(inputs)
        except NotJoinableError as error:
            self.apart = str(error)
            log.debug("the members of the ensemble run one after another: %s", error)
            return self._one_by_one(inputs)

    def _together(self, inputs: Mapping[str, Tensor]) -> list[Any]:
        if self._joint is None:
            self._joint = JointModel(self.models, [_NoRandoms()] * len(self.models))
        outputs, rows = self._joint([inputs] * len(self.models)), len(next(iter(inputs.values())))
        if rows not in self._checked:
            if not all(map(_are_close, outputs, self._one_by_one(inputs))):
                raise NotJoinableError("one pass gives other outputs than several")
            self._checked.add(rows)
        return outputs

    def _one_by_one(self, inputs: Mapping[str, Tensor]) -> list[Any]:
        return [model(**inputs) for model in self.models]


def _are_close(one: Any, other: Any) -> bool:
    mine, theirs = logits_of(one), logits_of(other)
    if {name: value.shape for name, value in mine.items()} != {name: value.shape for name, value in theirs.items()}:
        return False
    return all(
        bool((value - theirs[name]).abs().max() <= _TOLERANCE * theirs[name].abs().max())
        for name, value in mine.items()
    )
