"""What a model computes on the way to its outputs, caught by hooks: hidden states, attention, what a method adds."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from peftlab.errors import UserError
from peftlab.methods.generating import is_encoder_decoder, stack_of
from peftlab.methods.insertion import additions
from peftlab.methods.prefix import Prefix
from peftlab.methods.targets import is_attention
from peftlab.seams.transformers import attention_of
from peftlab.tasks.batch import Batch
from peftlab.tasks.task import IGNORED


class Layer(NamedTuple):
    """One of the repeated blocks of a model."""

    stack: str
    """The list that it is in, such as ``bert.encoder.layer``."""
    block: int
    """Its number, from 0; a block that is used several times, as ALBERT's, has one for each."""


class Attended(NamedTuple):
    """An attention of a block."""

    layer: Layer
    crosses: bool
    """Whether the tokens of a decoder attend to those of the encoder."""


@dataclass
class Observed:
    """What a forward pass has computed, at the tokens of the texts: those of prompts and prefixes are left out."""

    outputs: Any = None
    states: dict[Layer, Tensor] = field(default_factory=dict)
    """The hidden states after each block, (rows, tokens, hidden)."""
    real: dict[Layer, Tensor] = field(default_factory=dict)
    """Which of these tokens are not padding, (rows, tokens)."""
    attention: dict[Attended, Tensor] = field(default_factory=dict)
    """What each token attends to, (rows, heads, tokens, keys): distributions over the keys, those of virtual tokens
    first."""
    added: dict[str, Tensor] = field(default_factory=dict)
    """By the name of a module that a method has inserted, the norm of what it adds to each token's states, over the
    norm of these, (rows, tokens)."""
    prefixes: dict[str, Prefix] = field(default_factory=dict)
    """By the name of an attention, the keys and values before those of the text."""


def plain_model(model: nn.Module) -> PreTrainedModel:
    """Return the transformers model in `model`, whatever a method has wrapped around it.

    Raises:
        UserError: there is none, or there are several.
    """
    inside = [module for module in model.modules() if isinstance(module, PreTrainedModel)]
    whole = [one for one in inside if not any(one is not other and one in set(other.modules()) for other in inside)]
    if len(whole) != 1:
        raise UserError(
            f"diff: the run's model consists of {len(whole)} models of transformers, and its hidden states are not "
            "those of one. Compare the runs that it was made of"
        )
    return whole[0]


@contextmanager
def eager(model: PreTrainedModel) -> Iterator[None]:
    """Have `model` compute the weights of its attention in this context: kernels such as sdpa never hold them."""
    before = attention_of(model)
    if before == "eager":
        yield
        return
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


@torch.inference_mode()
def observed(model: nn.Module, batch: Batch) -> Observed:
    """Return what `model` computes for `batch`, whose texts are padded on the right."""
    plain = plain_model(model)
    catching = _Catching(plain, batch)
    with eager(plain), catching.hooks():
        catching.caught.outputs = model(**batch.inputs)
    return catching.caught


class _Catching:
    """The hooks on a model during one forward pass."""

    def __init__(self, model: PreTrainedModel, batch: Batch) -> None:
        self.model, self.batch, self.caught = model, batch, Observed()
        self._decoder = {*stack_of(model).modules()} if is_encoder_decoder(model) else set()
        self._within: Layer | None = None
        self._times: Counter[str] = Counter()

    @contextmanager
    def hooks(self) -> Iterator[None]:
        """Catch what passes in this context."""
        with ExitStack() as stack:
            for name, blocks in _stacks(self.model):
                for number, block in enumerate(blocks):
                    enter = partial(self._enter, name, number, len(blocks))
                    stack.callback(block.register_forward_pre_hook(enter).remove)
                    stack.callback(block.register_forward_hook(self._leave).remove)
            for name, module in self.model.named_modules():
                if is_attention(name):
                    stack.callback(module.register_forward_hook(partial(self._attended, name)).remove)
                    given = module.register_forward_pre_hook(partial(self._prefixed, name), with_kwargs=True)
                    stack.callback(given.remove)
            for name, module in additions(self.model).items():
                stack.callback(module.register_forward_hook(partial(self._added, name)).remove)
            yield

    def _enter(self, stack: str, number: int, length: int, *_: Any) -> None:
        self._within = Layer(stack, number + length * self._times[f"{stack}.{number}"])
        self._times[f"{stack}.{number}"] += 1

    def _leave(self, block: nn.Module, _: Any, output: Any) -> None:
        layer, self._within = self._within, None
        states = output if isinstance(output, Tensor) else output[0]
        if layer is None or states.ndim != 3:
            return
        real = self._real(block, states)
        self.caught.real[layer] = real
        self.caught.states[layer] = states[:, -real.shape[1] :].float()

    def _attended(self, name: str, _: Any, __: Any, output: Any) -> None:
        if self._within is None or not isinstance(output, tuple):
            return
        place = Attended(self._within, bool(re.search(r"enc\w*_?att|cross", name, re.IGNORECASE)))
        for part in output[1:]:
            if isinstance(part, Tensor) and part.ndim == 4 and _are_distributions(part):
                self.caught.attention.setdefault(place, part.float())

    def _prefixed(self, name: str, _: Any, __: Any, inputs: dict[str, Any]) -> None:
        if isinstance(past := inputs.get("past_key_values"), Prefix):
            self.caught.prefixes.setdefault(name, past)

    def _added(self, name: str, module: nn.Module, inputs: tuple[Tensor, ...], update: Tensor) -> None:
        real = self._real(module, update)
        sizes = [one[:, -real.shape[1] :].float().norm(dim=-1) for one in (update, inputs[0])]
        self.caught.added[name] = torch.where(real, sizes[0] / sizes[1].clamp(min=1e-12), torch.nan)

    def _real(self, module: nn.Module, states: Tensor) -> Tensor:
        """Return which tokens of the texts among `states`, those of `module`, are not padding, (rows, tokens)."""
        mask = self.batch.inputs.get("attention_mask")
        if module in self._decoder and "decoder_input_ids" in self.batch.inputs:
            mask = self.batch.targets["labels"] != IGNORED
        return states.new_ones(states.shape[:2], dtype=torch.bool) if mask is None else mask.bool()


def _stacks(model: nn.Module, name: str = "") -> Iterator[tuple[str, nn.ModuleList]]:
    """Yield the lists of repeated blocks with attention, with their names."""
    for child_name, child in model.named_children():
        path = f"{name}.{child_name}".lstrip(".")
        if not isinstance(child, nn.ModuleList):
            yield from _stacks(child, path)
        elif any(is_attention(inside) for inside, _ in child.named_modules()):
            yield path, child


def _are_distributions(part: Tensor) -> bool:
    """Return whether `part` holds attention weights, and no bias of positions."""
    return bool(part.min() >= 0) and bool((part.sum(-1) - 1).abs().median() < 1e-2)
