"""Converts the ``${args_no_hyphens}`` of ``wandb agent`` to Hydra's grammar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

SWEEP_ID = "WANDB_SWEEP_ID"
"""The variable that an agent sets for its runs."""


def read_arguments(arguments: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """Return the arguments of a command; from an agent, Python's ``None`` becomes Hydra's ``null``.

    Its other values are in Hydra's grammar already: numbers, ``True`` and ``False``, lists, plain words.
    """
    if SWEEP_ID not in environment:
        return list(arguments)
    return [f"{text.removesuffix('None')}null" if text.endswith("=None") else text for text in arguments]
