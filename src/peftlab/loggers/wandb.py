"""Logs to Weights & Biases: keeps every run in its own folder, and sends it to the server if one answers.

No failure of the server may cost a run more than `finish_share` of its time. A separate thread makes all calls to
wandb while the run continues. Before a run starts online, the server has `PROBE_SECONDS` to answer a request; if it
fails or does not answer, the run stays offline. At the end the server is asked again; if it answers, it has
`finish_seconds` for the last rows, the tables and the artifact. Anything that has not arrived by then is in the run
folder, for ``wandb sync``.
"""

from __future__ import annotations

import logging
import os
import queue
import re
import shlex
import threading
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

# wandb also reports its own errors to the server, and waits a quarter of a minute for that as the process ends
os.environ.setdefault("WANDB_ERROR_REPORTING", "false")

import requests
import wandb
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers.logger import Logger
from lightning_utilities.core.rank_zero import rank_zero_only

from peftlab.masking.mask import mask
from peftlab.runs.record import RunRecord
from peftlab.seams.wandb import forget_wandb_run, is_logged_in, wandb_id
from peftlab.storage.names import shortened

log = logging.getLogger("peftlab")

PROBE_SECONDS = 3.0
"""Limit for the server's first answer."""
INIT_SECONDS = 5.0
"""Limit for the server to accept a new run."""
LOCAL_SECONDS = 30.0
"""Limit for steps without a server, on a busy machine: that the W&B run has begun, that it has all rows."""
ASK_SECONDS = 0.5
"""Minimum limit for the server's answer at the end."""
CLOSE_SECONDS = 1.5
"""Limit for finishing the W&B run itself, which wandb needs at the start."""
MOST = {"tags": 64, "job_type": 64, "name": 128, "group": 128, "project": 128, "id": 128, "artifact": 128}
"""Maximum lengths of labels. wandb itself checks tags, project and artifacts; the server checks all, even of offline
runs."""
ODD = {"project": "/\\#?%:", "id": ":;,#?/'"}
"""Characters that wandb rejects in these labels."""
ROUTING = ("entity", "project", "id", "resume")
"""Labels that decide where a run goes, and so must not be masked."""
STEP = "trainer/global_step"
"""The metric on the x-axis of the others, named as in Lightning's own logger."""


class Wandb(Logger):
    """A separate W&B run, even next to other runs of the same process.

    A resumed run continues its W&B run. Rows logged after the checkpoint stay there next to the same rows logged
    again, since W&B cannot remove any. Offline, each part has its own folder, under the same id.

    Args:
        save_dir: the run folder; wandb's files go to ``tracking/wandb`` in it.
        project: the W&B project; None: ``WANDB_PROJECT``, else peftlab.
        entity: the user or team; None: wandb's default.
        group: the W&B group; None: ``WANDB_RUN_GROUP``, else the run's name.
        job_type: the kind of job.
        name: the W&B run's name; None: the run's name and id.
        tags: search tags; None: `names`.
        names: names of the run's parts, cut to the length of tags.
        notes: a free text.
        mode: None: ``WANDB_MODE``, else online where a user is logged in and the server answers, else offline.
        finish_seconds: limit for a server that answers to accept the last rows, tables and artifact after the run.
        finish_share: the same limit for any server, as a share of the run's time, from 0 to 1; at least the sum of
            `ASK_SECONDS` and `CLOSE_SECONDS`.
    """

    def __init__(
        self,
        save_dir: str | Path,
        project: str | None = None,
        entity: str | None = None,
        group: str | None = None,
        job_type: str = "train",
        name: str | None = None,
        tags: Sequence[str] | None = None,
        names: Sequence[str] = (),
        notes: str | None = None,
        mode: Literal["online", "offline", "disabled"] | None = None,
        finish_seconds: float = 5.0,
        finish_share: float = 0.04,
    ) -> None:
        super().__init__()
        self.folder = Path(save_dir) / "tracking"
        if tags is None:
            tags = list(dict.fromkeys(shortened(text, MOST["tags"]) for text in names if text))
        self.labels = {"entity": entity, "job_type": job_type, "name": name, "tags": list(tags), "notes": notes}
        self.project, self.group, self.mode = project, group, mode
        self.finish_seconds, self.finish_share = finish_seconds, finish_share
        self._run: Future[wandb.Run] = Future()
        self._turns = _Turns()
        self._tables: dict[str, tuple[list[str | int], list[list[Any]]]] = {}
        self._report: Path | None = None

    @classmethod
    def refuse(cls, options: Mapping[str, Any]) -> str | None:
        """Return the option, or the variable in its place, that W&B does not accept, with the reason; else None."""
        for key, variable in (("project", "WANDB_PROJECT"), ("id", "WANDB_RUN_ID"), ("group", "WANDB_RUN_GROUP")):
            where = key if options.get(key) else f"{key} (from {variable})"
            if refused := _refused(key, where, options.get(key) or os.environ.get(variable)):
                return refused
        single = (_refused(key, key, options.get(key)) for key in ("name", "job_type"))
        tags = (_refused("tags", "tags", tag) for tag in options.get("tags") or ())
        return next(filter(None, (*single, *tags)), None)

    @property
    def save_dir(self) -> str:
        """The folder that contains wandb's."""
        return str(self.folder)

    @property
    def name(self) -> str | None:
        """The project."""
        return self.project

    @property
    def version(self) -> str | None:
        """The id of the W&B run, once it has begun."""
        return self._run.result().id if self._run.done() else None

    @property
    @rank_zero_experiment
    def experiment(self) -> wandb.Run | _Begun:
        """The W&B run, for callbacks that log to it; accessing its attributes waits for it.

        Lightning gets it before the first step of every run without accessing any.
        """
        return _Begun(self._run)

    def begin(self, record: RunRecord) -> None:
        """Start the W&B run in the background."""
        self.folder.mkdir(parents=True, exist_ok=True)
        about = {section: record.data[section] for section in ("run_id", "identity", "code", "environment")}
        labels = self.labels | {
            "name": self.labels["name"] or _run_name(record),
            "config": {"record": about},
        }
        tracked = [event["id"] for event in record.events("tracking", "tracked") if event["logger"] == "wandb"]
        if tracked:
            labels |= {"id": tracked[0], "resume": "allow"}
        else:  # the record has it from the start, so that a killed run can continue its W&B run
            labels |= {"id": os.environ.get("WANDB_RUN_ID") or wandb_id()}
            record.event("tracking", logger="wandb", id=labels["id"])
            record.write()
        group = shortened(record.data["name"], MOST["group"])
        self._turns.take(lambda: self._start(labels, group))

    def _start(self, labels: Mapping[str, Any], group: str) -> None:
        """Start the W&B run, online if the server accepts it; `group` is the default group."""
        try:
            settings = wandb.setup().settings
            self.project = self.project or settings.project or "peftlab"
            labels = {**labels, "project": self.project, "group": self.group or settings.run_group or group}
            mode = self._mode(settings)
            try:
                run = self._init(mode, labels)
            except wandb.Error as error:
                if mode != "online":
                    raise
                log.warning("W&B: %s refuses the run (%s); it is kept offline", settings.base_url, _first_line(error))
                forget_wandb_run(labels["id"], LOCAL_SECONDS)
                run = self._init("offline", labels)
            run.define_metric(STEP)
            run.define_metric("*", step_metric=STEP)
        except Exception as error:  # noqa: BLE001  # raised where the run is used
            self._run.set_exception(error)
        else:
            self._run.set_result(run)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *_: Any, **__: Any) -> None:
        """Add to the W&B run's configuration."""
        self._turns.take(lambda: self.experiment.config.update(params, allow_val_change=True))

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log a row."""
        row = {**metrics, STEP: step}
        self._turns.take(lambda: self.experiment.log(row))

    @rank_zero_only
    def log_table(self, key: str, columns: Sequence[str], data: Sequence[Sequence[Any]]) -> None:
        """Keep a table until the end, since wandb waits for the server to log it."""
        self._tables[key] = (list(columns), [list(row) for row in data])

    @rank_zero_only
    def keep_report(self, folder: Path) -> None:
        """Have the files of a report in the artifact, which is then of that type."""
        self._report = folder

    def conclude(self, record: RunRecord) -> str | None:
        """Log the tables, and the adapter with the finished record, or a report, as an artifact; end the W&B run.

        Adds its id to the record's history. Returns the address of the run, or the command that sends it later.
        """
        run = self._run.result(LOCAL_SECONDS)
        record.event("tracked", logger="wandb", id=run.id, project=self.project, offline=run.offline)
        record.write()
        rows, arrived = threading.Event(), threading.Event()
        self._turns.take(rows.set)
        rows.wait(LOCAL_SECONDS)
        self._turns.take(lambda: self._send(run, record, arrived))
        self._turns.end(self._patience(record, run))
        try:
            run.finish(exit_code=0 if record.data["status"] == "completed" else 1)
        except TimeoutError:
            arrived.clear()
        if run.settings.mode == "disabled":
            return None
        sync = f"wandb sync {shlex.quote(run.settings.sync_dir)}"
        if run.offline:
            return f"W&B: kept offline; send it with: {sync}"
        return (
            f"W&B: {run.url}" if arrived.is_set() else f"W&B: not everything reached the server; send it with: {sync}"
        )

    def _send(self, run: wandb.Run, record: RunRecord, arrived: threading.Event) -> None:
        """Log the summary, the tables and the artifact; set `arrived` once the server has them."""
        run.summary.update({"status": record.data["status"], "cost": record.data["cost"]})
        try:
            with self._staging():
                for key, (columns, rows) in self._tables.items():
                    run.log({key: wandb.Table(columns=columns, data=rows), STEP: record.data["cost"]["steps"]})
                artifact = run.log_artifact(_artifact(record, run.id, self._report))
            if run.settings.mode == "online":
                artifact.wait()
            arrived.set()
        except Exception as error:  # noqa: BLE001  # the run must still be ended
            log.debug("W&B: the tables or the artifact have not arrived: %s", error)

    def _init(self, mode: str, labels: Mapping[str, Any]) -> wandb.Run:
        return wandb.init(
            **{key: label if key in ROUTING else mask(label) for key, label in labels.items()},
            dir=self.folder.absolute(),  # wandb's own process may have another current folder
            mode=mode,  # type: ignore[arg-type]
            reinit="create_new",  # leave alone a run that the user has open
            save_code=False,
            settings=wandb.Settings(
                silent=True,
                console="off",  # output of the user's own code is not ours to send
                # the command line and uncommitted changes may contain secrets; the record describes both
                x_disable_meta=True,
                disable_git=True,
                x_save_requirements=False,
                symlink=False,
                init_timeout=INIT_SECONDS,
                finish_timeout=CLOSE_SECONDS if mode == "online" else LOCAL_SECONDS,
                finish_timeout_raises=True,
            ),
        )

    def _mode(self, settings: wandb.Settings) -> str:
        """Return the mode in which a run can start now."""
        asked = self.mode or os.environ.get("WANDB_MODE")
        if (asked or settings.mode) not in ("online", "run"):
            return asked or settings.mode
        if is_logged_in(settings.base_url):
            trouble = what_ails(settings.base_url, PROBE_SECONDS)
            if trouble is None:
                return "online"
            log.warning("W&B: no answer from %s (%s); the run is kept offline", mask(settings.base_url), mask(trouble))
        elif asked == "online":
            log.warning("W&B: nobody is logged in (wandb login); the run is kept offline")
        return "offline"

    def _patience(self, record: RunRecord, run: wandb.Run) -> float:
        """Return how many seconds to wait for the last uploads before closing the W&B run."""
        if run.settings.mode != "online":
            return LOCAL_SECONDS
        began = time.monotonic()
        share = self.finish_share * (record.data["cost"]["wall_seconds"] or 0.0)
        seconds = max(ASK_SECONDS, share - CLOSE_SECONDS)
        if what_ails(run.settings.base_url, seconds) is not None:
            return 0.0
        return max(seconds, self.finish_seconds - CLOSE_SECONDS) - (time.monotonic() - began)

    @contextmanager
    def _staging(self) -> Iterator[None]:
        """Make wandb stage uploads in our folder instead of the user's home."""
        before = os.environ.get("WANDB_DATA_DIR")
        os.environ["WANDB_DATA_DIR"] = str(self.folder.absolute() / "wandb")
        try:
            yield
        finally:
            if before is None:
                del os.environ["WANDB_DATA_DIR"]
            else:
                os.environ["WANDB_DATA_DIR"] = before


def _artifact(record: RunRecord, run_id: str, report: Path | None) -> wandb.Artifact:
    """Return the adapter with the finished record, or a report."""
    name = re.sub(r"[^\w.-]", "_", f"run-{record.data['run_id']}-{run_id}", flags=re.ASCII)
    artifact = wandb.Artifact(shortened(name, MOST["artifact"]), type="report" if report else "model")
    if report:
        artifact.add_dir(str(report), name="report", skip_cache=True)  # copied, as a later one replaces it
    for file in [record.folder / "record.json", *sorted((record.folder / "adapter").rglob("*"))]:
        if file.is_file():
            # the files never change, so wandb need not copy them
            artifact.add_file(
                str(file), name=file.relative_to(record.folder).as_posix(), policy="immutable", skip_cache=True
            )
    return artifact


def _refused(key: str, where: str, text: str | None) -> str | None:
    """Return the problem with `text`, the value of `key` from `where`, or None."""
    if text is None:
        return None
    if not text or len(text) > MOST[key]:
        return f"{where} = '{text[:80]}' has {len(text)} characters: W&B takes 1 to {MOST[key]}. Shorten it"
    if odd := "".join(sorted({*text} & {*ODD.get(key, "")})):
        return f"{where} = '{text}': W&B takes none of {' '.join(odd)} in it. Leave it out"
    return None


def _run_name(record: RunRecord) -> str:
    end = f"-{record.data['run_id']}"
    return shortened(record.data["name"], MOST["name"] - len(end)) + end


class _Begun:
    """A W&B run that may not have begun; accessing an attribute waits for it."""

    def __init__(self, run: Future[wandb.Run]) -> None:
        self._run = run

    def __getattr__(self, name: str) -> Any:
        return getattr(self._run.result(LOCAL_SECONDS), name)


class _Turns:
    """Runs functions one after another in a thread that the end of the process does not wait for."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self._waiting: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def take(self, act: Callable[[], object]) -> None:
        """Queue `act`; raises the first error of earlier ones."""
        if self.error is not None:
            raise self.error
        self._waiting.put(act)

    def end(self, seconds: float) -> None:
        """Wait until all queued functions have run, at most `seconds`."""
        self._waiting.put(None)
        self._thread.join(max(0.0, seconds))

    def _work(self) -> None:
        while (act := self._waiting.get()) is not None:
            try:
                act()
            except Exception as error:  # noqa: BLE001  # raised by the next `take`
                self.error = self.error or error


def what_ails(base_url: str, seconds: float) -> str | None:
    """Return why the server at `base_url` cannot accept a run, or None if it answers within `seconds`."""
    trouble = [f"no answer within {seconds:g} s"]

    def ask() -> None:
        try:
            answer = requests.post(f"{base_url}/graphql", json={"query": "{__typename}"}, timeout=seconds)
            trouble[0] = f"HTTP {answer.status_code}" if answer.status_code >= 500 else ""
        except requests.Timeout:
            return  # `trouble` says so already
        except requests.RequestException as error:
            trouble[0] = type(error).__name__

    # requests' own limit applies to each part of the answer, and not to resolving the address
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(seconds)
    return trouble[0] or None


def _first_line(error: Exception) -> str:
    return str(mask(str(error))).splitlines()[0]
