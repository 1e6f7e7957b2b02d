"""Finds the border of a model: layers below it are frozen and deterministic, so training can start from their output.

It is found by observing a forward pass, which works for any architecture of repeated layers. Plain PyTorch.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from peftlab.methods.targets import blocks_of
from peftlab.storage.tensors import sha256_of

STATES = "border_states"
"""The model input that holds the hidden states at its border, (rows, tokens, hidden)."""


class NoBorderError(Exception):
    """The model has no border; the message says why."""

    def __init__(self, reason: str, avoidable: bool = False) -> None:
        super().__init__(reason)
        self.avoidable = avoidable
        """Whether other settings would give the same method a border."""


@dataclass(frozen=True)
class Border:
    """The point that training can start from."""

    below: list[nn.Module]
    """The skipped modules: the layers below in the order of their calls, or the whole encoder below a head."""
    layers: int
    """Number of skipped layers."""
    of_layers: int
    """Number of layers of the model."""
    handing_on: Callable[[Tensor], Any]
    """Turns hidden states into the output of the last skipped module."""
    hidden: int
    """The size of a token's activations."""
    dtype: torch.dtype
    """The dtype of the activations."""
    sha256: str
    """Digest of every tensor that is used below."""


def find_border(model: nn.Module, inputs: Mapping[str, Tensor], dtype: torch.dtype | None = None) -> Border:
    """Observe a forward pass of `model` in training mode on the CPU, and return its highest border.

    A tensor counts as used at the first call of the innermost module around it that is called at all, since some
    modules are used without a call. Then the border is checked: started from there, the model must compute exactly the
    same bits, whatever the padding holds.

    Args:
        model: a model with the method applied; ``requires_grad`` marks the trained parameters.
        inputs: of its forward: two rows of unequal lengths, with their ``attention_mask``.
        dtype: of autocast in training; None: no autocast.

    Raises:
        NoBorderError: weights are trained or random numbers drawn before the first layer ends, layers pass on more
            than hidden states, or the inputs are not tokens.
    """
    if not inputs.keys() >= {"input_ids", "attention_mask"}:  # a mask of samples is none of hidden states
        raise NoBorderError(f"the inputs of {type(model).__name__} are no tokens, by which activations are kept")
    was_training = model.training
    with torch.no_grad(), torch.autocast("cpu", dtype, enabled=dtype is not None):
        border = _highest(model, inputs, *_watch(model.train(), inputs))
        model.eval()
        same = _is_the_same(model, border, inputs)
        model.train(was_training)
    if not same:
        raise NoBorderError(f"the layers of {type(model).__name__} hand on more than their hidden states")
    return border


class _Ended(NamedTuple):
    time: int
    random: bool
    """Whether a random number had been drawn before."""
    output: Any


def _watch(model: nn.Module, inputs: Mapping[str, Tensor]) -> tuple[dict[str, int], dict[nn.Module, _Ended]]:
    """Return when each module is first called, and how each layer and the encoder below the head last end."""
    clock = itertools.count()
    called: dict[str, int] = {}
    ended: dict[nn.Module, _Ended] = {}

    def note_call(name: str) -> None:
        called.setdefault(name, next(clock))

    def note_end(module: nn.Module, _: Any, output: Any) -> None:
        ended[module] = _Ended(next(clock), not torch.equal(torch.get_rng_state(), before), output)

    with torch.random.fork_rng(devices=[]), ExitStack() as hooks:
        before = torch.get_rng_state()
        for name, module in model.named_modules():
            hook = module.register_forward_pre_hook(lambda *_, name=name: note_call(name))
            hooks.callback(hook.remove)
        for module in blocks_of(model):
            hooks.callback(module.register_forward_hook(note_end).remove)
        # before what pools its output, which is computed above the border
        hooks.callback(getattr(model, "base_model", model).register_forward_hook(note_end, prepend=True).remove)
        # torch warns when a layer is bypassed in spite of its hooks, which is what these detect
        hooks.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", message=".*hooks set which will be ignored.*")
        model(**inputs)
    return called, ended


def _highest(
    model: Any, inputs: Mapping[str, Tensor], called: Mapping[str, int], ended: Mapping[nn.Module, _Ended]
) -> Border:
    layers = set(blocks_of(model)) & ended.keys()
    first_trained = min(_first_use(name, called) for name, p in model.named_parameters() if p.requires_grad)
    # an encoder that returns more, such as a pooled state, is not skipped as a whole
    alone = [module for module, end in ended.items() if module in layers or len(end.output) == 1]
    if "decoder_input_ids" in inputs:  # what is kept is that of the source's tokens, of which a decoder has none
        of_source = set(model.get_encoder().modules())
        alone = [module for module in alone if module in of_source]
    frozen = sorted((module for module in alone if ended[module].time < first_trained), key=lambda m: ended[m].time)
    below = [module for module in frozen if not ended[module].random]
    if not frozen:
        raise NoBorderError("weights are trained from the first layer on, so that every activation changes")
    if not below:
        raise NoBorderError(
            "dropout changes them in every epoch below the first layer that is trained; "
            "switch it off there: model.dropout=0 model.attention_dropout=0",
            avoidable=True,
        )
    last = ended[below[-1]]
    states = hidden_states(last.output)
    tensors = itertools.chain(model.named_parameters(), model.named_buffers())
    return Border(
        below=[module for module in below if module in layers] if below[-1] in layers else below[-1:],
        layers=len(layers.intersection(below)),
        of_layers=len(layers),
        handing_on=_like(last.output),
        hidden=states.shape[-1],
        dtype=states.dtype,
        sha256=sha256_of({name: t for name, t in tensors if _first_use(name, called) < last.time}),
    )


def hidden_states(output: Any) -> Tensor:
    """Return the hidden states in the output of a layer or an encoder: its first item."""
    states: Tensor = output if isinstance(output, Tensor) else output[0]
    return states


def _like(output: Any) -> Callable[[Tensor], Any]:
    """Return a function that builds an output like `output` from other hidden states alone."""
    if isinstance(output, Tensor):
        return lambda states: states
    if isinstance(output, tuple):
        return lambda states: (states, *[None] * (len(output) - 1))
    first = next(iter(output))
    return lambda states: type(output)(**{first: states})


def _first_use(tensor: str, called: Mapping[str, int]) -> int:
    module = tensor
    while module:
        module = module.rpartition(".")[0]
        if module in called:
            return called[module]
    return 0


def _is_the_same(model: nn.Module, border: Border, inputs: Mapping[str, Tensor]) -> bool:
    """Return whether `model`, started from `border`, computes the same bits for every token of `inputs`."""
    real = inputs["attention_mask"].bool()
    with watching(border) as seen:
        expected = model(**inputs)[0]
    with starting_from(border, model):
        actual = model(**inputs, **{STATES: seen[-1] * real.unsqueeze(-1)})[0]
    if expected.shape[:2] == real.shape:
        expected, actual = expected[real], actual[real]
    return torch.equal(expected, actual)


@contextmanager
def watching(border: Border) -> Iterator[list[Tensor]]:
    """Yield a list to which every pass through the last module below `border` appends its hidden states."""
    seen: list[Tensor] = []
    last = border.below[-1]
    hook = last.register_forward_hook(lambda _, __, output: seen.append(hidden_states(output)), prepend=True)
    try:
        yield seen
    finally:
        hook.remove()


@contextmanager
def starting_from(border: Border, model: nn.Module) -> Iterator[None]:
    """Let `model` skip the modules below `border` where `STATES` is among its inputs.

    That is for the pass of `model` itself: `generate` and others that call an inner module get all of its layers.

    Unless the whole encoder is skipped, everything before its first layer (embeddings, positions, masks) is still
    computed: it costs little, and the remaining layers may need some of it.
    """
    replacement: list[Tensor] = []

    def take(_: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        replacement[:] = [kwargs.pop(STATES)] if STATES in kwargs else []
        return args, kwargs

    def skipping(forward: Any) -> Any:
        def hand_on(*args: Any, **kwargs: Any) -> Any:
            return border.handing_on(replacement[0]) if replacement else forward(*args, **kwargs)

        return hand_on

    hooks = [
        model.register_forward_pre_hook(take, with_kwargs=True),
        model.register_forward_hook(lambda *_: replacement.clear(), always_call=True),
    ]
    for module in border.below:
        module.forward = skipping(module.forward)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for module in border.below:
            del module.forward  # restores that of its class
