"""What a launcher, such as torchrun, says in the environment of each process that it starts. No torch."""

from __future__ import annotations

import os
from collections.abc import Mapping

from peftlab.errors import ConfigError


def number_in(name: str, default: int | None = None, environment: Mapping[str, str] = os.environ) -> int:
    """Return the whole number in an environment variable.

    Args:
        name: the variable.
        default: the number if it is not set; None: it must be.
        environment: the variables.

    Raises:
        ConfigError: it is not set, or holds no whole number.
    """
    text = environment.get(name)
    if text is None and default is not None:
        return default
    if text is None or not (text.isascii() and text.strip().isdigit()):
        found = "is not set" if text is None else f"is '{text}'"
        raise ConfigError(
            f"{name} in the environment {found}: launchers such as torchrun and srun set it to a whole number. Start "
            "with the launcher alone, or unset the variables that it left behind"
        )
    return int(text)
