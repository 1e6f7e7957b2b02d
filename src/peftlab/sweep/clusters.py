"""Calls Hydra's task function on Ray and by submitit.

A job that fails, or whose machine is lost, stops no other: its result says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from peftlab.masking.streams import mask_streams

_SHARED = (
    "name",
    "timeout_min",
    "mem_gb",
    "nodes",
    "cpus_per_task",
    "gpus_per_node",
    "tasks_per_node",
    "stderr_to_stdout",
)
"""Parameters common to all submitit executors; others have the executor's name as prefix."""


@dataclass(frozen=True)
class Job:
    """A picklable call of the task function, executed on another machine."""

    context: HydraContext
    task_function: TaskFunction
    config: DictConfig
    """Composed, including Hydra's own section."""
    state: Any
    """State of Hydra's singletons."""

    def __call__(self) -> JobReturn:
        """Run the job."""
        mask_streams()
        setup_globals()
        Singleton.set_state(self.state)
        HydraConfig.instance().set_config(self.config)
        return run_job(
            self.task_function,
            self.config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
            hydra_context=self.context,
        )

    def checkpoint(self) -> Any:
        """Return the same job, which submitit requeues after preemption or a timeout."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def on_ray(jobs: Sequence[Job], init: Mapping[str, Any], remote: Mapping[str, Any]) -> list[JobReturn]:
    """Run all jobs on Ray and return their results.

    Args:
        jobs: the jobs to run.
        init: options of ``ray.init``.
        remote: options of ``ray.remote``; if `num_gpus` is None, a job gets one GPU where the cluster has any.
    """
    import ray

    if not ray.is_initialized():
        ray.init(**init)
    gpus = remote.get("num_gpus")
    if gpus is None:
        gpus = 1 if ray.cluster_resources().get("GPU") else 0
    call = ray.remote(**{**remote, "num_gpus": gpus})(_call)
    waiting = [call.remote(job) for job in jobs]
    return [_returned(partial(ray.get, one)) for one in waiting]


def by_submitit(
    jobs: Sequence[Job], cluster: str, folder: str, max_num_timeout: int, parameters: Mapping[str, Any]
) -> list[JobReturn]:
    """Run all jobs as a submitit array and return their results.

    Args:
        jobs: the jobs to run.
        cluster: ``slurm``, or ``local`` for processes on this machine.
        folder: for scripts and logs; ``%j`` stands for the job id.
        max_num_timeout: how often a job is requeued after a timeout.
        parameters: of the submitit executor, common ones and those of `cluster`; None: its default.
    """
    import submitit

    executor = submitit.AutoExecutor(folder, cluster=cluster, **{f"{cluster}_max_num_timeout": max_num_timeout})
    options = {key: value for key, value in parameters.items() if value is not None}
    executor.update_parameters(
        **{key if key in _SHARED else f"{cluster}_{key}": value for key, value in options.items()}
    )
    with executor.batch():
        submitted = [executor.submit(job) for job in jobs]
    return [_returned(one.result) for one in submitted]


def _call(job: Job) -> JobReturn:
    return job()


def _returned(wait: Callable[[], JobReturn]) -> JobReturn:
    """Return the result of a job, or a failed one."""
    try:
        return wait()
    except Exception as error:  # noqa: BLE001  # any failure; the other jobs go on
        failed = JobReturn(status=JobStatus.FAILED)
        failed.return_value = error
        return failed
