"""What fine-tuning changed in the weights of a backbone: one description a matrix, whatever method made the change."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from peftlab.errors import UserError
from peftlab.methods.head import is_of_head
from peftlab.methods.method import Method, MethodContext
from peftlab.methods.sliced import Sliced
from peftlab.methods.targets import block_of
from peftlab.models.quantizing import dequantize
from peftlab.use.differing.forms import form_of
from peftlab.use.differing.passes import plain_model
from peftlab.use.differing.spectra import effective_rank, intruders, singular_values, stable_rank


@dataclass(frozen=True)
class Place:
    """Where a parameter is."""

    name: str
    """Its name in the plain model."""
    stack: str | None
    """The list of blocks that it is in, such as ``bert.encoder.layer``; None: it is in none, as an embedding."""
    block: int | None
    """The number of its block, from 0."""
    kind: str
    """Its name in its block, such as ``attention.self.query``; outside of blocks, its whole name."""


@dataclass(frozen=True)
class MatrixChange(Place):
    """The change of a matrix, against the pretrained one."""

    shape: tuple[int, int]
    """Outputs and inputs; of an embedding, words and features."""
    norm: float
    """The Frobenius norm of the pretrained matrix."""
    relative: float
    """That of the change, over it."""
    stable_rank: float
    effective_rank: float
    leading: float
    """The share of the squared norm of the change in its own first singular directions, as many as are judged."""
    intruders: int
    """Leading directions of the fine-tuned matrix that the pretrained one lacks, see `spectra.intruders`."""
    closest: float
    """The largest cosine of the leading direction that is furthest from those of the pretrained matrix."""
    scales_outputs: float
    """This and the next: see `forms.Form`."""
    scales_inputs: float
    rotates_inputs: float | None
    rotates_outputs: float | None
    angle: float
    factor: float
    spread: float


@dataclass(frozen=True)
class VectorChange(Place):
    """The change of a vector: a bias, or the factors of a normalisation."""

    size: int
    norm: float
    """The norm of the pretrained vector."""
    shift: float
    """The norm of its change."""
    factor: float | None
    """The mean of the factors between the entries of a normalisation's weight after and before; None: it is a bias."""
    spread: float | None
    """The standard deviation of these factors."""


@dataclass(frozen=True)
class WeightChanges:
    """The changes of the weights of a backbone."""

    matrices: list[MatrixChange]
    vectors: list[VectorChange]
    unchanged: int
    """How many of its parameters are what they were, bit for bit."""


def cut_alike(model: nn.Module, method: Method, context: MethodContext) -> nn.Module:
    """Return the pretrained `model`; if the method has cut layers or heads out of it, without these.

    Raises:
        UserError: rows were cut out of feed-forward layers: which ones, the run does not say.
    """
    if not isinstance(method, Sliced):
        return model
    if method.ffn:
        raise UserError(
            f"diff: peft={method.name} has cut rows out of feed-forward layers, and the others have no fixed place "
            "that they could be compared at. Compare the run that it was cut from"
        )
    return method.apply(model, context)


def tuned_weights(model: nn.Module, method: Method) -> tuple[dict[str, Tensor], str | None]:
    """Return the weights of a fine-tuned model, which is consumed, by their names in the plain model.

    Returns:
        the merged weights, and None; of a method that cannot be merged, the backbone's own weights, which it may train
        too, and what they do not show.
    """
    if isinstance(method, Sliced):  # merging would put zeros where heads were
        return dict(model.named_parameters()), None
    dequantize(model)
    try:
        return dict(method.merge(model).named_parameters()), None
    except UserError as error:
        reason = f"{error}. What it inserts shows in what it adds to hidden states and in the attention that it gets"
        return dict(plain_model(model).named_parameters()), reason


def weight_changes(
    before: nn.Module, after: Mapping[str, Tensor], head: Collection[str], top: int, below: float
) -> WeightChanges:
    """Describe the changes of all parameters of the backbone.

    Args:
        before: the pretrained model.
        after: the fine-tuned weights, by their names in it; those that are not there count as unchanged.
        head: the names of the modules of the task's head, which are left out.
        top: how many leading directions are judged.
        below: the cosine below which one of them is an intruder.

    Raises:
        ValueError: a weight has another shape than the pretrained one.
    """
    matrices, vectors, unchanged = [], [], 0
    for place, one, other in _pairs(before, after, head):
        if torch.equal(one, other):
            unchanged += 1
        elif one.ndim == 1:
            vectors.append(_vector(place, one, other))
        else:
            matrices.append(_matrix(place, one, other, top, below))
    return WeightChanges(matrices, vectors, unchanged)


def cosines(
    before: nn.Module, first: Mapping[str, Tensor], second: Mapping[str, Tensor], head: Collection[str]
) -> dict[str, float]:
    """Return the cosine between the changes of two runs, for each parameter of the backbone that both change.

    They are changes of whole weights: factors of the same change, such as those of LoRA, can have any cosine.
    """
    alike = {}
    others = {place.name: weight for place, _, weight in _pairs(before, second, head)}
    for place, one, weight in _pairs(before, first, head):
        change, other = ((after - one).double().flatten() for after in (weight, others[place.name]))
        if change.any() and other.any():
            alike[place.name] = float(change @ other / (change.norm() * other.norm()))
    return alike


def place_of(name: str) -> Place:
    """Return where the parameter `name` is."""
    stack, block = block_of(name) or (None, None)
    return Place(name, stack, block, name.removeprefix(f"{stack}.{block}.").removesuffix(".weight"))


def _pairs(
    before: nn.Module, after: Mapping[str, Tensor], head: Collection[str]
) -> Iterator[tuple[Place, Tensor, Tensor]]:
    """Yield the parameters of the backbone, pretrained and fine-tuned, matrices with a row for each output."""
    transposed = {f"{name}.weight" for name, module in before.named_modules() if isinstance(module, Conv1D)}
    for name, parameter in before.named_parameters():
        if is_of_head(name, head):
            continue
        one = parameter.detach().float()
        other = after.get(name, one).detach().float().to(one.device)
        if one.shape != other.shape:
            raise ValueError(f"{name} has the shape {tuple(other.shape)}, and was {tuple(one.shape)}")
        if one.ndim > 1:
            one, other = (weight.T if name in transposed else weight.flatten(1) for weight in (one, other))
        yield place_of(name), one.contiguous(), other.contiguous()


def _matrix(place: Place, before: Tensor, after: Tensor, top: int, below: float) -> MatrixChange:
    change = after - before
    values, norm = singular_values(change), float(before.norm())
    strange = intruders(before, after, top, below)
    return MatrixChange(
        **vars(place),
        shape=(before.shape[0], before.shape[1]),
        norm=norm,
        relative=float(change.norm()) / norm if norm else float("inf"),
        stable_rank=stable_rank(values),
        effective_rank=effective_rank(values),
        leading=float(values[:top].square().sum() / change.square().sum()),
        intruders=strange.count,
        closest=strange.closest,
        **form_of(before, after)._asdict(),
    )


def _vector(place: Place, before: Tensor, after: Tensor) -> VectorChange:
    is_bias = place.name.endswith("bias") or not bool(before.all())
    factors = None if is_bias else after / before
    return VectorChange(
        **vars(place),
        size=len(before),
        norm=float(before.norm()),
        shift=float((after - before).norm()),
        factor=None if factors is None else float(factors.mean()),
        spread=None if factors is None else float(factors.std(unbiased=False)),
    )
