"""How a model was computed from finished runs, instead of by training. No torch."""

from __future__ import annotations

from typing import Any, NoReturn

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from peftlab.errors import ConfigError

SECTION = "derived"
"""The section of the configuration, and of the record."""


@dataclass(kw_only=True, config=ConfigDict(extra="forbid"))
class DerivedSpec:
    """The section of the configuration: what the identity of such a run hangs on, see `peftlab.use.derive`."""

    by: str
    """The command."""
    how: dict[str, Any]
    """The options that decide the result."""
    parents: list[str]
    """The identities of those runs."""

    def refuse_training(self) -> NoReturn:
        """Raise ConfigError: such a configuration cannot be trained."""
        raise ConfigError(
            f"derived: `peftlab {self.by}` computed this model from finished runs: there is nothing to train"
        )
