"""Cuts the layers, heads and feed-forward rows that a finished run needs least out of its model."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from peftlab.devices.process_state import restored
from peftlab.errors import ConfigError
from peftlab.methods.sliced import Sliced
from peftlab.methods.slices import NUMBER, Kind, Units, all_layers, keep_layers, layers_of, matrix, units
from peftlab.models.adapted_model import adapted_model
from peftlab.models.quantizing import dequantize
from peftlab.tasks.batch import Batch
from peftlab.tasks.task import Task
from peftlab.use.compression.importance import importances, least_needed_layers, sample

if TYPE_CHECKING:
    from peftlab.use.finished import FinishedRun

RIDGE = 1e-2
"""How firmly the factors of kept units are held to 1, as a share of the mean of what multiplies them."""

LEARNING_RATE = 1e-4
"""That of all weights of a smaller model, should it be trained; as in ``conf/peft/sliced.yaml``."""

_TUNED_ON = 4
"""Every how many batches of the sample are those that the factors are fitted to: they take a pass for each layer."""


class Cut(NamedTuple):
    """A smaller model of a finished run, for `peftlab.use.derive.derive`."""

    peft: dict[str, Any]
    """The section of the configuration of its architecture."""
    fill: Callable[[nn.Module], None]
    """Puts its weights into a model of that architecture."""
    chosen: dict[str, Any]
    """What is gone, as JSON values: ``layers``, ``heads`` by layer, and ``ffn``, the number of rows by layer; numbers
    are those of the pretrained model."""


@restored()
def cut(
    run: FinishedRun,
    *,
    drop_layers: int = 0,
    prune_heads: float = 0.0,
    prune_ffn: float = 0.0,
    examples: int = 512,
    seed: int = 0,
) -> Cut:
    """Return the model of `run`, merged, without the layers, heads and feed-forward rows that it needs least.

    Layers go one after another, each the one whose absence raises the training loss least. Heads and rows are ranked
    over all layers by their Fisher information (Kwon et al. 2022), and at least one is kept in each layer; those that
    are kept are then scaled, layer by layer, such that the outputs of the smaller model are nearest to those of the
    whole one (section 4.3 there). Nothing is trained.

    Args:
        run: any run whose method can be merged, or one of a model that is smaller already.
        drop_layers: the number of layers to leave out; of an encoder-decoder, in both stacks.
        prune_heads: the share of all heads to cut out, at least 0 and less than 1.
        prune_ffn: the share of all feed-forward rows.
        examples: how many training examples this is decided on.
        seed: decides which.

    Raises:
        UserError: the method cannot be merged, the architecture cannot be cut, or the data has changed.
    """
    shares: dict[Kind, float] = {"heads": prune_heads, "ffn": prune_ffn}
    for kind, share in shares.items():
        if not 0 <= share < 1:
            raise ConfigError(f"prune_{kind}={share:g}: a share of all, at least 0 and less than 1")
    if drop_layers < 0:
        raise ConfigError(f"drop_layers={drop_layers}: a number of layers, 0 or more")
    model, head = whole(run)
    chosen = {kind: share for kind, share in shares.items() if share}
    batches = sample(run, examples, seed) if drop_layers or chosen else []
    before = run.parts.peft if isinstance(run.parts.peft, Sliced) else None
    cutting = _Cutting(model, before, head, run.spec.task, batches)
    if drop_layers:
        cutting.drop(drop_layers)
    if chosen:
        cutting.prune(chosen)
    weights = model.state_dict()

    def fill(made: nn.Module) -> None:
        made.load_state_dict(weights)

    return Cut(cutting.section(), fill, cutting.chosen)


def whole(run: FinishedRun) -> tuple[nn.Module, tuple[str, ...]]:
    """Return the model of `run` merged, of the size that it has, and the names of the head's modules.

    Raises:
        UserError: the method cannot be merged.
    """
    method = run.parts.peft
    model, context = adapted_model(run.parts, run.pretrained)
    run.load_adapter(model)
    if not isinstance(method, Sliced):  # whose merging would fill it up to its size before
        dequantize(model)
        model = method.merge(model)
    return model.eval().to(run.device), context.head


class _Cutting:
    """Cuts a model, which is changed in place, and keeps account of what is left of the pretrained one."""

    def __init__(
        self, model: nn.Module, before: Sliced | None, head: Iterable[str], task: Task, batches: Sequence[Batch]
    ) -> None:
        self.model, self.head, self.task, self.batches = model, tuple(head), task, batches
        self.learning_rate = before.learning_rate if before else LEARNING_RATE
        self.heads, self.ffn = (dict(before.heads), dict(before.ffn)) if before else ({}, {})
        self.chosen: dict[str, Any] = {}

    @property
    def numbers(self) -> list[int]:
        """The number in the pretrained model of each layer."""
        return [getattr(same[0], NUMBER, number) for number, same in all_layers(self.model, self.head).items()]

    def drop(self, count: int) -> None:
        """Leave out so many layers."""
        numbers = self.numbers
        gone = least_needed_layers(self.model, self.task, self.batches, self.head, count)
        self.chosen["layers"] = sorted(numbers[number] for number in gone)
        keep_layers(self.model, [number for number in range(len(numbers)) if number not in gone], self.head)

    def prune(self, shares: Mapping[Kind, float]) -> None:
        """Cut out these shares of the heads and rows, and scale those that are left."""
        every = {kind: self._units(kind) for kind in shares}
        for kind, share in shares.items():
            _check_share(kind, share, [one.count for one in every[kind]])
        scores = importances(self.model, self.task, self.batches, [one for same in every.values() for one in same])
        unpruned = copy.deepcopy(self.model)
        pruned: list[tuple[int, Kind]] = []
        for (kind, share), of_kind in zip(shares.items(), every.values(), strict=True):
            of_layers, scores = scores[: len(of_kind)], scores[len(of_kind) :]
            gone: dict[str, Any] = {}
            for layer, (number, kept) in enumerate(zip(self.numbers, best(of_layers, share), strict=True)):
                if len(kept) < of_kind[layer].count:
                    gone[str(number)] = self._keep(kind, number, of_kind[layer], kept)
                    pruned.append((layer, kind))
            self.chosen[kind] = gone
        blocks, whole_blocks = layers_of(self.model, self.head), layers_of(unpruned, self.head)
        order: list[Kind] = ["heads", "ffn"]
        pairs = [
            (units(blocks[layer], kind), units(whole_blocks[layer], kind))
            for layer, kind in sorted(pruned, key=lambda one: (one[0], order.index(one[1])))
        ]
        scale(self.model, unpruned, [(a, b) for a, b in pairs if a and b], self.task, self.batches[::_TUNED_ON])

    def _units(self, kind: Kind) -> list[Units]:
        every = [units(block, kind) for block in layers_of(self.model, self.head).values()]
        known = [each for each in every if each is not None]
        if len(known) < len(every):
            raise ConfigError(f"prune_{kind}: they cannot be cut out of the layers of {type(self.model).__name__}")
        return known

    def _keep(self, kind: Kind, number: int, present: Units, kept: list[int]) -> list[int] | int:
        """Leave only the units `kept` in a layer; return the heads that are gone, or the number of rows."""
        present.keep(kept)
        if kind == "ffn":
            self.ffn[number] = len(kept)
            return present.count - len(kept)
        before = self.heads.get(number, list(range(present.count)))
        self.heads[number] = [before[head] for head in kept]
        return [head for head in before if head not in self.heads[number]]

    def section(self) -> dict[str, Any]:
        """Return the section of the configuration of the method that makes this architecture."""
        numbers = self.numbers
        is_shorter = any(hasattr(same[0], NUMBER) for same in all_layers(self.model, self.head).values())
        return {
            "_target_": f"{Sliced.__module__}.{Sliced.__qualname__}",
            "name": "sliced",
            "learning_rate": self.learning_rate,
            "layers": numbers if is_shorter else None,
            "heads": {str(number): self.heads[number] for number in numbers if number in self.heads},
            "ffn": {str(number): self.ffn[number] for number in numbers if number in self.ffn},
        }


def _check_share(kind: Kind, share: float, counts: Sequence[int]) -> None:
    """Check that a share of all units, of which the layers have `counts`, can be cut out.

    Raises:
        ConfigError: it is less than one unit, or more than can go.
    """
    whole, what = sum(counts), {"heads": "heads", "ffn": "feed-forward rows"}[kind]
    most = whole - len(counts)
    if not 1 <= round(share * whole) <= most:
        allowed = f"give a share from {1 / whole:.2g} to {most / whole:.2g}" if most else "leave it out"
        raise ConfigError(
            f"prune_{kind}={share:g}: of {whole:,} {what} that is {round(share * whole):,}, and as each of the "
            f"{len(counts)} layers keeps one, at least 1 and at most {most:,} can go: {allowed}"
        )


def best(scores: Sequence[Tensor], share: float) -> list[list[int]]:
    """Return which units of each tensor (units,) are kept: all but the `share` of all with the lowest scores.

    The best unit of each tensor is kept, whatever its score.
    """
    every = [(float(score), place, unit) for place, of in enumerate(scores) for unit, score in enumerate(of)]
    safe = {(place, int(of.argmax())) for place, of in enumerate(scores)}
    ranked = [(place, unit) for _, place, unit in sorted(every) if (place, unit) not in safe]
    gone = set(ranked[: round(share * len(every))])
    return [[unit for unit in range(len(of)) if (place, unit) not in gone] for place, of in enumerate(scores)]


@torch.no_grad()
def scale(
    model: nn.Module, unpruned: nn.Module, pairs: Iterable[tuple[Units, Units]], task: Task, batches: Sequence[Batch]
) -> None:
    """Multiply each unit of a pruned `model` by a factor, so that its layers give nearly what those of `unpruned` do.

    In the order of the layers, the factors minimise the squared difference between the outputs of the two for the same
    tokens (Kwon et al. 2022, section 4.3), with a penalty on their distance from 1.

    Args:
        model: the pruned model, whose weights are changed.
        unpruned: the model before.
        pairs: the units of the pruned model and those of the unpruned one, in the order in which they are computed.
        task: the task.
        batches: inputs, on the models' device.
    """
    for units_left, all_units in pairs:
        weight, whole_weight = matrix(units_left.out).double(), matrix(all_units.out).double()
        gram = torch.zeros(weight.shape[1], weight.shape[1], dtype=torch.float64, device=weight.device)
        aim = torch.zeros(weight.shape[1], dtype=torch.float64, device=weight.device)
        for batch in batches:
            left, every = (_read(one, of, task, batch) for one, of in ((model, units_left), (unpruned, all_units)))
            gram += left.T @ left
            aim += (left * (every @ whole_weight.T @ weight)).sum(0)
        shape = units_left.columns().shape
        gram = (gram * (weight.T @ weight)).view(*shape, *shape).sum((1, 3))
        aim = aim.view(shape).sum(1)
        held = RIDGE * gram.diagonal().mean()
        identity = torch.eye(units_left.count, dtype=torch.float64, device=gram.device)
        factors = torch.linalg.solve(gram + held * identity, aim + held)
        units_left.multiply(factors)


def _read(model: nn.Module, units_of: Units, task: Task, batch: Batch) -> Tensor:
    """Return what the layer that reads the units reads at every real token, (tokens, inputs), in fp64."""
    kept: list[Tensor] = []

    def keep(states: Tensor) -> Tensor:
        kept.append(states)
        return states

    with units_of.read_through(keep):
        task.outputs(model, batch)
    (states,) = kept
    return (states.flatten(0, 1) if batch.real is None else states[batch.real.bool()]).double()
