"""The state of a sweep, one row per trial, kept in ``sweep.json`` and ``trials.csv``. No torch.

Both files are views of the run records, for people and other programs; a resumed sweep reads from them only its W&B id
and what has been told.
"""

from __future__ import annotations

import csv
import io
import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from peftlab.errors import UserError
from peftlab.masking.mask import mask
from peftlab.reading.json_form import Form, check, finite, parsed
from peftlab.storage.atomic import replacing
from peftlab.storage.entries import inside
from peftlab.storage.locks import is_locked
from peftlab.sweep.ledger import SELECTION

SWEEP, TRIALS = "sweep.json", "trials.csv"
SCHEMA_VERSION = 1

State = Literal["waiting", "running", "completed", "failed", "pruned", "interrupted"]


_FORM: Form = {
    "name": "text",
    "status": "text",
    "objectives": {"*": "text"},
    "tracked?": "text?",
    "told?": {"*": "text"},
    "results": [{"*": "scalar?"}],
    "summary": {
        "total": "count?",
        "counts": {"*": "count"},
        "best": "anything?",
        "eta_seconds": "number?",
        "device_hours": "number",
        "money": "number?",
    },
    "trials": [
        {
            "run_id": "text",
            "state": "text",
            "overrides": ["text"],
            "labels": {"*": "text"},
            "score": "number?",
            "test": "number?",
            "step": "count",
            "steps": "count?",
            "seconds": "number",
            "kept": "flag",
            "other_code": "flag",
            "error": "text?",
        }
    ],
}
"""The fields of ``sweep.json`` read."""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass
class Trial:
    """One trial."""

    overrides: list[str]
    labels: dict[str, str]
    run_id: str
    folder: str
    state: State = "waiting"
    metric: str = ""
    score: float | None = None
    """Validation score of the best checkpoint."""
    test: float | None = None
    """The same score on test, if evaluated."""
    values: list[float] = field(default_factory=list)
    """The sweep's objectives."""
    step: int = 0
    steps: int | None = None
    seconds: float = 0.0
    """Device time, over all attempts."""
    devices: float = 1.0
    attempts: int = 0
    kept: bool = False
    """Whether an earlier command completed it."""
    other_code: bool = False
    """Whether another version of the code made it."""
    error: str | None = None


@dataclass
class Board:
    """The trials of a sweep and their summary."""

    name: str
    folder: Path
    command: list[str]
    objectives: dict[str, str]
    """``max`` or ``min``, by dotted key of the record."""
    slots: int
    """Concurrent trials; 0: the launcher decides."""
    price_per_device_hour: float | None = None
    total: int | None = None
    """Number of trials; None: not known yet."""
    estimate_seconds: float | None = None
    """Expected duration of a trial, used until one has ended."""
    status: Literal["running", "completed", "failed", "interrupted"] = "running"
    started_at: str = field(default_factory=_now)
    ended_at: str | None = None
    tracked: str | None = None
    """The id of the W&B run that summarises the sweep."""
    told: dict[str, str] = field(default_factory=dict)
    """The state of the records, see `peftlab.sweep.reporting.state_of`, that ``report`` and ``wandb`` show."""
    results: list[dict[str, Any]] = field(default_factory=list)
    """The results of a protocol, one row per method."""
    trials: list[Trial] = field(default_factory=list)

    @property
    def has_worked(self) -> bool:
        """Whether this command has started any trial, or could not."""
        return any(trial.attempts or trial.state not in ("completed", "pruned") for trial in self.trials)

    def summary(self) -> dict[str, Any]:
        """Return counts by state, the best trial so far, device hours, money and the seconds left."""
        counts: dict[str, int] = {}
        for trial in self.trials:
            counts[trial.state] = counts.get(trial.state, 0) + 1
        hours = sum(trial.seconds * trial.devices for trial in self.trials) / 3600
        price = self.price_per_device_hour
        return {
            "total": self.total,
            "counts": counts,
            "best": self._best(),
            "eta_seconds": self._eta(),
            "device_hours": hours,
            "money": None if price is None else hours * price,
        }

    def document(self) -> dict[str, Any]:
        """Return the contents of ``sweep.json``."""
        about = {**vars(self), "folder": str(self.folder), "command": [_masked(word) for word in self.command]}
        del about["trials"]
        trials = [
            {**vars(trial), "overrides": [_masked(text) for text in trial.overrides], "error": _masked(trial.error)}
            for trial in self.trials
        ]
        whole = {"schema_version": SCHEMA_VERSION, **about, "updated_at": _now(), "summary": self.summary()}
        return whole | {"trials": trials}

    def write(self) -> None:
        """Replace both files."""
        for name, text in ((SWEEP, json.dumps(finite(self.document()), indent=1) + "\n"), (TRIALS, _csv(self.trials))):
            with replacing(self.folder / name) as temporary:
                temporary.write_text(text, encoding="utf-8")

    def end(self) -> None:
        """Write both files for the last time."""
        self.ended_at = _now()
        self.write()

    def _best(self) -> dict[str, Any] | None:
        """Return the best completed trial if there is one objective."""
        if len(self.objectives) != 1:
            return None
        (mode,) = self.objectives.values()
        done = [trial for trial in self.trials if trial.state == "completed" and trial.values]
        if not done:
            return None
        if SELECTION in self.objectives and len({trial.metric for trial in done if trial.metric}) > 1:  # not comparable
            return None
        best = (max if mode == "max" else min)(done, key=lambda trial: trial.values[0])
        return {"run_id": best.run_id, "value": best.values[0], "overrides": [_masked(text) for text in best.overrides]}

    def _eta(self) -> float | None:
        """Return the seconds until all trials are over, from the mean duration of completed trials."""
        if self.total is None or not self.slots:
            return None
        took = [trial.seconds for trial in self.trials if trial.state == "completed" and not trial.kept]
        each = statistics.mean(took) if took else self.estimate_seconds
        over = sum(trial.state in ("completed", "failed", "pruned") for trial in self.trials)
        begun = sum(trial.step / trial.steps for trial in self.trials if trial.state == "running" and trial.steps)
        left = max(0.0, self.total - over - begun)
        return None if each is None else left * each / self.slots


def read(folder: Path) -> dict[str, Any]:
    """Return the document of the sweep in `folder`; its status is ``gone`` if the controller has died.

    Raises:
        UserError: the document is missing or cannot be read.
    """
    document = _read(folder)
    if document["status"] == "running" and not is_locked(folder):
        document["status"] = "gone"
    return document


def told(folder: Path) -> tuple[str | None, dict[str, str]]:
    """Return the W&B id of the sweep in `folder`, None if it has none, and what has been told of it."""
    try:
        document = _read(folder)
    except UserError:
        return None, {}
    return document.get("tracked"), document.get("told", {})


def _read(folder: Path) -> dict[str, Any]:
    file = folder / SWEEP
    try:
        document: dict[str, Any] = parsed(inside(folder, file).read_text(encoding="utf-8"))
        check(document, _FORM)
        if document["summary"]["best"] is not None:
            check(document["summary"]["best"], {"run_id": "text", "value": "number", "overrides": ["text"]}, "best")
        if odd := {trial["state"] for trial in document["trials"]} - set(get_args(State)):
            raise ValueError(f"trials: {odd.pop()} is no state of a trial")
        for row in document["results"]:  # the first row names the columns; scores have a spread
            scores = [name for name in row if f"{name} SD" in row]
            columns: dict[str, Form] = dict.fromkeys(document["results"][0], "scalar?")
            columns |= {f"{name}{end}": "number?" for name in scores for end in ("", " SD", " from?", " to?")}
            check(row, columns, "results")
    except FileNotFoundError as error:
        raise UserError(f"'{folder}' is no sweep: it has no {SWEEP}.") from error
    except (ValueError, OSError) as error:
        raise UserError(f"'{file}' cannot be read: {error}. The command of the sweep writes it anew.") from error
    return document


def find(sweep: str, root: Path = Path("sweeps")) -> Path:
    """Return the folder of `sweep`, given as a folder or a name below ``sweeps/``.

    Raises:
        UserError: there is no such sweep; lists the existing ones.
    """
    for folder in (Path(sweep), root / sweep):
        if (folder / SWEEP).is_file():
            return folder
    existing = sorted(str(file.parent.relative_to(root)) for file in root.rglob(SWEEP))
    none = f"There is none below {root}/; `python -m train -m ...` makes one."
    hint = f"Those below {root}/: {', '.join(existing)}." if existing else none
    raise UserError(f"'{sweep}' is no sweep. {hint}")


def _csv(trials: Sequence[Trial]) -> str:
    """Return the trials as CSV, with one column per overridden key."""
    settings = [_pairs(trial.overrides) for trial in trials]
    keys = list(dict.fromkeys(key for pairs in settings for key in pairs))
    labels = list(dict.fromkeys(label for trial in trials for label in trial.labels))
    facts = ("metric", "score", "test", "step", "steps", "seconds", "attempts", "kept", "other_code", "error")
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["run_id", "state", *labels, *keys, *facts])
    for trial, pairs in zip(trials, settings, strict=True):
        about = vars(trial) | {"error": _masked(trial.error)}
        row = [trial.run_id, trial.state, *(trial.labels.get(label, "") for label in labels)]
        writer.writerow([*row, *(pairs.get(key, "") for key in keys), *(about[name] for name in facts)])
    return out.getvalue()


def _pairs(overrides: Iterable[str]) -> Mapping[str, str]:
    pairs = (_masked(text).partition("=") for text in overrides)  # its key identifies a secret
    return {key.lstrip("+"): value for key, _, value in pairs}


@cache
def _masked(text: Any) -> Any:
    """Return a text without its secrets; cached, as the same texts recur."""
    return None if text is None else str(mask(text))
