"""The configuration of a federation: its clients, its rounds, and what a client does in one. No torch."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass


@dataclass(kw_only=True, config=ConfigDict(extra="forbid"))
class FederatedSpec:
    """Who holds the training examples, and how they learn together."""

    clients: int | None = Field(default=None, ge=1, le=100_000)
    """The number of clients; None: one for each value of `column`."""
    by: Literal["iid", "dirichlet", "column"] = "iid"
    """How the training examples are divided among the clients, see `peftlab.federated.split`."""
    alpha: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """The concentration of the Dirichlet distribution of a class over the clients."""
    column: str | None = None
    """The column of the data whose values are the clients; None: the groups of ``data.format``."""
    rounds: int | None = Field(default=None, ge=1)
    """The number of rounds."""
    fraction: float = Field(default=1.0, gt=0, le=1)
    """The share of the clients that take part in a round, at least one."""
    local_epochs: int | None = Field(default=None, ge=1)
    """The passes of a client over its examples in a round."""
    local_steps: int | None = Field(default=None, ge=1)
    """The optimiser steps of a client in a round, in place of `local_epochs`."""
    mu: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """The strength of FedProx, see `peftlab.federated.proximal`."""
    server_lr: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """How far the shared weights go in a round towards the mean of the clients' weights: 1 replaces them by it."""
    processes: int = Field(default=0, ge=0, le=1024)
    """The processes that train clients; 0: the run's own does, client after client."""
    only: int | None = Field(default=None, ge=0)
    """The number of the client, from 0, that trains alone, without rounds; None: all train together."""

    def __post_init__(self) -> None:
        """Check that each setting can act."""
        if (self.by == "column") != (self.clients is None):
            raise ValueError(
                "with by=column, the column says how many clients there are: set clients=null"
                if self.by == "column"
                else f"clients=null: by={self.by} needs their number"
            )
        if self.by != "column" and self.column is not None:
            raise ValueError(f"column={self.column} does nothing with by={self.by}: set by=column clients=null")
        if (self.by == "dirichlet") != (self.alpha is not None):
            raise ValueError(
                "by=dirichlet needs alpha, such as alpha=0.3: the smaller, the more the clients' labels differ"
                if self.by == "dirichlet"
                else f"alpha={self.alpha:g} does nothing with by={self.by}: set by=dirichlet"
            )
        self._check_alone() if self.only is not None else self._check_rounds()

    def _check_rounds(self) -> None:
        if self.rounds is None:
            raise ValueError("rounds=null: give their number; federated=local trains one client without rounds")
        if (self.local_epochs is None) == (self.local_steps is None):
            raise ValueError("give local_epochs or local_steps, and set the other to null")

    def _check_alone(self) -> None:
        neutral: dict[str, float | None] = {"rounds": None, "local_epochs": None, "local_steps": None}
        neutral |= {"fraction": 1, "mu": 0, "server_lr": 1, "processes": 0}
        if idle := [name for name, value in neutral.items() if getattr(self, name) != value]:
            raise ValueError(
                f"only={self.only} trains one client without rounds, and {' and '.join(idle)} would do nothing: choose "
                "federated=local, which leaves them out"
            )

    def taking_part(self, of: int) -> int:
        """Return how many of so many clients take part in a round."""
        return max(1, round(self.fraction * of))


def rounds_as_epochs(config: dict[str, Any]) -> None:
    """Make the rounds of a federation in `config` the epochs of the run, whose steps use no cached activations."""
    config["federated"], trainer = config.get("federated") or None, config.get("trainer")
    federated = config["federated"]
    if not isinstance(federated, dict) or federated.get("rounds") is None:
        return
    if isinstance(config.get("budget"), dict):
        config["budget"]["max_epochs"] = federated["rounds"]
    if isinstance(trainer, dict) and trainer.get("cache_activations") == "auto":
        trainer["cache_activations"] = False
