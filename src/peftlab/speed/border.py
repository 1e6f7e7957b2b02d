"""The border of a model: the layers below it are frozen and deterministic, and training can start from their output.

It is found by watching the model compute, so that any architecture of repeated blocks will do. Plain PyTorch.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from peftlab.sharding import blocks_of

STATES = "border_states"
"""Among the inputs of a model: what the last block below the border hands on, (rows, tokens, hidden)."""


class NoBorderError(Exception):
    """Why no layer computes the same every time."""

    def __init__(self, reason: str, avoidable: bool = False) -> None:
        super().__init__(reason)
        self.avoidable = avoidable
        """Whether other settings would have given the same method a border."""


@dataclass(frozen=True)
class Border:
    """Where training can start."""

    blocks: list[nn.Module]
    """Those below it, in the order of their calls."""
    of_blocks: int
    """How many the model has."""
    handed_on: int
    """Members of the tuple that a block returns, its hidden states first; 0: it returns them alone."""
    hidden: int
    """The size of a token's activations."""
    dtype: torch.dtype
    """Of the activations."""
    sha256: str
    """Of every tensor that is used below."""


def find_border(model: nn.Module, inputs: Mapping[str, Tensor], dtype: torch.dtype | None = None) -> Border:
    """Watch `model`, on the CPU, compute `inputs` in training mode, and return its highest border.

    A tensor counts as used when the innermost module around it that is called at all is called first, since some are
    used without a call of their own. Then the border is tried out: started from there, the model must compute the very
    same bits, whatever the padding holds.

    Args:
        model: with the method applied, ``requires_grad`` says what is trained.
        inputs: what its forward takes: two rows of unequal lengths, with their ``attention_mask``.
        dtype: of the autocast that the model is trained under; None: none.

    Raises:
        NoBorderError: weights are trained, or random numbers drawn, before the first block is over; or blocks hand on
            more than hidden states.
    """
    was_training = model.training
    with torch.no_grad(), torch.autocast("cpu", dtype, enabled=dtype is not None):
        called, ended, random, output = _watch(model.train(), inputs)
        model.eval()
        border = _highest(model, called, ended, random, output)
        same = _is_the_same(model, border, inputs)
        model.train(was_training)
    if not same:
        raise NoBorderError(f"the layers of {type(model).__name__} hand on more than their hidden states")
    return border


Calls = tuple[dict[str, int], dict[nn.Module, int], set[nn.Module], Any]


def _watch(model: nn.Module, inputs: Mapping[str, Tensor]) -> Calls:
    """Return when each module is called first, when each block is over last, the blocks that end after a random number
    has been drawn, and what a block returns.
    """
    clock = itertools.count()
    called: dict[str, int] = {}
    ended: dict[nn.Module, int] = {}
    random: set[nn.Module] = set()
    output: list[Any] = []

    def note_call(name: str) -> None:
        called.setdefault(name, next(clock))

    def note_end(block: nn.Module, _: Any, out: Any) -> None:
        ended[block] = next(clock)
        output[:] = [out]
        if not torch.equal(torch.get_rng_state(), before):
            random.add(block)

    with torch.random.fork_rng(devices=[]), ExitStack() as hooks:
        before = torch.get_rng_state()
        for name, module in model.named_modules():
            hook = module.register_forward_pre_hook(lambda *_, name=name: note_call(name))
            hooks.callback(hook.remove)
        for block in blocks_of(model):
            hooks.callback(block.register_forward_hook(note_end).remove)
        model(**inputs)
    return called, ended, random, output[0] if output else None


def _highest(
    model: nn.Module, called: dict[str, int], ended: dict[nn.Module, int], random: set[nn.Module], output: Any
) -> Border:
    first_trained = min(_first_use(name, called) for name, p in model.named_parameters() if p.requires_grad)
    frozen = sorted((block for block in ended if ended[block] < first_trained), key=ended.__getitem__)
    below = [block for block in frozen if block not in random]
    if not frozen:
        raise NoBorderError("weights are trained from the first layer on, so that every activation changes")
    if not below:
        raise NoBorderError(
            "dropout changes them in every epoch below the first layer that is trained; "
            "switch it off there: model.dropout=0 model.attention_dropout=0",
            avoidable=True,
        )
    states = output[0] if isinstance(output, tuple) else output
    tensors = itertools.chain(model.named_parameters(), model.named_buffers())
    return Border(
        blocks=below,
        of_blocks=len(ended),
        handed_on=len(output) if isinstance(output, tuple) else 0,
        hidden=states.shape[-1],
        dtype=states.dtype,
        sha256=digest({name: t for name, t in tensors if _first_use(name, called) < ended[below[-1]]}),
    )


def _first_use(tensor: str, called: Mapping[str, int]) -> int:
    module = tensor
    while module:
        module = module.rpartition(".")[0]
        if module in called:
            return called[module]
    return 0


def _is_the_same(model: nn.Module, border: Border, inputs: Mapping[str, Tensor]) -> bool:
    """Return whether `model`, started from `border`, computes the same bits wherever `inputs` has a token."""
    real = inputs["attention_mask"].bool()
    with watching(border) as seen:
        expected = model(**inputs)[0]
    with starting_from(border, model):
        found = model(**inputs, **{STATES: seen[-1] * real.unsqueeze(-1)})[0]
    if expected.shape[:2] == real.shape:
        expected, found = expected[real], found[real]
    return torch.equal(expected, found)


@contextmanager
def watching(border: Border) -> Iterator[list[Tensor]]:
    """Yield a list to which every pass through the last block below `border` adds the states it hands on."""
    seen: list[Tensor] = []
    last = border.blocks[-1]
    hook = last.register_forward_hook(lambda _, __, out: seen.append(out[0] if isinstance(out, tuple) else out))
    try:
        yield seen
    finally:
        hook.remove()


@contextmanager
def starting_from(border: Border, model: nn.Module) -> Iterator[None]:
    """Let `model` skip the blocks below `border` where `STATES` is among its inputs, else compute as ever.

    What comes before the blocks (embeddings, positions, masks) is still computed: it costs little, and blocks above may
    take some of it.
    """
    given: list[Tensor] = []

    def take(_: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        given[:] = [kwargs.pop(STATES)] if STATES in kwargs else []
        return args, kwargs

    def skipping(forward: Any) -> Any:
        def hand_on(*args: Any, **kwargs: Any) -> Any:
            if not given:
                return forward(*args, **kwargs)
            return (given[0], *[None] * (border.handed_on - 1)) if border.handed_on else given[0]

        return hand_on

    hook = model.register_forward_pre_hook(take, with_kwargs=True)
    for block in border.blocks:
        block.forward = skipping(block.forward)
    try:
        yield
    finally:
        hook.remove()
        for block in border.blocks:
            del block.forward  # uncovers that of its class


def digest(tensors: Mapping[str, Tensor]) -> str:
    """Return the sha256 over names, types, shapes and bits, as hex digits."""
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()
