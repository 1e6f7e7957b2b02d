"""The worker processes of a sweep, children of the fork server: trials, and the looker that checks cells.

The controller imports only `Order` and the entry points from here, so it stays free of torch.
"""

from __future__ import annotations

import os
import signal
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peftlab.devices.peak_memory import peak_memory
from peftlab.errors import UserError
from peftlab.masking.mask import remember
from peftlab.masking.streams import mask_streams, write_masked
from peftlab.seams.python import run_exit_functions
from peftlab.sweep.files_read import FilesRead, State
from peftlab.terminal.exits import user_exits
from peftlab.terminal.signals import Pruned, Signals

if TYPE_CHECKING:
    from peftlab.one_run import Prepared
    from peftlab.runs.identity import Sources

PATIENCE = 60.0
"""Seconds that a trial has to finish its step or batch once its controller is gone."""

BEGAN = ("began",)
"""A trial's first message: from now on it handles signals."""

PRUNED = 4
"""The exit code of a pruned trial; see `peftlab.terminal.exits` for the others."""


@dataclass(frozen=True)
class Order:
    """A trial to run."""

    config: dict[str, Any]
    """Composed, as plain values."""
    command: list[str]
    overrides: list[str]
    environment: Mapping[str, str]
    output: Path
    """Receives stdout and stderr."""


def work(order: Order, connection: Connection) -> None:
    """Run a trial; report progress on `connection`, which answers each validation with whether to go on."""
    begin(order.environment, order.output, order.config)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell makes its background jobs ignore it
    from omegaconf import OmegaConf

    from peftlab.one_run import run

    try:
        with user_exits():
            reporter = Reporter(connection)
            reporter.began()
            run(OmegaConf.create(order.config), order.command, order.overrides, reporter)
    except Pruned:
        sys.exit(PRUNED)
    finally:
        run_exit_functions()  # wandb ends its own process there
        connection.close()


@dataclass(frozen=True)
class Fact:
    """The identity and score of a cell."""

    sha256: str
    """Digest of the run identity."""
    metric: str
    """The score that selects its best checkpoint."""
    mode: str
    """``max`` or ``min``."""
    pack: str | None = None
    """See `peftlab.sweep.ledger.Cell`."""


@dataclass(frozen=True)
class Machine:
    """GPUs and cores to run trials on."""

    gpus: list[str]
    cores: int


@dataclass(frozen=True)
class Estimate:
    """The expected cost of a trial."""

    seconds: float
    bytes_kept: int
    """On disk after the trial."""
    bytes_at_work: int
    """Additional, while it runs."""
    passes: int
    """Forward passes of a training step over each of its examples."""
    pack: int
    """Trials that fit in the memory of a GPU together; 1 on a CPU."""


def look(environment: Mapping[str, str], output: Path, connection: Connection) -> None:
    """Answer requests, ``(name of a method of `_Looker`, *arguments)``, until the connection closes.

    An answer is ``(True, value)``, or ``(False, message)`` for a UserError.
    """
    begin(environment, output)
    looker = _Looker(FilesRead(_apart_from()))
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


def _apart_from() -> list[Path]:
    """Return the folders of what is installed, of the machine, and of copies named by what they were made of."""
    from peftlab.sources import cache_root

    copies = [cache_root() / name for name in ("encoded", "activations")]
    # not the whole prefix of an installation, below which somebody's data may lie
    installed = {Path(sysconfig.get_paths()[key]) for key in ("stdlib", "platstdlib", "purelib", "platlib")}
    return [*sorted(installed), Path(__file__).parents[1], *map(Path, ("/proc", "/sys")), *copies]


def summarise(
    environment: Mapping[str, str], output: Path, folder: Path, document: dict[str, Any], options: dict[str, Any]
) -> None:
    """Create or resume the W&B run that summarises a sweep: a table of its trials, in their group.

    Args:
        environment: variables to set.
        output: receives stdout and stderr.
        folder: of the sweep.
        document: the contents of its ``sweep.json``.
        options: of the trials' W&B logger, such as the project.
    """
    begin(environment, output)
    from peftlab.loggers.wandb import Wandb
    from peftlab.report.written import REPORT
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
        if (folder / REPORT).is_dir():
            logger.keep_report(folder / REPORT)
        print(logger.conclude(record))
    finally:
        run_exit_functions()


def _plain(value: Any) -> Any:
    return " ".join(value) if isinstance(value, list) else value


class _Looker:
    """Checks cells; data and models that cells share are read once."""

    def __init__(self, files_read: FilesRead | None = None) -> None:
        self._files_read = files_read
        self._sources: dict[str, Sources] = {}
        self._built: dict[str, bool] = {}
        """By what determines a model, whether several such can be computed together."""
        self._ready: tuple[str, Prepared] | None = None
        """The data read last, by its key."""

    def machine(self) -> Machine:
        """Return the devices that ``CUDA_VISIBLE_DEVICES`` exposes."""
        import torch

        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        count = torch.cuda.device_count()
        names = visible.split(",") if visible else [str(n) for n in range(count)]
        return Machine(names[:count], torch.get_num_threads())

    def among(self, processes: int) -> int:
        """Leave others of so many processes their share of the cores; return the most bytes that this one has held."""
        import torch

        torch.set_num_threads(max(1, torch.get_num_threads() // processes))
        return peak_memory()

    def files(self) -> dict[str, State] | None:
        """Return what has been read for all facts so far, see `FilesRead.states`."""
        return None if self._files_read is None else self._files_read.states()

    def fact(self, config: dict[str, Any]) -> Fact:
        """Check all of a cell but its training, and return its identity and score.

        Raises:
            UserError: the cell cannot run.
        """
        from omegaconf import OmegaConf

        from peftlab.data.sampling import BY_KEYS
        from peftlab.one_run import build, read, settle
        from peftlab.packing.joinable import alike, is_joinable, never_joined
        from peftlab.regularizing import prepared_regularizers
        from peftlab.storage.digests import canonical_json, sha256_of

        resolved, spec = settle(OmegaConf.create(config))
        budget = {key: resolved["budget"].get(key) for key in (*BY_KEYS, "test")}
        # the seed affects the data only if a part is drawn: examples, labels to hold out, clients, demonstrations
        drawn = isinstance((resolved.get("out_of_scope") or {}).get("held_out"), int) or resolved.get("federated")
        seed = resolved["seed"] if budget["overfit_batches"] or drawn or spec.task.reading_options else None
        of_the_data = ("model", "data", "task", "augment", "semi", "out_of_scope", "allow")
        # how texts without labels are joined, and how much noise keeps a promise, depends on the number of steps
        by_steps = [resolved.get(key) for key in ("semi", "privacy", "federated")]
        steps = [*by_steps, resolved["budget"], resolved["trainer"]] if any(by_steps) else None
        about_data = canonical_json([*(resolved.get(key) for key in of_the_data), budget, seed, steps])
        about_sources = canonical_json([about_data, resolved.get("regularizer")])
        of_the_model = ("peft", "trainer", "callbacks", "adapter")
        about_model = canonical_json([about_sources, *(resolved.get(key) for key in of_the_model)])
        if about_sources in self._sources and about_model in self._built:
            identity = self._sources[about_sources].complete(resolved)
        else:
            if self._ready is None or self._ready[0] != about_data:
                ready = read(resolved, spec)
                self._ready, sources = (about_data, ready), ready.sources
            else:
                ready = self._ready[1]
                spec = replace(spec, task=ready.spec.task, semi=ready.spec.semi)  # as the data has settled them
                regularizers = prepared_regularizers(spec, ready.data, ready.pretrained.weights_sha256)
                sources = replace(ready.sources, regularizer=regularizers)
            identity = sources.complete(resolved)
            tuner = build(replace(ready, config=resolved, spec=spec, sources=sources, identity=identity))
            self._built[about_model] = is_joinable(tuner.model)
            self._sources[about_sources] = sources
        metric = spec.task.selection.metric
        joined = self._built[about_model] and never_joined(spec) is None
        pack = sha256_of(alike(resolved)) if joined else None
        return Fact(identity["sha256"], metric, spec.task.directions[metric], pack)

    def estimate(self, config: dict[str, Any], seconds: float) -> Estimate:
        """Train and evaluate for `seconds` without a run folder; return the estimate for the whole trial."""
        from omegaconf import OmegaConf

        from peftlab.sweep.probe import probe

        return Estimate(*probe(OmegaConf.create(config), seconds))


class Reporter:
    """Reports a run's progress to the controller; if that is gone, the run goes on until a signal ends it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def began(self) -> None:
        """Report that signals are handled."""
        self._send(BEGAN)

    def stepped(self, step: int, steps: int) -> None:
        """Report a step."""
        self._send(("stepped", step, steps))

    def validated(self, step: int, steps: int, value: float) -> bool:
        """Report a score; return whether to go on."""
        return self._send(("validated", step, steps, value), self._connection.recv) is not False

    def _send(self, message: tuple[Any, ...], answer: Callable[[], Any] | None = None) -> Any:
        try:
            self._connection.send(message)
            return answer and answer()
        except (EOFError, OSError):
            return None


def begin(environment: Mapping[str, str], output: Path, config: Mapping[str, Any] | None = None) -> None:
    """Set up the process: group, environment, output; make it end with the controller.

    Secrets in the output are masked, including those of `config`.
    """
    os.setpgid(0, 0)  # Ctrl-C reaches only the controller, and the group can be killed
    os.environ.update(environment)
    os.environ.pop("WANDB_RUN_ID", None)  # it names a single run
    remember(config or {})
    write_masked(output)
    mask_streams()  # only this process knows the secrets in configurations that it reads later
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    time.sleep(0.1)  # a SIGINT that was sent to a stopped process is taken first: else Python may drop it unseen
    os.kill(os.getpid(), signal.SIGTERM)
    end = time.monotonic() + PATIENCE
    # if the controller's SIGINT was still pending, this was the second signal, and Python dropped it
    while time.monotonic() < end and Signals.taken != signal.SIGINT:
        time.sleep(0.1)
    os.killpg(0, signal.SIGKILL)
