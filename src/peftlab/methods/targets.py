"""Which modules of a model a method is applied to, resolved from the model itself."""

from __future__ import annotations

import re
from collections.abc import Iterable

from torch import nn

from peftlab.errors import ConfigError, did_you_mean
from peftlab.methods.method import is_of_head

GROUPS = ("all_linear", "attention", "mlp", "layer_norms")
"""Names for sets of modules, the same in every architecture."""

Layers = str | list[int] | None
"""Which of the repeated blocks: ``first:N``, ``last:N``, numbers from 0, or None for all."""


def check_layers(layers: Layers) -> None:
    """Raise a ConfigError unless `layers` is of the right form."""
    if isinstance(layers, str) and not re.fullmatch(r"(first|last):[1-9]\d*", layers):
        raise ConfigError(
            f"peft.layers={layers}: allowed are first:N, last:N, a list of numbers from 0, or null for all"
        )
    if isinstance(layers, list) and (not layers or min(layers) < 0):
        raise ConfigError(f"peft.layers={layers}: a list names at least one block, by its number from 0")


def block_of(name: str) -> tuple[str, int] | None:
    """Return the stack and the number of the repeated block that a module or parameter is in, None outside of them.

    The stack is the name of the list of blocks, e.g. ``bert.encoder.layer``.
    """
    found = re.match(r"(.*?)\.(\d+)\.", name)
    return (found[1], int(found[2])) if found else None


def blocks(model: nn.Module, layers: Layers, head: Iterable[str]) -> set[tuple[str, int]]:
    """Return the repeated blocks that `layers` means, as `block_of` names them; of several stacks, those of each.

    Raises:
        ConfigError: the model has no blocks, or not those; the message says which it has.
    """
    stacks: dict[str, set[int]] = {}
    for name, module in model.named_modules():
        block = block_of(name)
        if block and isinstance(module, nn.Linear) and not is_of_head(name, head):
            stacks.setdefault(block[0], set()).add(block[1])
    if not stacks:
        raise ConfigError(f"peft.layers={layers}: {type(model).__name__} has no repeated blocks")
    chosen = set()
    for stack, numbers in stacks.items():
        there = sorted(numbers)
        if isinstance(layers, str):
            end, _, count = layers.partition(":")
            wanted = there[: int(count)] if end == "first" else there[-int(count) :]
            missing = int(count) > len(there)
        else:
            wanted = there if layers is None else layers
            missing = not set(wanted) <= numbers
        if missing:
            raise ConfigError(f"peft.layers={layers}: {stack} of this model has {len(there)} blocks, 0 to {there[-1]}")
        chosen |= {(stack, number) for number in wanted}
    return chosen


def target_modules(
    model: nn.Module, target: str | list[str], head: tuple[str, ...], layers: Layers = None, key: str = "target"
) -> list[str]:
    """Return the full names of the modules that `target` means, never those of the head.

    A group takes modules of the repeated blocks only (not the pooler, not embedding projections): ``attention`` are the
    linear layers below a module whose name says so, ``mlp`` the others; ``layer_norms`` are the normalisations. Names
    are those of linear layers and normalisations, whole or their ends. `key` is the setting, for messages.

    Raises:
        ConfigError: nothing matches; the message says what there is.
    """
    inside = [(name, module) for name, module in model.named_modules() if not is_of_head(name, head)]
    linear = [name for name, module in inside if isinstance(module, nn.Linear)]
    norms = [name for name, module in inside if re.search(r"LayerNorm|RMSNorm", type(module).__name__)]
    chosen = None if layers is None else blocks(model, layers, head)

    def is_chosen(name: str) -> bool:
        return chosen is None or block_of(name) in chosen

    if isinstance(target, str) and target in GROUPS:
        in_blocks = [name for name in linear if block_of(name)]
        attention = [name for name in in_blocks if re.search(r"attn|attention", name)]
        groups = {
            "all_linear": in_blocks,
            "attention": attention,
            "mlp": [name for name in in_blocks if name not in set(attention)],
            "layer_norms": [name for name in norms if block_of(name)],
        }
        found = [name for name in groups[target] if is_chosen(name)]
    else:
        found = []
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
            found += [name for name in matches if is_chosen(name)]
    if not found:
        raise ConfigError(f"peft.{key}={target} matches nothing in {type(model).__name__}")
    return found
