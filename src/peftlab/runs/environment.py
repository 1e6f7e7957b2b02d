"""The environment of a run: code, packages and machine. No torch."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# the user's git settings must not change the digest of a diff
_DIFF_FORMAT = [
    *("--binary", "--full-index", "--no-color", "--no-ext-diff", "--no-textconv", "--no-renames", "--no-relative"),
    *("--unified=3", "--diff-algorithm=myers", "--src-prefix=a/", "--dst-prefix=b/"),
]

WITHOUT_EFFECT = ("openmp_wait",)
"""Entries of the environment that change how long a run takes, and no result."""

_SOURCE_ROOT = Path(__file__).resolve().parents[3]


def code_state(root: Path = _SOURCE_ROOT) -> dict[str, Any]:
    """Return the `code` section: the version, the git commit of the checkout at `root`, and a digest of its changes.

    `diff_sha256` covers the diff to the commit and the untracked files under src/ and conf/ that git does not ignore.
    Without git or a checkout, only the version is known.
    """
    try:
        version = importlib.metadata.version("peftlab")
    except importlib.metadata.PackageNotFoundError:  # a source tree that is not installed
        version = None
    state: dict[str, Any] = {"version": version, "commit": None, "dirty": False, "diff_sha256": None}
    # an installed copy may lie inside a repository of the user, whose commit says nothing about it
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
    """Return the installed packages as `name==version`, with normalised names, sorted and without duplicates.

    Libraries' private copies are left out: setuptools, once something has imported it, puts its own on the path, and
    the same environment would read as another one.
    """
    versions: dict[str, str] = {}
    path = [entry for entry in sys.path if Path(entry).name != "_vendor"]
    for distribution in importlib.metadata.distributions(path=path):
        # not `distribution.metadata`: it also parses the description, which takes ten times as long
        text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
        headers = dict(re.findall(r"^(Name|Version): *(.*\S)", text.partition("\n\n")[0], re.MULTILINE))
        if headers.keys() == {"Name", "Version"}:  # a half-removed package has none
            # the first one on the path is imported
            versions.setdefault(re.sub(r"[-_.]+", "-", headers["Name"]).lower(), headers["Version"])
    return [f"{name}=={version}" for name, version in sorted(versions.items())]


def packages_text() -> str:
    """Return the content of `packages.txt`: the installed packages, one per line."""
    return "".join(f"{package}\n" for package in installed_packages())


def environment(
    *,
    isa: str,
    threads: int,
    openmp_wait: str,
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
    """Return the `environment` section of the record; only torch and the run know the arguments.

    Args:
        isa: the widest vector instructions in use, such as `AVX2`.
        threads: threads per operation.
        openmp_wait: how they wait for one another, see `peftlab.devices.openmp.waiting`.
        accelerators: the names of the devices in use on the first machine; empty for a run on the CPU.
        devices: devices in use per machine.
        num_nodes: machines.
        world_size: processes over all machines, one per device.
        strategy: how the processes train together.
        effective_batch_size: examples per optimiser step, over all devices.
        precision: the number format of the computation, such as `bf16`.
        deterministic: whether repeating the run gives the same bits.
        nondeterministic_parts: the parts that prevent that.
        seeds: every seed, by its purpose.
    """
    return {
        "python": platform.python_version(),
        "packages_sha256": hashlib.sha256(packages_text().encode()).hexdigest(),
        "platform": platform.platform(),
        "cpu": _cpu_model(),
        "isa": isa,
        "threads": threads,
        "openmp_wait": openmp_wait,
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


def _git(root: Path, *arguments: str) -> bytes | None:
    """Return the output of git in `root`, or None if it fails or is not installed."""
    # inside a git hook these name the hook's repository, and -C does not override them
    hooks = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX")
    surroundings = {key: value for key, value in os.environ.items() if key not in hooks}
    surroundings["GIT_OPTIONAL_LOCKS"] = "0"  # reading must not block a concurrent commit
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
