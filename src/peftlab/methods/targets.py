"""Finds the modules that a method is applied to in the model itself."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from torch import nn
from transformers.pytorch_utils import Conv1D

from peftlab.errors import ConfigError, did_you_mean
from peftlab.methods.head import is_of_head
from peftlab.models.language_models import input_embeddings

GROUPS = ("all_linear", "attention", "mlp", "layer_norms")
"""Names of groups of modules that hold for every architecture."""

LINEAR = (nn.Linear, Conv1D)
"""The classes of linear layers; GPT-2's is called a convolution, and stores its weight transposed."""

Layers = str | list[int] | None
"""A selection of the repeated blocks: ``first:N``, ``last:N``, ``every:N``, numbers from 0, or None for all."""


def check_layers(layers: Layers) -> None:
    """Raise a ConfigError unless `layers` is well-formed."""
    if isinstance(layers, str) and not re.fullmatch(r"(first|last|every):[1-9]\d*", layers):
        raise ConfigError(
            f"peft.layers={layers}: allowed are first:N, last:N, every:N, a list of numbers from 0, or null for all"
        )
    if isinstance(layers, list) and (not layers or min(layers) < 0):
        raise ConfigError(f"peft.layers={layers}: a list names at least one block, by its number from 0")


def blocks_of(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the repeated blocks of a model, such as the layers of an encoder."""
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield from child
        else:
            yield from blocks_of(child)


def is_attention(name: str) -> bool:
    """Return whether a module's name says that it belongs to attention."""
    return re.search(r"attn|attention", name, re.IGNORECASE) is not None


def block_of(name: str) -> tuple[str, int] | None:
    """Return the stack and the number of the repeated block that holds a module or parameter; None outside blocks.

    The stack is the name of the list of blocks, e.g. ``bert.encoder.layer``.
    """
    match = re.match(r"(.*?)\.(\d+)\.", name)
    return (match[1], int(match[2])) if match else None


def blocks(model: nn.Module, layers: Layers, head: Iterable[str]) -> set[tuple[str, int]]:
    """Return the repeated blocks that `layers` selects, as `block_of` names them, in every stack.

    Raises:
        ConfigError: the model has no such blocks; the message says which it has.
    """
    stacks: dict[str, set[int]] = {}
    for name, module in model.named_modules():
        block = block_of(name)
        if block and isinstance(module, LINEAR) and not is_of_head(name, head):
            stacks.setdefault(block[0], set()).add(block[1])
    if not stacks:
        raise ConfigError(f"peft.layers={layers}: {type(model).__name__} has no repeated blocks")
    chosen = set()
    for stack, numbers in stacks.items():
        existing = sorted(numbers)
        if isinstance(layers, str):
            end, _, count = layers.partition(":")
            n = int(count)
            wanted = {"first": existing[:n], "last": existing[-n:], "every": existing[::n]}[end]
            missing = n > len(existing)
        else:
            wanted = existing if layers is None else layers
            missing = not set(wanted) <= numbers
        if missing:
            raise ConfigError(
                f"peft.layers={layers}: {stack} of this model has {len(existing)} blocks, 0 to {existing[-1]}"
            )
        chosen |= {(stack, number) for number in wanted}
    return chosen


def linear_layers(model: nn.Module, head: Iterable[str]) -> list[str]:
    """Return the full names of the linear layers in the repeated blocks of `model`, without those of the head."""
    head = tuple(head)
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, LINEAR) and block_of(name) and not is_of_head(name, head)
    ]


def target_modules(
    model: nn.Module, target: str | list[str], head: tuple[str, ...], layers: Layers = None, key: str = "target"
) -> list[str]:
    """Return the full names of the modules that `target` selects, never those of the head.

    A group selects modules of the repeated blocks only (no pooler, no embedding projections): ``attention`` is the
    linear layers below a module of that name, ``mlp`` the other linear layers, ``layer_norms`` the normalisations.
    Names of linear layers and normalisations match whole or as a suffix. `key` is the setting, for messages.

    Raises:
        ConfigError: nothing matches, and the message lists the names; or a layer shares its weights with the input
            embeddings.
    """
    inside = [(name, module) for name, module in model.named_modules() if not is_of_head(name, head)]
    linear = [name for name, module in inside if isinstance(module, LINEAR)]
    norms = [name for name, module in inside if re.search(r"LayerNorm|RMSNorm", type(module).__name__)]
    chosen = None if layers is None else blocks(model, layers, head)

    def is_chosen(name: str) -> bool:
        return chosen is None or block_of(name) in chosen

    if isinstance(target, str) and target in GROUPS:
        in_blocks = linear_layers(model, head)
        attention = [name for name in in_blocks if is_attention(name)]
        groups = {
            "all_linear": in_blocks,
            "attention": attention,
            "mlp": [name for name in in_blocks if name not in set(attention)],
            "layer_norms": [name for name in norms if block_of(name)],
        }
        selected = [name for name in groups[target] if is_chosen(name)]
    else:
        selected = []
        for suffix in [target] if isinstance(target, str) else target:
            matches = [name for name in [*linear, *norms] if name == suffix or name.endswith("." + suffix)]
            if not matches:
                names = [*linear, *norms]
                ends = sorted({".".join(name.split(".")[-n:]) for name in names for n in (1, 2, 3)} - {""})
                short = sorted({name.split(".")[-1] for name in names})
                raise ConfigError(
                    f"peft.{key}: no layer is called '{suffix}'.{did_you_mean(suffix, [*GROUPS, *ends])} "
                    f"Allowed: {', '.join(GROUPS)}, or names of modules: {', '.join(short)}"
                )
            if not any(is_chosen(name) for name in matches):
                raise ConfigError(f"peft.{key}: '{suffix}' is in none of the blocks that peft.layers={layers} names")
            selected += [name for name in matches if is_chosen(name)]
        _check_not_tied(model, selected, key)
    if not selected:
        raise ConfigError(f"peft.{key}={target} matches nothing in {type(model).__name__}")
    return selected


def _check_not_tied(model: nn.Module, names: Iterable[str], key: str) -> None:
    """Raise a ConfigError for the output layer of a language model whose weights are those of the input embeddings."""
    table = getattr(input_embeddings(model), "weight", None)
    for name in names:
        if table is not None and model.get_submodule(name).weight is table:
            raise ConfigError(
                f"peft.{key}: '{name}' shares its weights with the input embeddings, which an update merged into it "
                f"would change too. Name other modules, or one of {', '.join(GROUPS)}"
            )
