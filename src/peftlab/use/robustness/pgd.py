"""Projected gradient descent on the input embeddings: the worst change of a given size that gradients can find."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from peftlab.errors import UserError
from peftlab.models.language_models import input_embeddings
from peftlab.regularizers.embeddings import Ball, changed, perturbed_positions
from peftlab.tasks.batch import Batch
from peftlab.use.robustness.victim import Judged, Victim


def ascend(
    losses: Callable[[Tensor], Tensor], start: Tensor, mask: Tensor, ball: Ball, batch: Batch, steps: int, size: float
) -> Tensor:
    """Return the perturbations with the largest loss among the start and the results of `steps` steps.

    A step is ``projected(perturbation + size * steepest ascent)`` (Madry et al. 2018). One step of size epsilon from
    zero is FGM with the norm l2 (Miyato et al. 2017) and FGSM with linf (Goodfellow et al. 2015).

    Args:
        losses: the loss of each example, shape (examples,), under a perturbation; one call a step, and one at the end.
        start: perturbations in the ball, shape (rows, tokens, hidden), in fp32.
        mask: 1 where tokens may be perturbed, else 0, shape (rows, tokens, 1).
        ball: the perturbations that are allowed.
        batch: the examples.
        steps: number of steps.
        size: the norm of a step.
    """
    current = best = start
    largest = torch.full((len(batch.weights),), -torch.inf, device=start.device)
    for number in range(steps + 1):
        differentiated = number < steps
        current = current.detach().requires_grad_(differentiated)
        with torch.set_grad_enabled(differentiated):
            of_examples = losses(current)
        better = of_examples.detach() > largest
        largest = torch.where(better, of_examples.detach(), largest)
        best = torch.where(batch.spread(better).unsqueeze(-1), current.detach(), best)
        if differentiated:
            (gradient,) = torch.autograd.grad(of_examples.sum(), current)
            current = ball.projected(current.detach() + size * ball.steepest(gradient * mask, batch), batch)
    return best


def drawn(ball: Ball, mask: Tensor, batch: Batch, numbers: Sequence[int], seed: Sequence[int], hidden: int) -> Tensor:
    """Return perturbations drawn uniformly from the ball, shape (rows, tokens, hidden), in fp32.

    That of an example depends only on `seed` and its number, not on the rest of the batch or on padding.

    Args:
        ball: a ball of whole examples.
        mask: 1 where tokens may be perturbed, else 0, shape (rows, tokens, 1).
        batch: the examples.
        numbers: a number for each of them.
        seed: of this draw.
        hidden: the size of an embedding.
    """
    free, rows = mask.squeeze(-1).bool().cpu(), batch.rows.cpu()
    noise = torch.zeros(*free.shape, hidden)
    for example, number in enumerate(numbers):
        own = free & (rows == example).unsqueeze(-1)
        random, shape = np.random.default_rng([*seed, number]), (int(own.sum()), hidden)
        if ball.norm == "linf":
            values = random.uniform(-ball.epsilon, ball.epsilon, shape)
        else:
            values = random.standard_normal(shape)
            radius = ball.epsilon * random.random() ** (1 / max(1, values.size))
            values *= radius / max(float(np.linalg.norm(values)), np.finfo(float).tiny)
        noise[own] = torch.from_numpy(values).float()
    return noise.to(mask.device)


@dataclass(frozen=True)
class Pgd:
    """An attack with gradients on the output of the input embeddings; padding and special tokens are left alone."""

    epsilon: float = 0.2
    """The largest norm of the change of an example, in the units of the embeddings."""
    norm: Literal["l2", "linf"] = "l2"
    """Over all tokens of an example: the Euclidean norm, or the largest entry."""
    steps: int = 10
    step_size: float | None = None
    """The norm of a step; None: 2.5 epsilon / steps, which can reach any point of the ball (Madry et al. 2018)."""
    restarts: int = 3
    """The first starts from zero, the others from random points of the ball; the worst counts."""
    seed: int = 0

    @property
    def size(self) -> float:
        """The norm of a step."""
        return self.step_size if self.step_size is not None else 2.5 * self.epsilon / self.steps

    def worst(self, victim: Victim, examples: Sequence[Any]) -> list[Judged]:
        """Return the worst answer to each example: a wrong one if a restart finds one, of several that of most loss.

        Raises:
            UserError: the model has no input embeddings.
        """
        check_embeddings("pgd", victim.predictor.model)
        worst: dict[int, Judged] = {}
        for indices, batch in victim.batches(examples):
            for restart in range(self.restarts):
                for index, judged in zip(indices, self._restart(victim, batch, indices, restart), strict=True):
                    if index not in worst or _badness(judged) > _badness(worst[index]):
                        worst[index] = judged
        return [worst[n] for n in range(len(examples))]

    def _restart(self, victim: Victim, batch: Batch, numbers: Sequence[int], restart: int) -> list[Judged]:
        model: Any = victim.predictor.model
        task, ball = victim.predictor.task, Ball(self.epsilon, self.norm)
        special = torch.tensor(victim.predictor.processor.special_ids, dtype=torch.long)
        mask = perturbed_positions(batch, special)
        assert mask is not None, "a tokenizer gives token ids"
        with torch.no_grad():
            hidden = model.get_input_embeddings()(batch.inputs["input_ids"][:1, :1]).shape[-1]
        start = torch.zeros(*mask.shape[:2], hidden, device=mask.device)
        if restart:
            start = drawn(ball, mask, batch, numbers, [self.seed, restart], hidden)

        def outputs(perturbation: Tensor) -> Any:
            # wherever these tokens are looked up: each member of an ensemble does
            ids = batch.inputs["input_ids"]
            perturbed = changed(model, lambda embedded: embedded + perturbation.to(embedded.dtype), ids)
            with perturbed, victim.predictor.arithmetic():
                return model(**batch.inputs)

        def losses(perturbation: Tensor) -> Tensor:
            victim.count(batch)
            return task.losses(outputs(perturbation), batch).float()

        best = ascend(losses, start, mask, ball, batch, self.steps, self.size)
        with torch.no_grad():
            return victim.judge(outputs(best), batch)


def check_embeddings(name: str, model: Any) -> None:
    """Check that a model has input embeddings, which the perturbation `name` needs.

    Raises:
        UserError: it has none.
    """
    if input_embeddings(model) is None:
        raise UserError(f"{name}: {type(model).__name__} has no input embeddings; leave {name} out of --perturb")


def _badness(judged: Judged) -> tuple[bool, float]:
    return not judged.right, judged.loss
