"""Slots: the machine's devices and CPU threads, divided among concurrent trials."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from peftlab.errors import ConfigError


@dataclass(frozen=True)
class Slot:
    """Devices and threads of a trial."""

    gpus: tuple[str, ...]
    """Names for ``CUDA_VISIBLE_DEVICES``; several slots may share a GPU."""
    threads: int
    """CPU threads."""
    share: float
    """Devices that it occupies: GPUs, or a fraction of the CPU."""

    def within(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return a trial's configuration; `trainer.threads` defaults to those of the slot."""
        trainer = config["trainer"]
        threads = self.threads if trainer.get("threads") is None else trainer["threads"]
        return {**config, "trainer": {**trainer, "threads": threads}}

    def environment(self) -> dict[str, str]:
        """Return the variables that confine a trial to the slot."""
        threads = {"OMP_NUM_THREADS": str(self.threads), "MKL_NUM_THREADS": str(self.threads)}
        return threads | ({"CUDA_VISIBLE_DEVICES": ",".join(self.gpus)} if self.gpus else {})


def divide(
    gpus: Sequence[str],
    cores: int,
    gpus_per_trial: float = 1.0,
    trials_at_once: int | None = None,
    threads_per_trial: int | None = None,
) -> list[Slot]:
    """Return the slots of a machine with these `gpus` and CPU `cores`.

    With GPUs, `gpus_per_trial` sets the number of slots, up to `trials_at_once`; without, there are `trials_at_once`
    (None: one). Threads are split evenly unless `threads_per_trial` fixes them: the last digits of results depend on
    them.

    Raises:
        ConfigError: a number is invalid, a GPU share does not divide one, or a trial needs more GPUs than exist.
    """
    for key, count in (("trials_at_once", trials_at_once), ("threads_per_trial", threads_per_trial)):
        if count is not None and (not isinstance(count, int) or count < 1):
            raise ConfigError(f"hydra.launcher.{key}={count}: must be a whole number of at least 1, or null")
    if not isinstance(gpus_per_trial, int | float) or gpus_per_trial <= 0:
        raise ConfigError(f"hydra.launcher.gpus_per_trial={gpus_per_trial}: must be a number above 0")
    if gpus_per_trial < 1 and not math.isclose(1 / gpus_per_trial, round(1 / gpus_per_trial)):
        raise ConfigError(
            f"hydra.launcher.gpus_per_trial={gpus_per_trial}: must divide a GPU: 0.5, 0.25, 0.2, ..., or be 1, 2, ..."
        )
    if gpus_per_trial >= 1 and gpus_per_trial != int(gpus_per_trial):
        raise ConfigError(f"hydra.launcher.gpus_per_trial={gpus_per_trial}: more than one must be a whole number")
    if gpus and gpus_per_trial > len(gpus):
        raise ConfigError(f"hydra.launcher.gpus_per_trial={gpus_per_trial:g}: there are {len(gpus)} GPUs here")
    groups: list[tuple[str, ...]]
    if not gpus:
        groups = [()] * (trials_at_once or 1)
    elif gpus_per_trial < 1:
        groups = [(gpu,) for _ in range(round(1 / gpus_per_trial)) for gpu in gpus]  # each GPU once before any twice
    else:
        each = int(gpus_per_trial)
        groups = [tuple(gpus[n : n + each]) for n in range(0, len(gpus) - each + 1, each)]
    groups = groups[:trials_at_once]
    threads = threads_per_trial or max(1, cores // len(groups))
    share = gpus_per_trial if gpus else 1 / len(groups)
    return [Slot(group, threads, share) for group in groups]
