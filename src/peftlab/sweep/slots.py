"""Where trials run: the machine's devices and threads, divided among those that run at the same time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from peftlab.errors import ConfigError


@dataclass(frozen=True)
class Slot:
    """Room for one trial."""

    gpus: tuple[str, ...]
    """What ``CUDA_VISIBLE_DEVICES`` calls them; several slots may share one."""
    threads: int
    """Of the CPU."""
    share: float
    """Devices that are occupied by it: GPUs, or the one CPU and its part."""

    def within(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return the configuration of a trial with the slot's threads, where it has none of its own."""
        trainer = config["trainer"]
        threads = self.threads if trainer.get("threads") is None else trainer["threads"]
        return {**config, "trainer": {**trainer, "threads": threads}}

    def environment(self) -> dict[str, str]:
        """Return the variables that keep a trial within the slot."""
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

    With GPUs there are as many as `gpus_per_trial` gives room for, at most `trials_at_once`; without, `trials_at_once`
    (None: one). Threads are shared out evenly unless `threads_per_trial` fixes them: results depend on them in their
    last digits.

    Raises:
        ConfigError: a number that cannot be, a share of a GPU that does not divide one, more GPUs than there are.
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
        groups = [(gpu,) for _ in range(round(1 / gpus_per_trial)) for gpu in gpus]  # every GPU once before any twice
    else:
        each = int(gpus_per_trial)
        groups = [tuple(gpus[n : n + each]) for n in range(0, len(gpus) - each + 1, each)]
    groups = groups[:trials_at_once]
    threads = threads_per_trial or max(1, cores // len(groups))
    share = gpus_per_trial if gpus else 1 / len(groups)
    return [Slot(group, threads, share) for group in groups]
