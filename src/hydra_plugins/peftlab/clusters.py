"""Launchers for Ray and SLURM: ``hydra/launcher=ray``, ``slurm``, and ``submitit_local`` to try the latter."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict
from typing_extensions import override


class ClusterLauncher(Launcher):
    """Base of launchers that hand a batch to a library and wait for all of it."""

    package: str
    """The required package."""

    @override
    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Store Hydra's context.

        Raises:
            ConfigError: the library is not installed.
        """
        from peftlab.errors import ConfigError

        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config
        if find_spec(self.package) is None:
            name = config.hydra.runtime.choices["hydra/launcher"]
            raise ConfigError(
                f'hydra/launcher={name}: the package {self.package} is missing: pip install "peftlab[clusters]"'
            )

    def jobs(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[Any]:
        """Return a `peftlab.sweep.clusters.Job` for each list of overrides."""
        from peftlab.sweep.clusters import Job

        jobs = []
        for number, overrides in enumerate(job_overrides, start=initial_job_idx):
            composed = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
            with open_dict(composed):
                composed.hydra.job.id, composed.hydra.job.num = f"job_id_for_{number}", number
            jobs.append(Job(self.hydra_context, self.task_function, composed, Singleton.get_state()))
        return jobs


class RayLauncher(ClusterLauncher):
    """Runs a batch on Ray, see `peftlab.sweep.clusters.on_ray`."""

    package = "ray"

    def __init__(self, init: DictConfig, remote: DictConfig) -> None:
        self.init, self.remote = init, remote

    @override
    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from peftlab.sweep.clusters import on_ray

        return on_ray(self.jobs(job_overrides, initial_job_idx), _plain(self.init), _plain(self.remote))


class SubmititLauncher(ClusterLauncher):
    """Runs a batch as a job array, see `peftlab.sweep.clusters.by_submitit`."""

    package = "submitit"
    cluster: str
    """Submitit's executor."""

    def __init__(self, folder: str, max_num_timeout: int, **parameters: Any) -> None:
        self.folder, self.max_num_timeout = folder, max_num_timeout
        self.parameters = {key: _plain(value) for key, value in parameters.items()}

    @override
    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from peftlab.sweep.clusters import by_submitit

        jobs = self.jobs(job_overrides, initial_job_idx)
        return by_submitit(jobs, self.cluster, self.folder, self.max_num_timeout, self.parameters)


class SlurmLauncher(SubmititLauncher):
    """Runs a batch on SLURM; the parameters are submitit's, named after those of ``sbatch``."""

    cluster = "slurm"

    def __init__(
        self,
        folder: str,
        max_num_timeout: int,
        name: str,
        timeout_min: int,
        signal_delay_s: int,
        partition: str | None,
        account: str | None,
        qos: str | None,
        constraint: str | None,
        nodes: int,
        tasks_per_node: int,
        gpus_per_node: int | None,
        cpus_per_task: int | None,
        mem_gb: float | None,
        array_parallelism: int,
        setup: list[str] | None,
        additional_parameters: dict[str, Any],
    ) -> None:
        parameters = {key: value for key, value in locals().items() if key not in ("self", "__class__")}
        super().__init__(**parameters)


class LocalSubmititLauncher(SubmititLauncher):
    """Runs a batch as concurrent processes on this machine."""

    cluster = "local"

    def __init__(self, folder: str, max_num_timeout: int, timeout_min: int, gpus_per_node: int) -> None:
        super().__init__(folder, max_num_timeout, timeout_min=timeout_min, gpus_per_node=gpus_per_node)


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
