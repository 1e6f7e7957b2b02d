"""One optimiser step: the gradient of a batch, from this rank's parts of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from peftlab.devices.data_parallel import average_gradients
from peftlab.regularizers.regularizer import StepRule
from peftlab.tasks.batch import Batch
from peftlab.training.micro_batches import MicroBatches
from peftlab.training.objective import Losses


class Step:
    """The parts of one step on this rank, and their gradient.

    Args:
        parts: this rank's batches, computed in turn; each knows its share of the whole step.
        parameters: the trained parameters.
        pieces: cuts a part that does not fit in memory.
        autocast: the context of a forward pass, which sets its precision.
        world_size: the number of ranks in the step.
        averages: whether each rank holds the whole model, so that gradients are averaged here.
        number: the number of the step, from 1; None: it is no step of a training.
    """

    def __init__(
        self,
        parts: Sequence[Batch],
        parameters: Sequence[nn.Parameter],
        pieces: MicroBatches,
        autocast: Callable[[], AbstractContextManager[object]],
        world_size: int = 1,
        averages: bool = False,
        number: int | None = None,
    ) -> None:
        self.parts, self.parameters, self.pieces, self.autocast = parts, parameters, pieces, autocast
        self.world_size, self.averages, self.number = world_size, averages, number
        self.device = parameters[0].device
        self.loss = torch.zeros(())
        """This rank's part of the loss of the step, before clipping and scaling."""
        self.terms: dict[str, Tensor] = {}
        """This rank's part of each regulariser's term in it, by name."""
        self.figures: dict[str, dict[str, Tensor]] = {}
        """What each term told of its action, summed over this rank's examples with weight."""
        self.counted: Tensor | int = 0
        """The number of these examples: on the device, so that nothing waits for it."""

    def take(self, rule: StepRule | None, losses_of: Callable[[Batch], Losses], scale: Tensor | None = None) -> None:
        """Set the parameters' gradients to what `rule` makes of `gradient`, or to that itself.

        `loss`, `terms` and `figures` are then those at the step's own weights, wherever else the rule has asked for a
        gradient.
        """
        if rule is None:
            self.gradient(losses_of, scale)
            return
        own: list[tuple[dict[str, Tensor], dict[str, dict[str, Tensor]]]] = []

        def ask() -> Tensor:
            loss = self.gradient(losses_of, scale)
            own.append((self.terms, self.figures))
            return loss

        self.loss = rule.gradient(ask, self.parameters)
        self.terms, self.figures = own[0]

    def gradient(self, losses_of: Callable[[Batch], Losses], scale: Tensor | None = None) -> Tensor:
        """Set the parameters' gradients to that of the step, and return `loss`.

        A part that does not fit in memory is computed in pieces. The sum so far may then be incomplete, so the step
        starts over with all its parts; ranks communicate only once each has the whole gradient of its own parts.

        It may be called again after the weights have changed.

        Args:
            losses_of: computes the losses of a batch, on the device.
            scale: the factor on the gradient, a scalar; None: 1.
        """
        scale = torch.ones((), device=self.device) if scale is None else scale
        while not self._is_learnt(losses_of, scale / len(self.parts)):
            pass
        if self.averages:
            average_gradients(self.parameters)
        return self.loss

    def whole(self, losses_of: Callable[[Batch], Losses]) -> Tensor:
        """Return the loss of a step of one part, for an engine that runs the backward pass itself."""
        (part,) = self.parts
        computed = self.pieces.attempt(lambda piece: self._loss(piece, losses_of), part)
        assert computed is not None, "an engine's step is never cut"
        return computed[0]

    def on_device(self) -> list[Batch]:
        """Return the parts on the device, in pieces that fit in memory as far as is known."""
        return [piece.to(self.device) for part in self.parts for piece in self.pieces.pieces(part)]

    def _is_learnt(self, losses_of: Callable[[Batch], Losses], factor: Tensor) -> bool:
        """Add up the gradients of all parts, piece by piece; return whether they fit in memory."""
        self.start_over()

        def learn(piece: Batch) -> None:
            torch.autograd.backward(self._loss(piece, losses_of), factor)

        for part in self.parts:
            for piece in self.pieces.pieces(part):
                if self.pieces.attempt(learn, piece, self._give_up) is None:
                    return False
        return True

    def _give_up(self) -> None:
        """Let go of an attempt."""
        forget_failed_pass()
        self.start_over()

    def start_over(self) -> None:
        """Begin the step anew: no gradients, and no losses so far."""
        for parameter in self.parameters:
            parameter.grad = None
        self.loss, self.terms, self.figures, self.counted = torch.zeros(()), {}, {}, 0

    def _loss(self, piece: Batch, losses_of: Callable[[Batch], Losses]) -> Tensor:
        """Return the loss of a piece, scaled for a mean over parts and ranks, and add it to that of the step.

        Where it is not finite, neither is its gradient, so that the norm of the step's gradient shows both, on all
        ranks alike.
        """
        with self.autocast():
            losses = losses_of(piece.to(self.device))
        self.note(losses, piece)
        return losses.total * (piece.scale * len(self.parts) * self.world_size + 0 * losses.total.detach())

    def note(self, losses: Losses, piece: Batch) -> None:
        """Add the losses of a piece, and what terms told of their action, to those of the step."""
        self.loss = self.loss + losses.total.detach() * piece.scale
        for name, term in losses.terms.items():
            self.terms[name] = self.terms.get(name, 0) + term.detach() * piece.scale
            figures = self.figures.setdefault(name, {})
            for key, figure in losses.figures.get(name, {}).items():
                figures[key] = figures.get(key, 0) + (figure if piece.examples else 0 * figure)  # 0 of a filler
        if losses.terms and piece.examples:
            self.counted = self.counted + (piece.weights > 0).sum().to(self.device)


def forget_failed_pass() -> None:
    """Let autograd go of what was ready to be computed in a backward pass that failed; it keeps it until its next."""
    torch.zeros((), requires_grad=True).backward()  # type: ignore[no-untyped-call]
