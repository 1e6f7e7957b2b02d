"""The local Hydra launcher: ``hydra/launcher=peftlab``, the default."""

from __future__ import annotations

from collections.abc import Sequence

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig
from typing_extensions import override


class LocalLauncher(Launcher):
    """Runs trials on this machine, each in its own process, as many at a time as fit.

    Args:
        gpus_per_trial: 0.5, 1, 2, ...; ignored without a GPU.
        trials_at_once: maximum; None: as many as fit on the GPUs, one on a CPU.
        threads_per_trial: CPU threads; None: split evenly.
    """

    def __init__(
        self,
        gpus_per_trial: float = 1.0,
        trials_at_once: int | None = None,
        threads_per_trial: int | None = None,
    ) -> None:
        self.gpus_per_trial, self.trials_at_once = gpus_per_trial, trials_at_once
        self.threads_per_trial = threads_per_trial

    @override
    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    @override
    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the trials that Hydra's own or a third-party sweeper chose."""
        from peftlab.sweep.sweep import launch_batch
        from peftlab.terminal.exits import user_exits

        with user_exits():
            return launch_batch(self, job_overrides)
