"""The run record: one JSON file that says what was run, on what, with which result.

It can be read without torch, so that reports stay quick, and it is always whole on disk: each write replaces it in one
step.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import itertools
import json
import math
import os
import platform
import re
import subprocess
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, get_args

from peftlab.atomic_files import replacing
from peftlab.disk import writing
from peftlab.entries import inside
from peftlab.errors import ConfigError, UserError
from peftlab.json_form import parsed
from peftlab.masking.mask import mask
from peftlab.record_form import Status, check

SCHEMA_VERSION = 1

MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""By schema version: turns a record of that version into one of the next."""

FILE_NAME = "record.json"

MOST_BYTES = 2**26
"""More than any record has: a validation adds about a hundred."""

NOT_RESULT = (
    "logger",  # where metrics are shown
    "callbacks.progress",  # what the terminal shows
    "name",  # a label
    "run_dir",  # where the run folder lies
    "sweep_dir",  # where the run folders of a sweep lie
    "existing",  # what to do about a run that is there already
    "allow",  # permits classes to be named; those that are named stand in the configuration themselves
    "task.top_k",  # how much of the predictions is kept
    "trainer.threads",  # environment: the record keeps it there
    "data.workers",  # how many processes load the same batches
    "trainer.log_every",  # how often metrics are shown
    "trainer.trail_every",  # how often the trail notes what the weights are
    "trainer.checkpoint_every",  # how much is lost when the run is killed
    "trainer.keep_every",  # what is left beside the best checkpoint
    # how the arithmetic of one and the same step is spread over devices and time: the batches and what is learnt from
    # each do not depend on it, only roundings and the places that dropout hits do, as on another kind of device
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.strategy",
    "trainer.find_unused_parameters",
    "trainer.zero_stage",
    "trainer.offload_optimizer",
    "trainer.accumulate",
    "trainer.compile",
    "trainer.on_out_of_memory",
    "model.attention",
    # whether frozen layers are computed once or in every epoch
    "trainer.cache_activations",
    "trainer.activation_cache_gib",
    "adapter.path",  # where the adapter lies that the training begins with; its digest says what is in it
    "data.path",  # where the user's files lie; the data digests say what is in them
    "model.path",  # the same; the weights digest says what is in them
    "data.source.path",  # where the user's files lie; the data digests say what is in them
    "data.source.licence",  # a note
    "model.source.path",  # where the user's files lie; the weights digest says what is in them
    "model.source.licence",  # a note
)
"""Dotted keys of the configuration that cannot change a result, whole groups included: no part of a run's identity."""

ADDED: dict[str, Any] = {
    "data.format.group": None,
    "task.class_weights": None,
}
"""By dotted key of the configuration that an older version lacks: the value that means what runs did without it. While
a key has that value it is no part of the identity, so that runs from before stay the runs that they are."""

# the user's own settings of how git shows differences must not change their digest
_DIFF_FORMAT = [
    *("--binary", "--full-index", "--no-color", "--no-ext-diff", "--no-textconv", "--no-renames", "--no-relative"),
    *("--unified=3", "--diff-algorithm=myers", "--src-prefix=a/", "--dst-prefix=b/"),
]

_TRACEBACK_LINES = 20
_FREE_TEXT = ("command", "overrides", "error")
_MESSAGES = ("reason", "message")
"""The details of an event that are text for people."""
_SOURCE_ROOT = Path(__file__).resolve().parents[2]


def canonical_json(value: Any) -> str:
    """Return the one JSON text of `value`: sorted keys, no spaces, floats as `repr` writes them.

    Raises ValueError for nan and infinities, which JSON lacks, and TypeError for what is no JSON value.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def sha256_of(value: Any) -> str:
    """Return the sha256 of the canonical JSON of `value`, as hex digits; raises what `canonical_json` raises."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def identity(config: Mapping[str, Any], data_sha256: Mapping[str, str], weights_sha256: str) -> dict[str, Any]:
    """Return the `identity` section of the record: what decides a run's result, as digests.

    Args:
        config: the resolved configuration, in plain containers; the keys in `NOT_RESULT` are left out of it. Secrets
            count like any value, for a key says only what may be one; nobody can tell them from the digest.
        data_sha256: the digest of each split or file of the data.
        weights_sha256: the digest of the base weights.

    Raises ConfigError where the configuration holds nan or an infinity.
    """
    deciding = deciding_part(config)
    for key, value in leaves(deciding):
        if isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"'{key}' is {value}: a number must be finite; use null for none.")
    parts = {
        "config_sha256": sha256_of(deciding),
        "data_sha256": dict(data_sha256),
        "weights_sha256": weights_sha256,
    }
    return {"sha256": sha256_of(parts), **parts}


def deciding_part(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the resolved configuration without the keys in `NOT_RESULT`, and those in `ADDED` that change nothing."""
    neutral = [key for key, value in ADDED.items() if _has(config, key, value)]
    return _without(config, (*NOT_RESULT, *neutral))


def run_id_of(identity: Mapping[str, Any]) -> str:
    """Return the run id: the first 12 hex digits of the identity."""
    return str(identity["sha256"])[:12]


def make_root(root: Path) -> None:
    """Make the folder `root` of runs where there is none.

    Raises UserError where it cannot be made, and DiskError where the disk is the reason.
    """
    try:
        with writing(root):
            root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"Cannot make the folder '{root}' ({error.strerror}). Choose another with run_dir=.") from error


def claim_folder(root: Path, run_id: str) -> Path:
    """Make and return `<root>/<run_id>`, or `<run_id>-2`, `-3`, ... where that is taken; two runs never get the same.

    Raises what `make_root` raises.
    """
    make_root(root)
    for number in itertools.count(1):
        folder = root / (run_id if number == 1 else f"{run_id}-{number}")
        with writing(folder), contextlib.suppress(FileExistsError):
            folder.mkdir()
            return folder
    raise AssertionError("unreachable: the numbers never end")


class RunRecord:
    """The record of one run, in `data` as it stands in `record.json` in the run's folder.

    `start`, `resume` and `finish` write it; after any other change, `write` does.
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
        """Write the record of a run that starts now in `folder`; `sections` are those of `update`."""
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

        Raises UserError where there is none, where it cannot be read or has another form (see
        `peftlab.record_form`), or where a newer peftlab wrote it. The file itself is left as it is.
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

    def update(self, **sections: Mapping[str, Any]) -> None:
        """Set entries of sections, as in `update(cost={"steps": 10})`; the other entries of a section stay.

        Raises TypeError for a name that is no section of the record.
        """
        known = [key for key, value in _blank().items() if isinstance(value, dict)]
        for section in sections:
            if section not in known:
                raise TypeError(f"'{section}' is no section of the run record; those are {', '.join(known)}")
        for section, entries in sections.items():
            self.data[section].update(entries)

    def event(self, name: str, /, **details: Any) -> None:
        """Add an event to the history, with the time it is now."""
        self.data["history"].append({"at": _now(), "event": name, **details})

    def add_metric(self, name: str, split: str, value: float, checkpoint: str, scorer: str) -> None:
        """Add a score; it takes the place of an earlier one of the same name, split, checkpoint and scorer."""
        metric = {"name": name, "split": split, "value": float(value), "checkpoint": checkpoint, "scorer": scorer}
        others = [other for other in self.data["metrics"] if other | {"value": None} != metric | {"value": None}]
        self.data["metrics"] = [*others, metric]

    def add_file(self, path: str | Path) -> None:
        """Add a file of the run's folder, with its size in bytes and digest; a second time replaces the first.

        `path` is relative to that folder, or absolute. Raises ValueError where the file lies elsewhere and
        FileNotFoundError where there is none.
        """
        folder = self.folder.resolve()
        file = (folder / path).resolve()
        relative = file.relative_to(folder).as_posix()
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        others = [other for other in self.data["files"] if other["path"] != relative]
        self.data["files"] = [*others, {"path": relative, "bytes": file.stat().st_size, "sha256": digest}]

    def resume(self, **details: Any) -> None:
        """Set the run to running again and write the record; the history keeps `details` and how it ended before."""
        self.data |= {"status": "running", "ended_at": None, "error": None, "files": []}
        self.event("resumed", **details)
        self.write()

    @property
    def resumed_at(self) -> int | None:
        """After how many optimiser steps the run was resumed, the last time; None where it never was."""
        return next(
            (event.get("step") for event in reversed(self.data["history"]) if event["event"] == "resumed"), None
        )

    def finish(self, status: Status, error: BaseException | Mapping[str, Any] | None = None) -> None:
        """End the run and write the record.

        Args:
            status: completed, failed, interrupted or pruned.
            error: what ended the run: an exception, or `{"type": ..., "message": ...}` where another process had it.

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
        """Replace `record.json`: whatever happens meanwhile, the file is whole, the old one or the new one.

        Secrets in text for people are masked; nan and infinities become null. Raises TypeError for a value that JSON
        lacks and DiskError where the disk does not take the file; the old one then stays.
        """
        text = json.dumps(_masked(_finite(self.data)), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        # an argument that is no valid text keeps its odd bytes, as escapes that JSON reads back
        data = text.encode(errors="backslashreplace")
        with replacing(self.folder / FILE_NAME, needed=len(data)) as temporary:
            temporary.write_bytes(data)


def code_state(root: Path = _SOURCE_ROOT) -> dict[str, Any]:
    """Return the `code` section: the version, and the git commit of the checkout at `root` with its changes.

    `diff_sha256` is over the difference to the commit and the files under src/ and conf/ that git neither tracks nor
    ignores. Where git or the checkout is missing, only the version is known.
    """
    try:
        version = importlib.metadata.version("peftlab")
    except importlib.metadata.PackageNotFoundError:  # run from a source tree that is not installed
        version = None
    state: dict[str, Any] = {"version": version, "commit": None, "dirty": False, "diff_sha256": None}
    # an installed copy may lie inside a repository of the user's, whose commit says nothing about it
    if not _git(root, "ls-files", "src/peftlab"):
        return state
    commit = _git(root, "rev-parse", "HEAD")
    diff = _git(root, "diff", *_DIFF_FORMAT, "HEAD")
    untracked = _git(root, "ls-files", "--others", "--exclude-standard", "-z", "src", "conf")
    if commit is None or diff is None or untracked is None:
        return state
    digest = hashlib.sha256(diff)
    for name in filter(None, untracked.split(b"\0")):
        file = root / os.fsdecode(name)
        content = file.read_bytes() if file.is_file() else b""  # a link to nowhere, or a repository within this one
        digest.update(b"\0%s\0%d\0%s" % (name, len(content), content))
    dirty = bool(diff or untracked)
    return state | {
        "commit": commit.decode().strip(),
        "dirty": dirty,
        "diff_sha256": digest.hexdigest() if dirty else None,
    }


def installed_packages() -> list[str]:
    """Return every installed package as `name==version`, with normalised names, sorted, each name once."""
    versions: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        # not `distribution.metadata`: it parses the whole description as well, which takes ten times as long
        text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
        headers = dict(re.findall(r"^(Name|Version): *(.*\S)", text.partition("\n\n")[0], re.MULTILINE))
        if headers.keys() == {"Name", "Version"}:  # a half-removed package has none
            # the first on the path is the one that is imported
            versions.setdefault(re.sub(r"[-_.]+", "-", headers["Name"]).lower(), headers["Version"])
    return [f"{name}=={version}" for name, version in sorted(versions.items())]


def packages_text() -> str:
    """Return the contents of `packages.txt`: the installed packages, one a line."""
    return "".join(f"{package}\n" for package in installed_packages())


def environment(
    *,
    isa: str,
    threads: int,
    accelerators: Sequence[str],
    devices: int,
    num_nodes: int,
    world_size: int,
    strategy: str,
    effective_batch_size: int,
    precision: str,
    deterministic: bool,
    nondeterministic_parts: Sequence[str],
    seeds: Mapping[str, int],
) -> dict[str, Any]:
    """Return the `environment` section of the record; the arguments are what only torch and the run know.

    Args:
        isa: the widest vector instructions in use, such as `AVX2`.
        threads: threads that one operation may use.
        accelerators: the names of the devices in use on the first machine; none for a run on the CPU.
        devices: how many of each machine are in use.
        num_nodes: machines.
        world_size: processes, one a device, over all machines.
        strategy: how they work together.
        effective_batch_size: examples that an optimiser step sees, over all devices.
        precision: the number format of the computation, such as `bf16`.
        deterministic: whether the same run again gives the same bits.
        nondeterministic_parts: the parts that prevent that.
        seeds: every seed by what it is for.
    """
    return {
        "python": platform.python_version(),
        "packages_sha256": hashlib.sha256(packages_text().encode()).hexdigest(),
        "platform": platform.platform(),
        "cpu": _cpu_model(),
        "isa": isa,
        "threads": threads,
        "accelerators": list(accelerators),
        "devices": devices,
        "num_nodes": num_nodes,
        "world_size": world_size,
        "strategy": strategy,
        "effective_batch_size": effective_batch_size,
        "precision": precision,
        "deterministic": deterministic,
        "nondeterministic_parts": list(nondeterministic_parts),
        "seeds": dict(seeds),
    }


def _blank() -> dict[str, Any]:
    """Return a record of which nothing is known yet; its order is that of the file."""

    def unknown(*keys: str) -> dict[str, Any]:
        return dict.fromkeys(keys)

    return {
        "schema_version": SCHEMA_VERSION,
        **unknown("run_id", "name", "status", "started_at", "ended_at"),
        "command": [],
        "overrides": [],
        "identity": unknown("sha256", "config_sha256") | {"data_sha256": {}} | unknown("weights_sha256"),
        "code": unknown("version", "commit", "dirty", "diff_sha256"),
        "environment": unknown("python", "packages_sha256", "platform", "cpu", "isa", "threads")
        | {"accelerators": []}
        | unknown("devices", "num_nodes", "world_size", "strategy", "effective_batch_size")
        | unknown("precision", "deterministic")
        | {"nondeterministic_parts": [], "seeds": {}},
        "data": unknown("name") | {"splits": {}, "labels": []} | unknown("train_test_overlap", "licence"),
        "method": unknown("name", "trainable_parameters", "total_parameters", "adapter_bytes"),
        "selection": unknown("metric", "split", "mode", "value", "epoch", "step", "sha256"),
        "metrics": [],
        "cost": unknown("wall_seconds", "train_seconds", "steps", "epochs", "samples_per_second")
        | unknown("tokens_per_second", "peak_memory_gib", "train_flops"),
        "history": [],
        "files": [],
        "error": None,
    }


def _without(config: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """Return `config` without the dotted `keys`."""
    split = [key.partition(".") for key in keys]
    dropped = {head for head, dot, _ in split if not dot}
    return {
        key: _without(value, [rest for head, dot, rest in split if dot and head == key])
        if isinstance(value, Mapping)
        else value
        for key, value in config.items()
        if key not in dropped
    }


def _has(config: Any, key: str, value: Any) -> bool:
    """Return whether `config` has `value` at the dotted `key`."""
    head, _, rest = key.partition(".")
    if not isinstance(config, Mapping) or head not in config:
        return False
    return _has(config[head], rest, value) if rest else bool(config[head] == value)


def leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value that is no container, with its dotted key."""
    if isinstance(value, Mapping):
        inner: Iterable[tuple[Any, Any]] = value.items()
    elif isinstance(value, list | tuple):
        inner = enumerate(value)
    else:
        yield key, value
        return
    for part, item in inner:
        yield from leaves(item, f"{key}.{part}" if key else str(part))


def _finite(value: Any) -> Any:
    """Return `value` with null in place of nan and infinities, which JSON lacks."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _masked(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return `record` with its text for people masked; names, labels, splits, paths and digests are read back."""
    history = [event | {key: mask(event[key]) for key in _MESSAGES if key in event} for event in record["history"]]
    return {**record, **{section: mask(record[section]) for section in _FREE_TEXT}, "history": history}


def _described(error: BaseException) -> dict[str, str]:
    described = {"type": type(error).__name__, "message": str(error)}
    if error.__traceback__ is not None and not isinstance(error, UserError):  # a user's mistake needs no traceback
        # masked before it is cut: where a secret begins, it may be out of sight
        lines = str(mask("".join(traceback.format_exception(error)))).splitlines()
        described["traceback_tail"] = "\n".join(lines[-_TRACEBACK_LINES:])
    return described


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _git(root: Path, *arguments: str) -> bytes | None:
    """Return what git prints in `root`, or None where it fails or is not installed."""
    # inside a git hook these name the repository that the hook serves, whatever -C says
    hooks = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX")
    surroundings = {key: value for key, value in os.environ.items() if key not in hooks}
    surroundings["GIT_OPTIONAL_LOCKS"] = "0"  # looking must not get in the way of a commit that is under way
    try:
        result = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, check=False, env=surroundings
        )
    except FileNotFoundError:
        return None
    return result.stdout if result.returncode == 0 else None


def _cpu_model() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
