"""The processes of one run, one for each device: their ranks, how they start and connect, and how they end together.

A launcher (torchrun, SLURM) starts all of them, or else rank 0 starts the others on its machine, each as
``python -m peftlab.rank RUN_FOLDER``. Their messages here go from CPU to CPU.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TypeVar

import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments.lightning import find_free_network_port

from peftlab.devices.hardware import launcher
from peftlab.devices.launched import number_in
from peftlab.devices.spec import TrainerSpec
from peftlab.errors import ConfigError, RunError
from peftlab.imports import to_be_found_here
from peftlab.runs.record import RunRecord
from peftlab.terminal.signals import SIGNALS, Interrupted, Signals

T = TypeVar("T")

PATIENCE = 20.0
"""Seconds that a process has to end by itself when another has failed."""


class RankError(RuntimeError):
    """Another process of the run has failed, and this one cannot continue without it."""


def rank() -> int:
    """Return the rank of this process in the run, from 0."""
    environment = launcher()
    return environment.global_rank() if environment else number_in("LOCAL_RANK", 0)


def check_rank(trainer: TrainerSpec) -> None:
    """Check that this process is one of the run's: another would train, and leave nothing behind.

    Raises:
        ConfigError: it is not.
    """
    if (own := rank()) >= trainer.world_size:
        raise ConfigError(
            f"LOCAL_RANK={own} in the environment says that this is process {own + 1} of a run, and the run has "
            f"{trainer.world_size} (trainer.devices={trainer.devices}). Unset LOCAL_RANK; or start with torchrun or "
            "srun, and set trainer.devices to the processes on each machine"
        )


def starts_others(trainer: TrainerSpec) -> bool:
    """Return whether this process starts the others."""
    return trainer.world_size > 1 and launcher() is None and rank() == 0


def threads_each(trainer: TrainerSpec) -> int:
    """Return the CPU threads for each process: torch's threads are divided among the processes that this one starts."""
    return trainer.threads or max(1, torch.get_num_threads() // (trainer.world_size if starts_others(trainer) else 1))


def agreed(value: T, trainer: TrainerSpec) -> T:
    """Return the `value` of rank 0 in every process that a launcher has started."""
    if launcher() is None or trainer.world_size == 1:
        return value
    _join(trainer)
    return from_rank_0(value)


def from_rank_0(value: T) -> T:
    """Return the `value` of rank 0; every rank must call it."""
    if not dist.is_initialized():
        return value
    values = [value]
    dist.broadcast_object_list(values)
    return values[0]


def over_ranks(values: Sequence[float], operation: Literal["sum", "max"]) -> list[float]:
    """Return the sums or the maxima of `values` over all ranks; every rank must call it."""
    if not dist.is_initialized():
        return list(values)
    result = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(result, dist.ReduceOp.SUM if operation == "sum" else dist.ReduceOp.MAX)
    return result.tolist()


def gathered(items: list[T]) -> list[T]:
    """Return the `items` of all ranks on rank 0, and no items on the others; every rank must call it."""
    if not dist.is_initialized():
        return items
    lists: list[list[T]] | None = [[] for _ in range(dist.get_world_size())] if dist.get_rank() == 0 else None
    dist.gather_object(items, lists)
    return [item for one in lists or [] for item in one]


@contextmanager
def together(trainer: TrainerSpec, record: RunRecord, signals: Signals) -> Iterator[None]:
    """Around the work of all ranks: start those that no launcher has started, join them, and end with them.

    In a single process a held-back signal is raised here; with other ranks it waits until all have finished a batch,
    see `peftlab.training.interruption`.

    Raises:
        RankError: another process has failed.
    """
    if trainer.world_size == 1:
        signals.raise_pending()
        yield
        return
    with _Others(trainer, record) if starts_others(trainer) else nullcontext():
        _join(trainer)
        try:
            yield
        finally:
            dist.destroy_process_group()


def _join(trainer: TrainerSpec) -> None:
    if dist.is_initialized():
        return
    if environment := launcher():
        os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = environment.main_address, str(environment.main_port)
    backend = "cpu:gloo,cuda:nccl" if trainer.accelerator == "gpu" else "gloo"
    dist.init_process_group(backend, rank=rank(), world_size=trainer.world_size)


class _Others:
    """The other ranks on this machine, as a context: none outlives it, and none fails unnoticed."""

    def __init__(self, trainer: TrainerSpec, record: RunRecord) -> None:
        self.trainer, self.record = trainer, record
        self._processes: list[subprocess.Popen[bytes]] = []
        self._over = threading.Event()
        self._failed: RankError | None = None

    def __enter__(self) -> Self:
        self._surroundings = dict(os.environ)
        self._errors = tempfile.TemporaryDirectory()
        self._threads, threads = torch.get_num_threads(), threads_each(self.trainer)
        torch.set_num_threads(threads)
        # as Lightning's own launcher does; with LOCAL_RANK set, Lightning starts no processes
        os.environ |= {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(find_free_network_port()),
            "NODE_RANK": "0",
            "LOCAL_RANK": "0",
            "WORLD_SIZE": str(self.trainer.world_size),
            "OMP_NUM_THREADS": str(threads),  # else Lightning sets it, whatever trainer.threads says
        }
        for number in range(1, self.trainer.world_size):
            environment = {
                "LOCAL_RANK": str(number),
                "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)),  # '' is the current folder
                "TORCHELASTIC_ERROR_FILE": str(self._error_file(number)),
            }
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "peftlab.rank", str(self.record.folder.absolute()), *to_be_found_here()],
                env=os.environ | environment,
                stdin=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C goes to rank 0, which tells the others
            )
            self._processes.append(process)
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _tb: TracebackType | None
    ) -> None:
        if type(error) is RuntimeError or isinstance(error, dist.DistError):  # a lost connection, most likely
            self._look(seconds=PATIENCE / 2)
        self._over.set()
        self._wait(PATIENCE if error is None or isinstance(error, Interrupted) else 0.0)
        for process in self._processes:
            process.kill()
            process.communicate()
        os.environ.clear()
        os.environ.update(self._surroundings)
        torch.set_num_threads(self._threads)
        self._errors.cleanup()
        # an error that all ranks agree on says more than that one of them has ended
        if isinstance(error, Exception) and not isinstance(error, RunError) and self._failed is not None:
            raise self._failed from error

    def _error_file(self, number: int) -> Path:
        return Path(self._errors.name) / f"{number}.json"

    def _wait(self, seconds: float) -> None:
        for process in self._processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(seconds)

    def _look(self, seconds: float = 0.0) -> None:
        """Check whether one of them has failed, or fails within some seconds."""
        until = time.monotonic() + seconds
        while self._failed is None:
            for number, process in enumerate(self._processes, start=1):
                if process.poll() not in (None, 0, *SIGNALS.values()):
                    cause = f"exit code {process.returncode}"
                    with suppress(OSError):
                        cause = json.loads(self._error_file(number).read_text())["message"]["message"]
                    self._failed = RankError(f"rank {number} failed: {cause}")
            if time.monotonic() >= until:
                return
            time.sleep(0.1)

    def _watch(self) -> None:
        while self._failed is None:
            if self._over.wait(0.5):
                return
            self._look()
        for process in self._processes:
            process.kill()
        if not self._over.wait(PATIENCE):  # stuck in a library, waiting for the dead rank
            self.record.finish("failed", self._failed)
            os._exit(1)
