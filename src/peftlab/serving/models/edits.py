"""What a fine-tuned model does otherwise than the backbone that it shares, module by module.

Most methods change linear layers and normalisations by a few vectors or small matrices. Where a module of a run is of
that form, one pass computes the rows of many runs: the backbone's own part at once, and each row's with the vectors of
its run. A module of another form is called by itself, on the rows of its run.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from inspect import signature
from typing import Any, NamedTuple

import torch
from peft.tuners.adalora.layer import SVDLinear
from peft.tuners.ia3.layer import Linear as IA3Linear
from peft.tuners.ln_tuning.layer import LNTuningLayer
from peft.tuners.lora.dora import DoraLinearLayer
from peft.tuners.lora.layer import Linear as LoraLinear
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from torch.nn import functional as F

from peftlab.packing.joint_model import DROPOUTS, options_of
from peftlab.seams.pytorch import after_pre_hooks, is_hooked, mapped, pre_hooked
from peftlab.speed.lora import FusedLoraLinear

COUNTED = "past_key_values_length"
"""The argument of embeddings with the number of positions before the first token."""

_ROUNDING = 1e-5
"""How far the product of two small matrices may be from a change of a weight, as a share of its norm, to stand for it:
PiSSA and OLoRA subtract such a product from the weight, in fp32."""


class NotSharedError(Exception):
    """A model differs from its backbone as a whole, so that it is computed by itself; says why."""


class Linear(NamedTuple):
    """y = (W x' + up down x' + b) * outputs + shift with x' = x * inputs, in place of y = W x + b."""

    down: Tensor | None = None
    """(rank, in)."""
    up: Tensor | None = None
    """(out, rank)."""
    inputs: Tensor | None = None
    """(in,)."""
    outputs: Tensor | None = None
    """(out,)."""
    shift: Tensor | None = None
    """(out,)."""


class Norm(NamedTuple):
    """A layer normalisation with another scale and shift, (size,) each."""

    weight: Tensor
    bias: Tensor


class Apart(NamedTuple):
    """The run's own module computes its rows, in place of the backbone's."""

    module: nn.Module
    before: int = 0
    """Positions before the tokens of a row, of a prefix in the run's attention."""

    def __call__(self, args: Any, kwargs: Any) -> Any:
        """Return the module's output for arguments meant for the backbone's module."""
        if self.before:
            args, kwargs = mapped(self._lengthened, (args, kwargs))
            kwargs = {key: self.before if key == COUNTED else value for key, value in kwargs.items()}
        return self.module(*args, **kwargs)

    def _lengthened(self, leaf: Any) -> Any:
        """Return a mask of attention, (rows, heads or 1, tokens or 1, tokens), in which the prefix is visible."""
        if not isinstance(leaf, Tensor) or leaf.dim() != 4:
            return leaf
        return F.pad(leaf, (self.before, 0), value=leaf.dtype == torch.bool)


Edit = Linear | Norm | Apart


@dataclass
class Edits:
    """The differences of one model from its backbone, by the names of the backbone's modules."""

    edits: dict[str, Edit] = field(default_factory=dict)
    hooks: dict[str, nn.Module] = field(default_factory=dict)
    """Modules of the run whose hooks act around the module of that name: inserted adapters, say."""
    encoder: nn.Module | None = None
    """The run's encoder, if it has hooks that look at its inputs."""
    prefix: int = 0
    """Positions that the run's attention has before the tokens of a row."""

    @property
    def apart(self) -> list[str]:
        """The modules that the run computes by itself."""
        return [name for name, edit in self.edits.items() if isinstance(edit, Apart)]

    def separate(self, place: str) -> None:
        """Have the run compute the module `place`, around which its hooks act, by itself."""
        self.edits[place] = Apart(self.hooks.pop(place), self.prefix)


def edits_of(base: nn.Module, own: nn.Module, left_out: Collection[str]) -> Edits:
    """Return how `own` differs from `base`: the same encoder after a method was applied to it.

    Frozen tensors of `own` share the memory of those of `base`.

    Args:
        base: the plain encoder.
        own: that of the run.
        left_out: names of modules in them that are part of the head.

    Raises:
        NotSharedError: they differ as a whole, and not only in modules.
    """
    if type(base) is not type(own):
        raise NotSharedError(f"its encoder is a {type(own).__name__}, and the backbone a {type(base).__name__}")
    found = Edits()
    if pre_hooked(own):
        found.encoder, found.prefix = own, _prefix_of(own)
    for name, child in base.named_children():
        if name not in left_out:
            _compare(name, child, own.get_submodule(name), found)
            found.hooks.pop(name, None)  # they act when the head is computed, see `Trunk`
            if found.prefix and COUNTED in signature(type(child).forward).parameters:
                found.edits[name] = Apart(own.get_submodule(name), found.prefix)
    replaced = [base.get_submodule(name) for name in found.apart if _has_own_weights(found.edits[name], base, name)]
    if 2 * sum(map(_size, replaced)) > _size(base):
        raise NotSharedError("most of its weights are its own")
    return found


def _prefix_of(encoder: nn.Module) -> int:
    """Return how many positions the hooks of a run's encoder put before each text.

    Raises:
        NotSharedError: they do something else, too.
    """
    mask = torch.ones(1, 1, dtype=torch.long)
    args, kwargs = after_pre_hooks(encoder, (), {"attention_mask": mask})
    past = kwargs.pop("past_key_values", None)
    length = 0 if past is None else int(past.get_seq_length())
    if args or kwargs.keys() != {"attention_mask"} or kwargs["attention_mask"].shape != (1, 1 + length):
        raise NotSharedError("its method changes the inputs of the whole encoder")
    return length


def _has_own_weights(edit: Any, base: nn.Module, name: str) -> bool:
    return type(edit.module) is type(base.get_submodule(name)) and not is_hooked(edit.module)


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _compare(name: str, base: nn.Module, own: nn.Module, found: Edits) -> None:
    """Add the differences of `own` and of what is below it to those `found`."""
    if isinstance(base, DROPOUTS) and isinstance(own, DROPOUTS):  # without effect outside of training
        return
    edit = _edit(base, own)
    if edit is not None:
        if edit != Linear():
            found.edits[name] = edit
    elif not _is_alike(base, own):
        found.edits[name] = Apart(own)
        return
    if is_hooked(own):
        found.hooks[name] = own
    if isinstance(own, BaseTunerLayer):
        return
    for child, module in base.named_children():
        _compare(f"{name}.{child}", module, own.get_submodule(child), found)


def _edit(base: nn.Module, own: nn.Module) -> Edit | None:
    """Return the edit that makes `base` compute as `own`, if there is one for its class; ``Linear()``: there is none
    to make."""
    make = _EDITS.get(type(own))
    return None if make is None else make(own, base)


def _of_linear(own: nn.Linear, base: nn.Module) -> Edit | None:
    return _with_base(Linear(), own, base, rank=0)


def _of_norm(own: nn.LayerNorm, base: nn.Module) -> Edit | None:
    if type(base) is not nn.LayerNorm or base.bias is None or own.eps != base.eps or _is_same(own, base):
        return None
    return Norm(own.weight, own.bias)


def _of_tuned_norm(own: Any, base: nn.Module) -> Edit | None:
    return _of_norm(own.ln_tuning_layers[own.active_adapters[0]], base)


def _of_ia3(own: IA3Linear, base: nn.Module) -> Edit | None:
    scale = own.ia3_l[own.active_adapters[0]].flatten()
    edit = Linear(inputs=scale) if own.is_feedforward else Linear(outputs=scale)
    return _with_base(edit, own.get_base_layer(), base, rank=0)


def _of_adalora(own: SVDLinear, base: nn.Module) -> Edit | None:
    name = own.active_adapters[0]
    factor = own.scaling[name] / (own.ranknum[name] + 1e-5)  # as the library divides
    edit = Linear(own.lora_A[name] * own.lora_E[name], own.lora_B[name] * factor)
    return _with_base(edit, own.get_base_layer(), base, rank=0)


def _of_lora(own: LoraLinear, base: nn.Module) -> Edit | None:
    name, layer = own.active_adapters[0], own.get_base_layer()
    down, up = own.lora_A[name], own.lora_B[name]
    scaled = up.weight * own.scaling[name]
    edit = Linear(down.weight, scaled)
    if up.bias is not None:
        edit = edit._replace(shift=up.bias * own.scaling[name])
    if not own.lora_variant:
        return _with_base(edit, layer, base, rank=len(down.weight))
    variant: Any = own.lora_magnitude_vector[name] if own.lora_magnitude_vector else None
    if type(variant) is not DoraLinearLayer or up.bias is not None:
        return None
    # Liu et al. 2024, equation 5: the norm of each output's weights is replaced by a trained one
    merged = layer.weight + scaled @ down.weight
    outputs = variant.weight / torch.linalg.norm(merged, dim=1)
    shift = None if layer.bias is None else layer.bias * (1 - outputs)
    return _with_base(edit._replace(outputs=outputs, shift=shift), layer, base, rank=0)


_EDITS: dict[type[nn.Module], Callable[[Any, nn.Module], Edit | None]] = {
    nn.Linear: _of_linear,
    nn.LayerNorm: _of_norm,
    LNTuningLayer: _of_tuned_norm,
    IA3Linear: _of_ia3,
    SVDLinear: _of_adalora,
    LoraLinear: _of_lora,
    FusedLoraLinear: _of_lora,
}
"""By exact type. Each returns None for a layer of a form that no edit has."""


def _with_base(edit: Linear, own: nn.Module, base: nn.Module, rank: int) -> Edit | None:
    """Return `edit` with the difference of the layer below it, `own`, from `base`; None: no edit has it.

    Args:
        edit: what is added to the layer.
        own: the layer.
        base: the backbone's.
        rank: the rank of the change that its weight may have.
    """
    if type(own) is not nn.Linear or type(base) is not nn.Linear:
        return None
    if is_hooked(own) and edit != Linear():  # they act within the layer around it
        return None
    if not torch.equal(own.weight, base.weight):
        change = _factors(own.weight - base.weight, rank)
        if change is None or edit.down is None or edit.outputs is not None:
            return None
        edit = edit._replace(down=torch.cat([edit.down, change[0]]), up=torch.cat([edit.up, change[1]], 1))  # type: ignore[list-item]
    if own.bias is not None and not torch.equal(own.bias, base.bias):
        if edit.outputs is not None:
            return None
        more = own.bias - base.bias
        edit = edit._replace(shift=more if edit.shift is None else edit.shift + more)
    return edit


def _factors(change: Tensor, rank: int) -> tuple[Tensor, Tensor] | None:
    """Return matrices, (rank, in) and (out, rank), whose product is `change`; None: it has a higher rank."""
    if not rank:
        return None
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        left, values, right = torch.svd_lowrank(change, q=min(rank, *change.shape), niter=4)
    up, down = left * values, right.T
    return (down, up) if (up @ down - change).norm() <= _ROUNDING * change.norm() else None


def _is_alike(base: nn.Module, own: nn.Module) -> bool:
    """Return whether the code of both modules computes the same, apart from the modules below them."""
    names = {name for name, _ in base.named_children()}
    more = {name for name, _ in own.named_children()} - names
    return (
        type(base) is type(own)
        and all(_is_as_long(child, dict(own.named_children()).get(name)) for name, child in base.named_children())
        and (not more or is_hooked(own))  # whose hooks call them
        and _options(base) == _options(own)
        and _is_same(base, own)
    )


def _is_as_long(base: nn.Module, own: nn.Module | None) -> bool:
    """Return whether a run has a child of its module, with as many modules if it is a list of some."""
    return own is not None and (not isinstance(base, nn.ModuleList) or len(base) == len(own))  # type: ignore[arg-type]


def _options(module: nn.Module) -> dict[str, Any]:
    """Return the plain attributes of a module that matter outside of training."""
    return {key: value for key, value in options_of(module).items() if key != "training" and "dropout" not in key}


def _is_same(base: nn.Module, own: nn.Module) -> bool:
    """Return whether the module's own parameters and buffers have equal values."""
    theirs, mine = (
        {**dict(one.named_parameters(recurse=False)), **dict(one.named_buffers(recurse=False))} for one in (base, own)
    )
    return theirs.keys() == mine.keys() and all(
        tensor is mine[name] or (tensor.shape == mine[name].shape and torch.equal(tensor, mine[name]))
        for name, tensor in theirs.items()
    )
