"""The gradient of each example of a batch, in the fastest way that is right for the model.

Every way is a function of a batch that returns, for each trained parameter, the gradients of its examples. The loss of
an example is that of the task over its own count, such as the mean over its labelled tokens.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn import functional as F

from peftlab.privacy.clipping import Gradients
from peftlab.seams.transformers import masks_always_built
from peftlab.tasks.batch import Batch
from peftlab.tasks.task import Task


class UnfitError(Exception):
    """A way cannot compute the gradients of this model or batch."""


@dataclass(frozen=True)
class Computed:
    """What a way computes of a batch."""

    gradients: Gradients
    """Of each trained parameter, shape (examples, ...)."""
    losses: Tensor
    """Of each example, detached, shape (examples,)."""


@dataclass(frozen=True)
class Learner:
    """A model in training, and what the gradients are of."""

    model: nn.Module
    task: Task
    trained: Mapping[str, nn.Parameter]
    """The trained parameters, by name."""
    forward: Callable[[Batch], Any]
    """Runs the model on a batch, as a training does."""
    autocast: Callable[[], AbstractContextManager[object]]
    """The context of a forward pass, which sets its precision."""
    pick: Callable[[Batch, list[int]], Batch]
    """Returns the batch of some examples of a batch, by their places in it."""
    count: Callable[[Batch], Tensor]
    """Returns what the loss of each example is divided by, shape (examples,); 0: the example has no loss."""
    objective: Callable[[Batch], Tensor] | None = None
    """Returns the loss of a batch of one example, a scalar, where it is more than the task's; None: it is that."""

    def losses(self, forward: Callable[[Batch], Any], batch: Batch, count: Tensor) -> Tensor:
        """Return the loss of each example in the outputs of `forward`, shape (examples,)."""
        with self.autocast():
            losses = self.task.losses(forward(batch), batch)
        return torch.where(count > 0, losses / count.clamp(min=1e-30).to(losses.dtype), losses * 0)


class Way(ABC):
    """A way to compute gradients."""

    name: ClassVar[str]

    def __init__(self, learner: Learner) -> None:
        self.learner = learner

    @abstractmethod
    def __call__(self, batch: Batch) -> Computed:
        """Return the gradients of the examples of a `batch` on the device.

        Raises:
            UnfitError: it cannot.
        """


class OneByOne(Way):
    """A pass for each example: right for every model."""

    name = "one by one"

    def __call__(self, batch: Batch) -> Computed:
        """Return the gradients of the examples of `batch`."""
        parameters, gradients, losses = list(self.learner.trained.values()), [], []
        for place in range(len(batch.examples)):
            one = self.learner.pick(batch, [place]).to(batch.weights.device)
            loss = self._loss(one)
            wanted = loss.requires_grad
            gradients.append(
                torch.autograd.grad(loss, parameters, allow_unused=True) if wanted else [None] * len(parameters)
            )
            losses.append(loss.detach())
        stacked = [_stacked(of_examples) for of_examples in zip(*gradients, strict=True)]
        return Computed(stacked, torch.stack(losses))

    def _loss(self, one: Batch) -> Tensor:
        learner = self.learner
        if learner.objective is not None:
            return learner.objective(one)
        return learner.losses(learner.forward, one, learner.count(one)).sum()


def _stacked(of_examples: Sequence[Tensor | None]) -> Tensor | None:
    """Return the gradients of one parameter, shape (examples, ...); None: no example has one."""
    like = next((own for own in of_examples if own is not None), None)
    return (
        None if like is None else torch.stack([torch.zeros_like(like) if own is None else own for own in of_examples])
    )


class Vmap(Way):
    """One pass for all, in which torch.func maps the gradient over the examples.

    It needs attention without fused kernels, modules whose parameters are read where they are used, and examples of the
    same number of rows: others are mapped apart.
    """

    name = "vmap"

    def __call__(self, batch: Batch) -> Computed:
        """Return the gradients of the examples of `batch`."""
        rows = torch.bincount(batch.rows, minlength=len(batch.weights)).tolist()
        if len(set(rows)) == 1:
            return self._mapped(batch, rows[0])
        parts: list[tuple[list[int], Computed]] = []
        for number in sorted(set(rows)):
            places = [place for place, own in enumerate(rows) if own == number]
            part = self.learner.pick(batch, places).to(batch.weights.device)
            parts.append((places, self._mapped(part, number)))
        order = torch.tensor([place for places, _ in parts for place in places]).argsort()
        together = zip(*(part.gradients for _, part in parts), strict=True)
        gradients = [None if None in own else torch.cat(own)[order] for own in together]
        return Computed(gradients, torch.cat([part.losses for _, part in parts])[order])

    def _mapped(self, batch: Batch, rows: int) -> Computed:
        examples, learner = len(batch.weights), self.learner

        def apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
            shaped = {}
            for name, tensor in tensors.items():
                if len(tensor) not in (examples, examples * rows):
                    raise UnfitError(f"{name} has {len(tensor)} entries for {examples} examples")
                shaped[name] = tensor.view(examples, len(tensor) // examples, *tensor.shape[1:])
            return shaped

        def loss(
            trained: dict[str, Tensor], inputs: dict[str, Tensor], targets: dict[str, Tensor], weight: Tensor, n: Tensor
        ) -> Tensor:
            places = torch.zeros(rows, dtype=torch.long, device=n.device)
            one = Batch(inputs, targets, weight.unsqueeze(0), places, [None], 0, padding=batch.padding)

            values = {name: trained[own] for name, own in names.items()}

            def forward(batch: Batch) -> Any:
                return functional_call(learner.model, values, (), batch.inputs, tie_weights=False)

            return learner.losses(forward, one, n.unsqueeze(0)).sum()

        names = dict(_places(learner))
        mapped = vmap(grad_and_value(loss), in_dims=(None, 0, 0, 0, 0), randomness="different")
        trained = {name: parameter.detach() for name, parameter in learner.trained.items()}
        with masks_always_built():
            gradients, losses = mapped(
                trained, apart(batch.inputs), apart(batch.targets), batch.weights, learner.count(batch)
            )
        return Computed([gradients[name] for name in learner.trained], losses.detach())


def _places(learner: Learner) -> Iterator[tuple[str, str]]:
    """Yield every place of a trained parameter, each once, as its name there and its name in `Learner.trained`.

    A tensor may have several places, and a module several names. `functional_call` swaps by name, and where two names
    mean one place, it does not put the parameter back: from then on the model would compute with another tensor.
    """
    of_parameter = {id(parameter): name for name, parameter in learner.trained.items()}
    for prefix, module in learner.model.named_modules():
        for key, parameter in module.named_parameters(prefix, recurse=False, remove_duplicate=False):
            if id(parameter) in of_parameter:
                yield key, of_parameter[id(parameter)]


class Hooks(Way):
    """One ordinary pass, in which hooks multiply inputs of layers with gradients of outputs (Goodfellow 2015).

    It needs trained parameters that are used by their own modules alone, of the kinds in `_OF_MODULE`.
    """

    name = "hooks"

    def __init__(self, learner: Learner) -> None:
        super().__init__(learner)
        self.owned: dict[nn.Module, dict[str, str]] = {}
        """By module: the names of its trained parameters in it, and in the model."""
        of_parameter = {id(parameter): name for name, parameter in learner.trained.items()}
        for module in learner.model.modules():
            own = {
                key: of_parameter[id(p)] for key, p in module.named_parameters(recurse=False) if id(p) in of_parameter
            }
            if own and _kind_of(module) is None:
                raise UnfitError(f"{next(iter(own.values()))} belongs to a {type(module).__name__}")
            if own:
                self.owned[module] = own

    def __call__(self, batch: Batch) -> Computed:
        """Return the gradients of the examples of `batch`."""
        learner, sums = self.learner, dict[str, Tensor]()
        with self._watching(batch, sums):
            losses = learner.losses(learner.forward, batch, learner.count(batch))
            if losses.requires_grad:
                torch.autograd.grad(losses.sum(), list(learner.trained.values()), allow_unused=True)
        return Computed([sums.get(name) for name in learner.trained], losses.detach())

    @contextmanager
    def _watching(self, batch: Batch, sums: dict[str, Tensor]) -> Iterator[None]:
        """Add the gradients of the examples of `batch` to `sums`, by name, in backward passes of this context."""

        def watch(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
            (inputs,) = args
            if not output.requires_grad:
                return
            if len(inputs) != len(batch.rows):
                raise UnfitError(f"a {type(module).__name__} sees {len(inputs)} rows of {len(batch.rows)}")
            kind, inputs = _kind_of(module), inputs.detach()
            assert kind is not None

            def add(gradient: Tensor) -> None:
                for key, of_rows in kind(module, inputs, gradient, self.owned[module].keys()).items():
                    name = self.owned[module][key]
                    own = _by_example(of_rows, batch)
                    sums[name] = sums[name] + own if name in sums else own

            output.register_hook(add)  # type: ignore[no-untyped-call]

        handles = [module.register_forward_hook(watch) for module in self.owned]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _by_example(of_rows: Tensor, batch: Batch) -> Tensor:
    """Return `of_rows`, shape (rows, ...), summed over the rows of each example."""
    if len(of_rows) == len(batch.weights):
        return of_rows
    return of_rows.new_zeros(len(batch.weights), *of_rows.shape[1:]).index_add_(0, batch.rows, of_rows)


Products = dict[str, Tensor]
"""By parameter of a module: its gradient by row, shape (rows, ...)."""


def _of_linear(module: nn.Module, inputs: Tensor, gradient: Tensor, wanted: Any) -> Products:
    x, g = inputs.float().reshape(len(inputs), -1, inputs.shape[-1]), gradient.float()
    g = g.reshape(len(g), -1, g.shape[-1])
    products = {}
    if "weight" in wanted:
        products["weight"] = g.transpose(1, 2) @ x
    if "bias" in wanted:
        products["bias"] = g.sum(1)
    return products


def _of_norm(module: Any, inputs: Tensor, gradient: Tensor, wanted: Any) -> Products:
    g, inner = gradient.float(), len(module.normalized_shape)
    products = {}
    if "weight" in wanted:
        normal = F.layer_norm(inputs.float(), module.normalized_shape, eps=module.eps)
        products["weight"] = _summed(g * normal, inner)
    if "bias" in wanted:
        products["bias"] = _summed(g, inner)
    return products


def _summed(of_positions: Tensor, inner: int) -> Tensor:
    """Return the sum over all dimensions but the first, the rows, and the last `inner` ones."""
    shape = of_positions.shape
    return of_positions.reshape(shape[0], -1, *shape[of_positions.dim() - inner :]).sum(1)


def _of_embedding(module: Any, inputs: Tensor, gradient: Tensor, wanted: Any) -> Products:
    ids, g = inputs.reshape(len(inputs), -1), gradient.float().reshape(len(inputs), -1, gradient.shape[-1])
    if module.padding_idx is not None:
        g = g * (ids != module.padding_idx).unsqueeze(-1)
    totals = g.new_zeros(len(inputs), *module.weight.shape)
    return {"weight": totals.scatter_add_(1, ids.unsqueeze(-1).expand_as(g), g)}


_OF_MODULE: dict[type[nn.Module], Callable[[Any, Tensor, Tensor, Any], Products]] = {
    nn.Linear: _of_linear,
    nn.LayerNorm: _of_norm,
    nn.Embedding: _of_embedding,
}


def _kind_of(module: nn.Module) -> Callable[[Any, Tensor, Tensor, Any], Products] | None:
    """Return what computes the gradients of a module's own parameters; None: nothing here does."""
    return next((products for kind, products in _OF_MODULE.items() if isinstance(module, kind)), None)


WAYS: tuple[type[Way], ...] = (Hooks, Vmap, OneByOne)
"""The ways, in the order in which they are tried."""
