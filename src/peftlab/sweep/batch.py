"""Sweeps whose trials run under another Hydra launcher, such as those for Ray and SLURM.

Such a launcher takes a batch and returns when all of it is over. Controller and trials share only a file system: the
controller relies on the records in the sweep folder, before and after.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf

from peftlab.composing.compose import typed_overrides, whole_number
from peftlab.devices import openmp
from peftlab.devices.fork_server import fork_server
from peftlab.errors import ConfigError, RunError, UserError
from peftlab.runs.record import FILE_NAME, RunRecord
from peftlab.storage.atomic import temporary_for
from peftlab.storage.locks import is_locked
from peftlab.sweep.board import Trial
from peftlab.sweep.cells import is_of_the_sweep
from peftlab.sweep.controller import TICK_SECONDS
from peftlab.sweep.ledger import Cell, outcome, output_of
from peftlab.sweep.processes import TrialProcess, wait_for
from peftlab.sweep.spec import SweepSpec
from peftlab.sweep.trials import Trials, fill_in, progress
from peftlab.sweep.worker import PATIENCE, Order
from peftlab.terminal.signals import SIGNALS, Interrupted

log = logging.getLogger("peftlab")

INTERRUPTED = "interrupted"
"""The result of a trial that a signal ended, with a checkpoint."""

LOOK_SECONDS = 5.0
"""Polling interval for the trial records while a launcher is working."""

_IN_ONE_BATCH = ("grid", "random", "qmc")
"""The searches whose proposals do not depend on earlier outcomes."""


def check_plan(spec: SweepSpec, launcher: str) -> None:
    """Check that a sweep works without reports from running trials.

    Args:
        spec: the sweep.
        launcher: its name, for messages.

    Raises:
        ConfigError: it does not; names the alternatives.
    """
    reason = f"hydra/launcher={launcher} runs whole batches, and learns nothing of a trial before all are over: "
    allowed = "hydra/launcher=peftlab takes them all"
    if spec.prune != "none":
        raise ConfigError(f"sweep.prune={spec.prune}: {reason}nothing can be pruned. Set sweep.prune=none; {allowed}")
    if spec.pack not in (1, "auto"):
        raise ConfigError(f"sweep.pack={spec.pack}: hydra/launcher={launcher} runs each trial by itself; {allowed}")
    if spec.search not in _IN_ONE_BATCH:
        raise ConfigError(f"sweep.search={spec.search}: {reason}set {', '.join(_IN_ONE_BATCH)}; {allowed}")
    if limit := next((key for key in ("steps", "hours", "money") if getattr(spec.budget, key) is not None), None):
        raise ConfigError(f"sweep.budget.{limit}: {reason}set sweep.budget.trials; {allowed}")


def check_chosen(spec: SweepSpec, sweeper: str) -> None:
    """Check that nothing says how to choose trials which another sweeper has chosen, or what is to become of them.

    Args:
        spec: the sweep.
        sweeper: its name, for messages.

    Raises:
        ConfigError: something does.
    """
    for key in ("protocol", "search", "space", "methods", "objectives", "prune", "budget", "ensemble"):
        if getattr(spec, key) != getattr(SweepSpec(), key):
            raise ConfigError(
                f"sweep.{key}: hydra/sweeper={sweeper} chooses the trials itself, and would overlook it. Leave it out, "
                "or take hydra/sweeper=peftlab"
            )


@dataclass(kw_only=True)
class Batch(Trials):
    """Hands the trials of a plan to a Hydra launcher, in batches of all that the plan proposes at once."""

    launcher: Launcher
    """Set up with a `RemoteTrial`."""
    _jobs: list[tuple[Cell, Trial]] = field(default_factory=list, init=False)
    _before: dict[str, list[object] | None] = field(default_factory=dict, init=False)
    """By run id, the history of its record when it was started; None: there was none."""

    def run(self) -> None:
        """Run until the plan is over; trials that earlier processes still write are left to them.

        Raises:
            Interrupted: a signal arrived; a cluster may continue what was submitted.
            RunError: the launcher itself failed.
        """
        try:
            while self._collect():
                self._launch()
        except (Interrupted, RunError) as error:
            self._conclude(interrupted=isinstance(error, Interrupted))
            self.board.end()
            raise
        for cell in self.delayed:
            row = self.register(cell)
            row.state = "running"
            log.warning("%s is still written by another process: the same command later takes it up", row.run_id)
        self._conclude()

    def _conclude(self, interrupted: bool = False) -> None:
        """Set the final status on the board."""
        states = {trial.state for trial in self.board.trials}
        if interrupted or states & {"interrupted", "running"}:
            self.board.status = "interrupted"
        else:
            self.board.status = "failed" if "failed" in states else "completed"

    def _collect(self) -> bool:
        """Collect the proposals of the plan; return whether any trial is to run."""
        while self._take_up_next():
            pass
        return bool(self._jobs)

    def _start(self, cell: Cell, row: Trial, existing: str) -> None:
        row.attempts += 1
        row.state, row.error, row.other_code = "running", None, False
        if existing == "rerun":  # here, only once: a cluster may start a job several times
            path = self.ledger.path(cell)
            # what is left if this is killed must be no run, and not in the way of the trial
            (path / FILE_NAME).unlink()
            shutil.rmtree(path.rename(temporary_for(path)))
        earlier = self.ledger.record(cell)
        self._before[row.run_id] = None if earlier is None else earlier.data["history"]
        self._jobs.append((cell, row))

    def _launch(self) -> None:
        """Launch the collected trials and process their results."""
        jobs, self._jobs = self._jobs, []
        self._write(now=True)
        ways: Sequence[str | None]
        try:
            with self._following(jobs):
                done = self.launcher.launch([self._overrides(cell) for cell, _ in jobs], 0)
            ways = [way(one) for one in done]
        except Interrupted:
            for cell, row in jobs:
                row.state = "interrupted"
                self._read(cell, row)
            log.info("interrupted: jobs submitted to a cluster may go on there")
            raise
        except Exception as error:
            message = f"the launcher has failed: {type(error).__name__}: {error}"
            for cell, row in jobs:
                self._deaths[row.run_id] = self.retries  # not the trial's fault: no retry
                self._over(cell, row, message)
            log.error("%s", message, exc_info=True)  # it may be anyone's mistake
            raise RunError(f"{message}; the trials it has started may go on without it") from error
        for (cell, row), how in zip(jobs, ways, strict=True):
            self._over(cell, row, how)
        self._write(now=True)

    @contextlib.contextmanager
    def _following(self, jobs: Sequence[tuple[Cell, Trial]]) -> Iterator[None]:
        """Keep the board current from the records meanwhile: the launcher reports nothing."""
        over = threading.Event()

        def follow() -> None:
            while not over.wait(LOOK_SECONDS):
                for cell, row in jobs:
                    with contextlib.suppress(OSError, UserError):  # handled when the trial is over
                        self._look(cell, row)
                self._write(now=True)

        follower = threading.Thread(target=follow, daemon=True)
        follower.start()
        try:
            yield
        finally:
            over.set()
            follower.join()

    def _look(self, cell: Cell, row: Trial) -> None:
        """Update the row of a running trial from its record."""
        record = self.ledger.record(cell)
        if record is None:
            return
        result = outcome(record, list(self.board.objectives))
        if result.status == "completed":
            fill_in(row, record, result)
        else:
            progress(row, record, result)

    def _overrides(self, cell: Cell) -> list[str]:
        """Return the overrides that compose a trial."""
        folder = str(self.ledger.folder.absolute()).replace("'", "\\'")
        of_the_run = [f"sweep_dir='{folder}'", "run_dir=null", "existing=auto"]
        return [*cell.overrides, *of_the_run, f"hydra.job.name='{cell.run_id}'"]  # 1e5 is no number

    def _over(self, cell: Cell, row: Trial, how: str | None) -> None:
        """Process a trial that the launcher reports as over; `how` describes a failure."""
        if self.ledger.is_busy(cell):
            row.state, row.error = "running", how
            return
        record = self.ledger.record(cell)
        if (
            record is not None
            and record.data["status"] == "failed"
            and record.data["history"] == self._before[row.run_id]
        ):
            record = None  # what an earlier attempt has written says nothing of this one
        status = record.data["status"] if record is not None else None
        if record is not None and status == "completed":
            self._settle(cell, row, record)
        elif how == INTERRUPTED or status == "interrupted":
            self._read(cell, row)
            row.state = "interrupted"
        elif status != "failed" and self._is_tried_again(row):
            log.warning("%s: %s; it is tried again", row.run_id, how)
            self._start(cell, row, "auto")
        else:
            self._read(cell, row)
            self._failed(cell, row, how or "has left no record", record)

    def _read(self, cell: Cell, row: Trial) -> None:
        """Update the duration of an unfinished trial from its record."""
        record: RunRecord | None = self.ledger.record(cell)
        if record is not None:
            row.seconds = record.data["cost"]["wall_seconds"] or 0.0


def way(done: JobReturn) -> str | None:
    """Return how a trial failed according to the launcher; None if it succeeded."""
    try:
        return done.return_value
    except Exception as error:  # noqa: BLE001  # raises any error of the trial
        return f"{type(error).__name__}: {error}"


@dataclass(frozen=True)
class RemoteTrial:
    """Hydra's task function in place of ``train``: runs one trial in its own process, which may die or exit.

    The launcher's process, which may hold other trials or answer to a scheduler, only waits and forwards signals.
    """

    command: list[str]
    """The sweep's command."""
    working_directory: str = field(default_factory=os.getcwd)
    """Base of relative paths."""

    def __call__(self, cfg: DictConfig) -> str | None:
        """Run a trial to its end; return how it failed, or None."""
        if Path(self.working_directory).is_dir():
            os.chdir(self.working_directory)
        plain = OmegaConf.to_container(cfg, resolve=True)
        assert isinstance(plain, dict)
        config = {str(key): value for key, value in plain.items()}
        folder, run_id = Path(config["sweep_dir"]), HydraConfig.get().job.name
        overrides = [text for text in typed_overrides() if not is_of_the_sweep(text)]
        openmp.settle(whole_number(cfg, "trainer.threads"), only_starts=True)
        environment = {"WANDB_RUN_GROUP": folder.name} | dict(os.environ)
        _wait_for_predecessor(folder / run_id)
        with Passing() as passing:
            order = Order(config, self.command, overrides, environment, output_of(folder, run_id))
            trial = passing.trial = TrialProcess.start(fork_server(), order)
            passing.again()
            while not trial.ended():
                trial.keep_going()
                wait_for([trial], TICK_SECONDS)
        code = trial.process.exitcode
        if passing.received is not None and code in SIGNALS.values():
            # the checkpoint exists: let other handlers act on the signal, as submitit does by resubmitting
            signal.raise_signal(passing.received)
            return INTERRUPTED
        return None if code == 0 else trial.how


class Passing:
    """A context manager that forwards termination signals to a trial."""

    def __init__(self) -> None:
        self.trial: TrialProcess | None = None
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Passing:
        for number in (*SIGNALS, signal.SIGUSR2):  # submitit sends the last
            self._before[number] = signal.signal(number, self._pass_on)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def again(self) -> None:
        """Forward a signal that arrived before the trial started."""
        if self.trial is not None and self.received is not None:
            self.trial.ask_to_end()

    def _pass_on(self, number: int, _frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        self.again()


def _wait_for_predecessor(folder: Path) -> None:
    """Wait while an orphaned process is still finishing the trial in `folder`."""
    until = time.monotonic() + PATIENCE
    while is_locked(folder) and time.monotonic() < until:
        time.sleep(TICK_SECONDS)
