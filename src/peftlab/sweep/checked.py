"""What earlier commands found out about cells, but for trials that were left to be run, as long as it holds.

The command of a finished sweep has nothing to train: with this it answers without torch. A fact holds while the
configuration, the surroundings (code, packages, devices, environment) and every file that was read stay the same. It
lies in the user's cache, is of no account for results, and whatever lacks it is checked.
"""

from __future__ import annotations

import glob
import json
import logging
import os
import platform
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import peftlab
from peftlab.devices.openmp import measured
from peftlab.errors import DiskError
from peftlab.reading.json_form import Form, check, parsed
from peftlab.runs.environment import packages_text
from peftlab.sources import ANOTHER_CACHE, cache_root
from peftlab.storage.atomic import DAY, replacing
from peftlab.storage.digests import sha256_of
from peftlab.sweep.files_read import State, are_unchanged
from peftlab.sweep.worker import Fact, Machine

log = logging.getLogger("peftlab")

FORMAT = 3
"""Version of the file; increase it when the meaning of its content changes."""

_DECISIVE = re.compile(
    r"(CUDA|NVIDIA|HIP|ROCR|HF|TRANSFORMERS|PEFTLAB|TORCH|PL|SLURM|LSB|LSF|OMPI|PMI|JSM)_.*"
    r"|WORLD_SIZE|LOCAL_RANK|RANK|HOME|XDG_CACHE_HOME|ATEN_CPU_CAPABILITY|(OMP|MKL)_NUM_THREADS"
)
"""The environment variables on which devices, launchers and the places of files depend."""

_MOST_GROUPS = 50
_DAYS = 30
"""How long the facts of other surroundings are kept."""

_FACT: Form = {"sha256": "text", "metric": "text", "mode": "text", "pack": "text?"}
_FORM: Form = {
    "machine": {"gpus": ["text"], "cores": "count"},
    "groups": [{"environment": {"*": "text"}, "files": {"*": ["count"]}, "facts": {"*": _FACT}}],
}


class Checked:
    """Facts about cells, read from the file at `path`; empty where that is missing or damaged.

    The facts of a command form a group with the files that it has read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.machine: Machine | None = None
        self._groups: list[dict[str, Any]] = []
        try:
            content = parsed(path.read_text(encoding="utf-8"))
            check(content, _FORM)
        except (OSError, ValueError):
            return
        self.machine = Machine(**content["machine"])
        self._groups = [group for group in content["groups"] if are_unchanged(group["files"])]

    def fact(self, config: Mapping[str, Any], environment: Mapping[str, str]) -> Fact | None:
        """Return what holds for the cell with this composed configuration; None if it is to be checked.

        Args:
            config: as plain values.
            environment: the variables that confine its trial to some devices.
        """
        key = _key(config)
        own = (group for group in reversed(self._groups) if group["environment"] == environment)
        fact = next((group["facts"][key] for group in own if key in group["facts"]), None)
        return None if fact is None else Fact(**fact)

    def knows(self, config: Mapping[str, Any]) -> bool:
        """Return whether anything is known of the cell with this composed configuration."""
        key = _key(config)
        return any(key in group["facts"] for group in self._groups)

    def keep(
        self,
        facts: Iterable[tuple[Mapping[str, Any], Fact]],
        environment: Mapping[str, str],
        files: Mapping[str, State],
        machine: Machine,
    ) -> None:
        """Keep facts, each with its configuration, that a command which has read these `files` found out."""
        new = {key: asdict(fact) for config, fact in facts if (key := _key(config)) is not None}
        if not new:
            return
        self.machine = machine
        for group in self._groups:
            if group["environment"] == environment:
                group["facts"] = {key: fact for key, fact in group["facts"].items() if key not in new}
        of_files = {path: list(state) for path, state in files.items()}
        group = {"environment": dict(environment), "files": of_files, "facts": new}
        self._groups = [*(one for one in self._groups if one["facts"]), group][-_MOST_GROUPS:]
        content = json.dumps({"machine": asdict(machine), "groups": self._groups})
        try:
            with replacing(self.path, len(content), ANOTHER_CACHE) as temporary:
                temporary.write_text(content, encoding="utf-8")
            self._remove_old()
        except (OSError, DiskError) as error:
            log.warning("the same command will check its trials again: %s", error)

    def _remove_old(self) -> None:
        for file in self.path.parent.glob("*.json"):
            if time.time() - file.stat().st_mtime > _DAYS * DAY:
                file.unlink(missing_ok=True)


def checked_before() -> Checked:
    """Return what commands in the same surroundings found out."""
    return Checked(cache_root() / "checked" / f"{sha256_of(surroundings())}.json")


def surroundings() -> list[Any]:
    """Return what decides a check besides the configuration and the files that it reads, as plain values."""
    affinity = getattr(os, "sched_getaffinity", None)
    return [
        FORMAT,
        [list(file) for file in _code()],
        [sys.version, packages_text()],
        [platform.node(), platform.machine(), _text("/proc/driver/nvidia/version"), _instructions()],
        [sorted(glob.glob("/dev/nvidia[0-9]*")), sorted(glob.glob("/dev/dri/render*"))],
        [_text(file) for file in sorted(glob.glob("/proc/driver/nvidia/gpus/*/information"))],
        [sorted(affinity(0)) if affinity else os.cpu_count(), measured(0).quota],
        [os.getcwd(), {name: value for name, value in os.environ.items() if _DECISIVE.fullmatch(name)}],
    ]


def _code() -> list[tuple[str, int, int]]:
    """Return the files of this package, each with its size and the time of its last change."""
    files = sorted(str(file) for file in Path(peftlab.__path__[0]).resolve().rglob("*.py"))
    return [(file, state.st_size, state.st_mtime_ns) for file in files if (state := os.stat(file))]


def _instructions() -> list[str]:
    """Return the lines of ``/proc/cpuinfo`` on the kind of the first processor and its instructions."""
    lines = _text("/proc/cpuinfo").partition("\n\n")[0].splitlines()
    return [line for line in lines if line.startswith(("vendor_id", "model name", "flags", "Features"))]


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _key(config: Mapping[str, Any]) -> str | None:
    """Return the digest of a configuration; None if files and surroundings do not decide what holds for it.

    That is so if it allows a package of the user's own, or names a branch on the hub, which may move.
    """
    if config.get("allow") or any(map(_may_move, _sections(config))):
        return None
    try:
        return sha256_of(config)
    except (TypeError, ValueError):  # nan, say: the check refuses it
        return None


def _may_move(section: Mapping[str, Any]) -> bool:
    if str(section.get("_target_", "")).endswith(".BackTranslation"):  # names models itself, each as REPO@REVISION
        names = [str(section[key]) for key in ("to", "back") if section.get(key) is not None]
        return not all(re.fullmatch(".*@[0-9a-f]{40}", name) or Path(name).expanduser().is_dir() for name in names)
    return "repo" in section and re.fullmatch("[0-9a-f]{40}", str(section.get("revision"))) is None


def _sections(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, Mapping):
        yield value
    if isinstance(value, Mapping | list):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _sections(item)
