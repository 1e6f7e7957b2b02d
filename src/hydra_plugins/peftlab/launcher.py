"""Hydra's way to the local launcher: ``hydra/launcher=peftlab``, the default."""

from __future__ import annotations

from collections.abc import Sequence

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class LocalLauncher(Launcher):
    """Runs trials on this machine, each in a process of its own, as many at a time as there is room for.

    Args:
        gpus_per_trial: 0.5, 1, 2, ...; without a GPU it does not matter.
        trials_at_once: at most; None: as many as the GPUs have room for, one on a CPU.
        threads_per_trial: of the CPU; None: shared out evenly.
    """

    def __init__(
        self,
        gpus_per_trial: float = 1.0,
        trials_at_once: int | None = None,
        threads_per_trial: int | None = None,
    ) -> None:
        self.gpus_per_trial, self.trials_at_once = gpus_per_trial, trials_at_once
        self.threads_per_trial = threads_per_trial

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take up what Hydra knows."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the trials that a sweeper of Hydra's own, or of somebody else's, has chosen."""
        from peftlab.sweep.sweep import launch_batch
        from peftlab.terminal.exits import user_exits

        with user_exits():
            return launch_batch(self, job_overrides)
