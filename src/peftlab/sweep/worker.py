"""The processes of a sweep that do its heavy work, each a child of the fork server: trials, and what looks at cells.

Only `Order` and the functions that a process begins in are imported by the controller, which stays free of torch.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peftlab.errors import UserError
from peftlab.masking.mask import remember
from peftlab.masking.streams import mask_streams, write_masked
from peftlab.seams.python import run_exit_functions
from peftlab.terminal.exits import user_exits
from peftlab.terminal.signals import Pruned, Signals

if TYPE_CHECKING:
    from peftlab.one_run import Prepared, Sources

PATIENCE = 60.0
"""Seconds in which a trial whose controller has gone must come to the end of its step or batch."""

BEGAN = ("began",)
"""What a trial tells first: from now on a signal ends it as it should."""

PRUNED = 4
"""The exit code of a trial that has been pruned; see `peftlab.terminal.exits` for the others."""


@dataclass(frozen=True)
class Order:
    """One trial."""

    config: dict[str, Any]
    """Composed, as plain values."""
    command: list[str]
    overrides: list[str]
    environment: Mapping[str, str]
    output: Path
    """Takes what is printed."""


def work(order: Order, connection: Connection) -> None:
    """Run a trial; `connection` is told how far it has come, and answers every validation with whether it goes on."""
    _begin(order.environment, order.output, order.config)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has what it starts in the background ignore it
    from omegaconf import OmegaConf

    from peftlab.one_run import run

    try:
        with user_exits():
            teller = _Teller(connection)
            teller.began()
            run(OmegaConf.create(order.config), order.command, order.overrides, teller)
    except Pruned:
        sys.exit(PRUNED)
    finally:
        run_exit_functions()  # wandb ends its own process there
        connection.close()


@dataclass(frozen=True)
class Fact:
    """What is known of a cell without running it."""

    sha256: str
    """Of its identity."""
    metric: str
    """The score that its best checkpoint is selected by."""
    mode: str
    """``max`` or ``min``."""


@dataclass(frozen=True)
class Machine:
    """What is here to run trials on."""

    gpus: list[str]
    cores: int


@dataclass(frozen=True)
class Estimate:
    """What a trial is expected to take."""

    seconds: float
    bytes_kept: int
    """When it is over."""
    bytes_at_work: int
    """More, while it runs."""


def look(environment: Mapping[str, str], output: Path, connection: Connection) -> None:
    """Answer questions about cells until the connection ends: ``(name of a method of `_Looker`, arguments)``.

    An answer is ``(True, value)``, or ``(False, message)`` where the user has made a mistake.
    """
    _begin(environment, output)
    looker = _Looker()
    while True:
        try:
            name, *arguments = connection.recv()
        except EOFError:
            return
        try:
            answer = (True, getattr(looker, name)(*arguments))
        except UserError as error:
            answer = (False, str(error))
        connection.send(answer)


def summarise(
    environment: Mapping[str, str], output: Path, folder: Path, document: dict[str, Any], options: dict[str, Any]
) -> None:
    """Make the W&B run that sums a sweep up, or go on with it: the table of its trials, in the group of theirs.

    Args:
        environment: variables to be set.
        output: takes what is printed.
        folder: of the sweep.
        document: what its ``sweep.json`` holds.
        options: of the trials' own W&B logger, such as the project.
    """
    _begin(environment, output)
    from peftlab.loggers.wandb import Wandb
    from peftlab.runs.start import Unwritten

    started = {"run_id": "sweep", "name": document["name"], "command": document["command"], "overrides": []}
    record = Unwritten.start(folder, identity={}, **started)
    record.data["status"] = document["status"]
    record.event("tracking", logger="wandb", id=document["tracked"])
    logger = Wandb(folder, **options | {"job_type": "sweep", "name": document["name"]})
    try:
        logger.begin(record)
        logger.log_hyperparams({key: document[key] for key in ("command", "objectives", "slots", "total")})
        summary = document["summary"]
        best = summary["best"]
        numbers = {f"trials/{state}": count for state, count in summary["counts"].items()}
        logger.log_metrics(numbers | {"best": best["value"] if best else None, "device_hours": summary["device_hours"]})
        rows = document["trials"]
        columns = ("run_id", "state", "overrides", "metric", "score", "test", "seconds", "error")
        logger.log_table("trials", columns, [[_plain(row[column]) for column in columns] for row in rows])
        if results := document["results"]:
            logger.log_table("results", list(results[0]), [list(map(_plain, row.values())) for row in results])
        print(logger.conclude(record))
    finally:
        run_exit_functions()


def _plain(value: Any) -> Any:
    return " ".join(value) if isinstance(value, list) else value


class _Looker:
    """Finds out about cells; what several have in common is read once."""

    def __init__(self) -> None:
        self._sources: dict[str, Sources] = {}
        self._built: set[str] = set()
        self._ready: tuple[str, Prepared] | None = None
        """What was read last."""

    def machine(self) -> Machine:
        """Return what is here, as far as ``CUDA_VISIBLE_DEVICES`` shows it."""
        import torch

        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        count = torch.cuda.device_count()
        names = visible.split(",") if visible else [str(n) for n in range(count)]
        return Machine(names[:count], torch.get_num_threads())

    def fact(self, config: dict[str, Any]) -> Fact:
        """Return what is known of a cell, having checked it; all but its training is tried.

        Raises:
            UserError: it cannot be run.
        """
        from omegaconf import OmegaConf

        from peftlab.one_run import build, read, settle
        from peftlab.storage.digests import canonical_json

        resolved, spec = settle(OmegaConf.create(config))
        budget = {key: resolved["budget"][key] for key in ("train_examples", "eval_examples", "overfit_batches")}
        # the seed draws batches, and decides on nothing that is read but where only some of them are
        seed = resolved["seed"] if budget["overfit_batches"] else None
        about_data = canonical_json([*(resolved[key] for key in ("model", "data", "task", "allow")), budget, seed])
        of_the_model = ("peft", "regularizer", "trainer", "callbacks", "adapter")
        about_model = canonical_json([about_data, *(resolved.get(key) for key in of_the_model)])
        if about_data in self._sources and about_model in self._built:
            identity = self._sources[about_data].complete(resolved)
        else:
            if self._ready is None or self._ready[0] != about_data:
                self._ready = (about_data, read(resolved, spec))
            ready = self._ready[1]
            identity = ready.sources.complete(resolved)
            spec = replace(spec, task=ready.spec.task)  # which has learnt the labels
            build(replace(ready, config=resolved, spec=spec, identity=identity))
            self._built.add(about_model)
            self._sources[about_data] = ready.sources
        metric = spec.task.selection.metric
        return Fact(identity["sha256"], metric, spec.task.directions[metric])

    def estimate(self, config: dict[str, Any], seconds: float) -> Estimate:
        """Train and evaluate for some `seconds`, without a run folder, and tell what the whole trial is to take."""
        from omegaconf import OmegaConf

        from peftlab.sweep.probe import probe

        took, kept, at_work = probe(OmegaConf.create(config), seconds)
        return Estimate(took, kept, at_work)


class _Teller:
    """The watcher of a run that tells the controller; where it has gone, the run goes on until a signal ends it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def began(self) -> None:
        self._tell(BEGAN)

    def stepped(self, step: int, steps: int) -> None:
        self._tell(("stepped", step, steps))

    def validated(self, step: int, steps: int, value: float) -> bool:
        return self._tell(("validated", step, steps, value), self._connection.recv) is not False

    def _tell(self, message: tuple[Any, ...], answer: Callable[[], Any] | None = None) -> Any:
        try:
            self._connection.send(message)
            return answer and answer()
        except (EOFError, OSError):
            return None


def _begin(environment: Mapping[str, str], output: Path, config: Mapping[str, Any] | None = None) -> None:
    """Become a process of its own: group, variables, output; end with the controller.

    Secrets in the output are masked, those of `config` included.
    """
    os.setpgid(0, 0)  # so that Ctrl-C reaches the controller alone, and what this starts can be ended with it
    os.environ.update(environment)
    os.environ.pop("WANDB_RUN_ID", None)  # it names one run, and this is one of many
    remember(config or {})
    write_masked(output)
    mask_streams()  # of the configurations that it reads later, only this process knows the secrets
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    end = time.monotonic() + PATIENCE
    # where the controller's SIGINT was still to be taken, this was the second signal, and Python has dropped it
    while time.monotonic() < end and Signals.taken != signal.SIGINT:
        time.sleep(0.1)
    os.killpg(0, signal.SIGKILL)
