"""What each regulariser of a run did in its first step: recorded, and an error where it did nothing."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from lightning.pytorch.strategies import Strategy

from peftlab.errors import ConfigError
from peftlab.regularizers.regularizer import Regularizer, Term, key_of
from peftlab.training.step import Step

log = logging.getLogger("peftlab")


class Effects:
    """Records the first action of each regulariser.

    Args:
        chosen: the regularisers that act, by name.
        recorded: names of those that the record has already, from before the run was resumed.
        keep: adds figures, by name of the regulariser, to the record.
    """

    def __init__(
        self,
        chosen: Mapping[str, Regularizer] | None = None,
        recorded: Mapping[str, Any] | None = None,
        keep: Callable[[dict[str, Any]], None] = lambda figures: None,
    ) -> None:
        self.pending = {name: each for name, each in (chosen or {}).items() if name not in (recorded or {})}
        self.keep = keep

    def after_step(self, step: Step, number: int, strategy: Strategy) -> None:
        """Look at a step that was taken.

        Args:
            step: the step.
            number: its number, from 1.
            strategy: sums over ranks.

        Raises:
            ConfigError: a regulariser did nothing.
        """
        for name, each in list(self.pending.items()):
            if isinstance(each, Term) and number < each.start_step:
                continue
            if (acted := each.acted()) is None:
                continue
            figures = self._of_term(name, each, step, strategy) if isinstance(each, Term) else {}
            if figures is None:
                continue
            figures |= {key: float(value) for key, value in acted.items()}
            idle = [key for key, value in figures.items() if value == 0]
            if idle or not figures:
                raise ConfigError(
                    f"{key_of(name)}: it did nothing in step {number}: {' and '.join(idle) or 'no figure'} is 0. "
                    "Leave it out, or look at its options: is it below cached activations, are the weights that it "
                    "acts on frozen, is dropout 0?"
                )
            self.keep({name: {"step": number, "passes": each.passes, **figures}})
            del self.pending[name]

    def after_training(self, steps: int) -> None:
        """Warn of the regularisers whose turn never came in a training of `steps` steps, which may have ended early."""
        for name in self.pending:
            log.warning("no effect: %s has not acted: the training ended with step %d", key_of(name), steps)

    def _of_term(self, name: str, term: Term, step: Step, strategy: Strategy) -> dict[str, float] | None:
        """Return the figures of a term; None where it could not act: no example of the step has weight, or it waits."""
        sums = {"term": step.terms[name].double()}
        if not term.learns:  # else they are what it learns from
            sums |= step.figures[name]
        values = [float(step.counted), *(float(value) for value in sums.values())]
        own = torch.tensor(values, dtype=torch.float64, device=step.device)
        counted, total, *told = strategy.reduce(own, reduce_op="sum").tolist()
        if not counted or (term.waits and not total):
            return None
        # the parts of a term add up over ranks already; what it tells is a mean over examples
        means = [total, *(value / counted for value in told)]
        return {key: value for key, value in zip(sums, means, strict=True) if math.isfinite(value)}
