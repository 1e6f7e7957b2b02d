"""The weights of finished runs as those of plain models: what a method has added to the pretrained ones."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from safetensors import safe_open
from torch import Tensor

from peftlab.errors import UserError
from peftlab.methods.head import head_of, is_of_head, output_of
from peftlab.models.quantizing import dequantize
from peftlab.storage.tensors import save

if TYPE_CHECKING:
    from peftlab.use.finished import FinishedRun

PIECE = 2**22
"""Values of a tensor, of all runs together, that are in memory at once."""


class Original(NamedTuple):
    """What the weights of a run were before any fine-tuning."""

    weights: dict[str, Tensor]
    """By name, those of the pretrained model with the task's head."""
    fresh: frozenset[str]
    """Names of those that are not pretrained: they are drawn at random."""


@dataclass(frozen=True)
class Changes:
    """What a run has made of the pretrained weights; tensors are by their names in the plain model, in fp32."""

    of_pretrained: dict[str, Tensor]
    """Fine-tuned minus pretrained weights; of an unchanged tensor there is none."""
    fresh: dict[str, Tensor]
    """The tensors of a head that is not pretrained, as they are."""


def changes(run: FinishedRun) -> Changes:
    """Return what `run` has changed, whatever its method: its merged weights minus the original ones.

    Original are the weights that the pretrained model has, also where a method rewrites them before it trains (PiSSA,
    OLoRA), or where the run keeps them in few bits: then their rounding is a part of the change.

    Raises:
        UserError: the method cannot be merged.
    """
    original, weights = original_weights(run), merged_weights(run)
    _check_shapes(run, weights, _shapes(original.weights))
    pretrained = weights.keys() - original.fresh
    differences = {name: weights[name] - original.weights[name] for name in weights if name in pretrained}
    return Changes(
        {name: change for name, change in differences.items() if change.any()},
        {name: weights[name] for name in weights if name in original.fresh},
    )


def original_weights(run: FinishedRun) -> Original:
    """Return the weights that the pretrained model of `run` has, with the task's head."""
    with torch.random.fork_rng(devices=[]):  # a new head draws random numbers
        backbone = run.pretrained.load(run.parts.task)
    weights = {name: parameter.detach() for name, parameter in backbone.model.named_parameters()}
    return Original(weights, backbone.context.fresh)


def check_mergeable(run: FinishedRun) -> None:
    """Check that the method of `run` can be merged.

    Raises:
        UserError: it cannot.
    """
    if not run.parts.peft.mergeable:
        raise UserError(
            f"{run.folder.path}: peft={run.parts.peft.name} adds to the model what no weight of the plain model can "
            "hold, so the run has no place among weights that are merged. Leave it out, or average the answers: "
            "--how average"
        )


def merged_weights(run: FinishedRun, labels: Sequence[str] | None = None) -> dict[str, Tensor]:
    """Return the weights of the plain model that computes what `run` computes, by name, in fp32 on the CPU.

    Where the backbone is quantised, the method is merged into the rounded weights in full precision.

    Args:
        run: the run.
        labels: the labels of the output layer's rows, in order; None: the run's own.

    Raises:
        UserError: the method cannot be merged, or the run has other labels.
    """
    check_mergeable(run)
    with torch.random.fork_rng(devices=[]):
        model = run.adapted()
    dequantize(model)
    try:
        plain = run.parts.peft.merge(model)
    except UserError as error:
        raise UserError(f"{run.folder.path}: {error}") from error
    weights = {name: parameter.detach().cpu().float() for name, parameter in plain.named_parameters()}
    own = run.parts.task.labels
    if labels is None or list(labels) == list(own):
        return weights
    check_labels(run, labels)
    output = output_of(plain, head_of(plain))
    if not output:
        raise UserError(
            f"{run.folder.path}: its labels are in another order than those of the first run, and the head of "
            f"task={run.parts.task.name} has no single output layer whose rows could be put in order. Leave it out"
        )
    order = [own.index(label) for label in labels]
    return {name: weight[order] if is_of_head(name, (output,)) else weight for name, weight in weights.items()}


def check_labels(run: FinishedRun, labels: Sequence[str]) -> None:
    """Check that `run` has these `labels`, in any order.

    Raises:
        UserError: it has others.
    """
    if odd := sorted({*run.parts.task.labels} ^ {*labels}):
        raise UserError(
            f"{run.folder.path}: its labels are not those of the first run: {', '.join(odd[:5])} "
            f"{'is' if len(odd) == 1 else 'are'} in one of them only, and a merged head has one row for each label"
        )


class Shelf:
    """The weights of runs on disk, each in a file, so that any number of them can be merged piece by piece.

    A file holds the tensors that differ from the original ones; they are read as needed.
    """

    def __init__(self, folder: Path, original: Original) -> None:
        """Write the `original` weights to `folder`."""
        self.folder, self.fresh = folder, original.fresh
        self.shapes = _shapes(original.weights)
        self.sizes = {name: math.prod(shape) for name, shape in self.shapes.items()}
        self.original = _laid(original.weights, folder / "original.safetensors")
        self.runs: list[_File] = []

    def add(self, run: FinishedRun, labels: Sequence[str]) -> None:
        """Write the merged weights of `run`, with the rows of its head in the order of `labels`.

        Raises:
            UserError: it cannot be merged, or its model is another one.
        """
        weights = merged_weights(run, labels)
        _check_shapes(run, weights, self.shapes)
        new = {
            name: weight
            for name, weight in weights.items()
            if not torch.equal(weight.flatten(), self.original.read(name, 0, self.sizes[name]))
        }
        self.runs.append(_laid(new, self.folder / f"{len(self.runs)}.safetensors"))

    def changed(self, name: str) -> bool:
        """Return whether any of the runs has changed the tensor `name`."""
        return any(name in run.names for run in self.runs)

    def pieces(self, name: str, runs: Sequence[int]) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Yield the places of values in the flattened tensor `name`, their original ones, and those of `runs`.

        The shapes are (values,) and (runs, values).
        """
        step = max(1, PIECE // (len(runs) + 1))
        for start in range(0, self.sizes[name], step):
            stop = min(start + step, self.sizes[name])
            original = self.original.read(name, start, stop)
            files = [self.runs[run] for run in runs]
            theirs = [file.read(name, start, stop) if name in file.names else original for file in files]
            yield slice(start, stop), original, torch.stack(theirs)

    def changes(self, run: int) -> Iterator[Tensor]:
        """Yield what a run has added to the pretrained weights, in pieces of shape (values,)."""
        for name in sorted(self.runs[run].names - self.fresh):
            for _, original, (weights,) in self.pieces(name, [run]):
                yield weights - original


class _File:
    """Flattened tensors in a file, parts of which can be read."""

    def __init__(self, path: Path) -> None:
        file: Any = safe_open(path, framework="pt")
        self.file, self.names = file, frozenset(map(str, file.keys()))

    def read(self, name: str, start: int, stop: int) -> Tensor:
        """Return some values of the tensor `name`, (values,)."""
        values: Tensor = self.file.get_slice(name)[start:stop]
        return values


def _laid(tensors: Mapping[str, Tensor], path: Path) -> _File:
    save({name: tensor.flatten() for name, tensor in tensors.items()}, path)
    return _File(path)


def _shapes(weights: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(weight.shape) for name, weight in weights.items()}


def _check_shapes(run: FinishedRun, weights: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> None:
    if odd := sorted(name for name, _ in _shapes(weights).items() ^ shapes.items()):
        raise UserError(
            f"{run.folder.path}: its model is not made like the pretrained one, and cannot be merged with others: "
            f"{odd[0]} is in one of them only, or of another shape. Average the answers instead: --how average"
        )
