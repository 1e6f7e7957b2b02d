"""The run record: one JSON file that says what was run, on what, with which result.

It is read without torch, so that reports stay fast, and each write replaces it atomically.
"""

from __future__ import annotations

import hashlib
import json
import traceback
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, get_args

from peftlab.errors import UserError
from peftlab.masking.mask import mask
from peftlab.reading.json_form import finite, parsed
from peftlab.runs.derivation import SECTION
from peftlab.runs.record_form import Status, check
from peftlab.storage.atomic import replacing
from peftlab.storage.entries import inside

SCHEMA_VERSION = 1

MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""By schema version: the function that turns a record of that version into one of the next."""

FILE_NAME = "record.json"

MOST_BYTES = 2**26
"""More than any record needs: a validation adds about a hundred bytes."""

_TRACEBACK_LINES = 20

_FREE_TEXT = ("command", "overrides", "error")

_MESSAGES = ("reason", "message")
"""The details of an event that are free text."""


class RunRecord:
    """The record of one run; `data` is the content of `record.json` in the run's folder.

    `start`, `resume` and `finish` write it; after any other change, call `write`.
    """

    def __init__(self, folder: Path, data: dict[str, Any]) -> None:
        self.folder = folder
        self.data = data

    @classmethod
    def start(
        cls,
        folder: Path,
        *,
        run_id: str,
        name: str,
        command: Sequence[str],
        overrides: Sequence[str],
        identity: Mapping[str, Any],
        **sections: Mapping[str, Any],
    ) -> Self:
        """Write the record of a run that starts now in `folder`; `sections` are passed to `update`."""
        record = cls(folder, _blank())
        record.data |= {"run_id": run_id, "name": name, "status": "running", "started_at": _now()}
        record.data |= {"command": list(command), "overrides": list(overrides)}
        record.update(identity=identity, **sections)
        record.event("started")
        record.write()
        return record

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read the record in a run folder, or in the file itself, and bring it to the present schema.

        Raises UserError if it is missing, unreadable, of another form (see `peftlab.runs.record_form`), or written by a
        newer peftlab. The file itself does not change.
        """
        path = Path(path)
        file = path / FILE_NAME if path.is_dir() else path
        try:
            if (size := inside(file.parent, file).stat().st_size) > MOST_BYTES:
                raise ValueError(f"it has {size:,} bytes, more than {MOST_BYTES:,}")
            data = parsed(file.read_text(encoding="utf-8"))
            version = data.get("schema_version") if isinstance(data, dict) else None
            if type(version) is not int or version < 1:
                raise ValueError("it has no schema_version")
            if version > SCHEMA_VERSION:
                raise UserError(
                    f"'{file}' has schema version {version}, and this peftlab reads up to {SCHEMA_VERSION}. "
                    "Upgrade: `pip install --upgrade peftlab`."
                )
            check(data)
        except FileNotFoundError as error:
            raise UserError(f"No run record at '{file}'. Name a run folder, which holds a {FILE_NAME}.") from error
        except (ValueError, OSError) as error:
            raise UserError(f"'{file}' is not a run record: {error}.") from error
        for older in range(version, SCHEMA_VERSION):
            data = MIGRATIONS[older](data) | {"schema_version": older + 1}
        return cls(file.parent, data)

    def seconds_on_device(self) -> float | None:
        """Return the seconds of the run: those of the clock, less those in which others of its process had their turn.

        None if it never ended.
        """
        seconds: float | None = self.data["cost"]["wall_seconds"]
        packing = self.extensions.get("packing", {})
        if seconds is None or "clock_seconds" not in packing:
            return seconds
        return max(0.0, seconds - packing["clock_seconds"] + packing["seconds"])

    def device_seconds(self) -> float | None:
        """Return the seconds of the run times its devices, with those of the runs that its model was computed from.

        None if one of them is unknown.
        """
        seconds = self.seconds_on_device()
        own = None if seconds is None else seconds * (self.data["environment"].get("world_size") or 1)
        parents = (self.derived or {}).get("parents", ())
        parts = [own, *(parent.get("device_seconds") for parent in parents)]
        return None if None in parts else sum(filter(None, parts))

    def update(self, **sections: Mapping[str, Any]) -> None:
        """Set entries of sections, as in `update(cost={"steps": 10})`; the other entries of a section stay.

        Raises TypeError for a name that is no section of the record.
        """
        names = [key for key, value in _blank().items() if isinstance(value, dict)]
        for section in sections:
            if section not in names:
                raise TypeError(f"'{section}' is no section of the run record; those are {', '.join(names)}")
        for section, entries in sections.items():
            self.data[section].update(entries)

    def extend(self, section: str, entries: Mapping[str, Any]) -> None:
        """Add entries to a capability's own section, such as ``privacy``; the first call creates it.

        Entries are JSON values: names and numbers, no text that could hold a secret.

        Raises ValueError for a name that every record uses itself.
        """
        if section in _blank():
            raise ValueError(f"'{section}' is the record's own: `update` sets the entries of its sections")
        self.data.setdefault(section, {}).update(entries)

    @property
    def derived(self) -> dict[str, Any] | None:
        """How the model was computed from finished runs, see `peftlab.use.derive`; None: it was trained."""
        section: dict[str, Any] | None = self.data.get(SECTION)
        return section

    def check_trained(self, what: str) -> None:
        """Check that training made the model.

        Args:
            what: what is asked of the run, as the beginning of a sentence.

        Raises:
            UserError: it was computed from other runs; says by which command.
        """
        if self.derived is not None:
            raise UserError(
                f"{what}: {self.folder} was not trained: `peftlab {self.derived['by']}` computed it from other runs, "
                "which its record names. Give that command again; `peftlab evaluate` scores it again"
            )

    @property
    def extensions(self) -> dict[str, dict[str, Any]]:
        """The sections that capabilities added, by name, including those of later versions."""
        own = _blank()
        return {name: value for name, value in self.data.items() if name not in own and isinstance(value, dict)}

    def event(self, name: str, /, **details: Any) -> None:
        """Add an event to the history, with the current time."""
        self.data["history"].append({"at": _now(), "event": name, **details})

    def events(self, *kinds: str) -> list[dict[str, Any]]:
        """Return the events of these `kinds`, in order; all events if none is named."""
        return [event for event in self.data["history"] if not kinds or event["event"] in kinds]

    def course(self, kind: str) -> list[dict[str, Any]]:
        """Return the events of a `kind`, in order, without those that a resume has undone: the run repeats them."""
        events: list[dict[str, Any]] = []
        for event in self.events(kind, "resumed"):
            if event["event"] == kind:
                events.append(event)
            elif (step := event.get("step")) is not None:
                events = [earlier for earlier in events if (earlier.get("step") or 0) <= step]
        return events

    def add_metric(self, name: str, split: str, value: float, checkpoint: str, scorer: str) -> None:
        """Add a score; it replaces an earlier one of the same name, split, checkpoint and scorer."""
        self.add_metrics({name: value}, split, checkpoint, scorer)

    def add_metrics(self, scores: Mapping[str, float], split: str, checkpoint: str, scorer: str) -> None:
        """Add scores, by name, see `add_metric`: of thousands of labels, each has its own."""
        common = {"checkpoint": checkpoint, "scorer": scorer}
        new = {name: {"name": name, "split": split, "value": float(value), **common} for name, value in scores.items()}
        no_value = {"value": None}
        others = [
            other
            for other in self.data["metrics"]
            if (one := new.get(other["name"])) is None or other | no_value != one | no_value
        ]
        self.data["metrics"] = [*others, *new.values()]

    def scores(self, split: str | None = None, name: str | None = None) -> list[dict[str, Any]]:
        """Return the scores of a split, of a name, of both, or all, in order.

        Each has ``name``, ``split``, ``value`` (None for NaN), ``checkpoint`` and ``scorer``.
        """
        return [
            score for score in self.data["metrics"] if split in (None, score["split"]) and name in (None, score["name"])
        ]

    def score(self, split: str, name: str) -> float | None:
        """Return the value of a score; None if the run has no such score, or if it is NaN."""
        return next((score["value"] for score in reversed(self.scores(split, name))), None)

    def add_file(self, path: str | Path) -> None:
        """Add a file of the run's folder, with its size in bytes and digest; replaces an earlier entry.

        `path` is relative to that folder, or absolute. Raises ValueError if the file lies outside the folder, and
        FileNotFoundError if it is missing.
        """
        folder = self.folder.resolve()
        file = (folder / path).resolve()
        relative = file.relative_to(folder).as_posix()
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        others = [other for other in self.data["files"] if other["path"] != relative]
        self.data["files"] = [*others, {"path": relative, "bytes": file.stat().st_size, "sha256": digest}]

    def resume(self, **details: Any) -> None:
        """Set the status to running and write the record; the history keeps `details` and the previous end."""
        self.data |= {"status": "running", "ended_at": None, "error": None, "files": []}
        self.event("resumed", **details)
        self.write()

    @property
    def resumed_at(self) -> int | None:
        """The optimiser step at which the run was last resumed; None if it never was."""
        return next((event.get("step") for event in reversed(self.events("resumed"))), None)

    def finish(self, status: Status, error: BaseException | Mapping[str, Any] | None = None) -> None:
        """End the run and write the record.

        Args:
            status: completed, failed, interrupted or pruned.
            error: the error that ended the run: an exception, or `{"type": ..., "message": ...}` from another process.

        Raises ValueError for another status.
        """
        ends = [end for end in get_args(Status) if end != "running"]
        if status not in ends:
            raise ValueError(f"a run ends as one of {', '.join(ends)}, not as '{status}'")
        described = _described(error) if isinstance(error, BaseException) else error and dict(error)
        self.data |= {"status": status, "ended_at": _now(), "error": described}
        self.event(status)
        self.write()

    def write(self) -> None:
        """Replace `record.json` atomically.

        Secrets in free text are masked; nan and infinities become null. Raises TypeError for a value that JSON lacks,
        and DiskError if the file cannot be written; the old one then stays.
        """
        text = json.dumps(_masked(finite(self.data)), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        # an argument that is not valid text keeps its invalid bytes, as escapes that JSON can read
        data = text.encode(errors="backslashreplace")
        with replacing(self.folder / FILE_NAME, needed=len(data)) as temporary:
            temporary.write_bytes(data)


def _blank() -> dict[str, Any]:
    """Return an empty record, with its keys in the order of the file."""

    def unknown(*keys: str) -> dict[str, Any]:
        return dict.fromkeys(keys)

    return {
        "schema_version": SCHEMA_VERSION,
        **unknown("run_id", "name", "status", "started_at", "ended_at"),
        "command": [],
        "overrides": [],
        "identity": unknown("sha256", "config_sha256") | {"data_sha256": {}} | unknown("weights_sha256"),
        "code": unknown("version", "commit", "dirty", "diff_sha256"),
        "environment": unknown("python", "packages_sha256", "platform", "cpu", "isa", "threads", "openmp_wait")
        | {"accelerators": []}
        | unknown("devices", "num_nodes", "world_size", "strategy", "effective_batch_size")
        | unknown("precision", "deterministic")
        | {"nondeterministic_parts": [], "seeds": {}},
        "data": unknown("name") | {"splits": {}, "labels": []} | unknown("train_test_overlap", "licence"),
        "method": unknown("name", "trainable_parameters", "total_parameters", "adapter_bytes"),
        "selection": unknown("metric", "split", "mode", "value", "epoch", "step", "sha256"),
        "metrics": [],
        "cost": unknown("wall_seconds", "train_seconds", "steps", "epochs", "samples_per_second")
        | unknown("tokens_per_second", "peak_memory_gib", "train_flops", "energy_joules")
        | {"energy_counted": []},
        "history": [],
        "files": [],
        "error": None,
    }


def _masked(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return `record` with its free text masked; names, labels, splits, paths and digests are not, as they are read."""
    history = [event | {key: mask(event[key]) for key in _MESSAGES if key in event} for event in record["history"]]
    return {**record, **{section: mask(record[section]) for section in _FREE_TEXT}, "history": history}


def _described(error: BaseException) -> dict[str, str]:
    described = {"type": type(error).__name__, "message": str(error)}
    if error.__traceback__ is not None and not isinstance(error, UserError):  # a user's mistake needs no traceback
        # masked before it is cut: the cut may remove the beginning of a secret
        lines = str(mask("".join(traceback.format_exception(error)))).splitlines()
        described["traceback_tail"] = "\n".join(lines[-_TRACEBACK_LINES:])
    return described


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
