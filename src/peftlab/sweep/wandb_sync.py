"""Sending to the W&B server what the trials of a sweep, and its summary, have kept offline, by wandb's own command."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from peftlab.masking.mask import mask

LIMIT_SECONDS = 900.0
"""For one run to be sent; where the server stops to answer, wandb would try for hours."""


def sync(folder: Path) -> dict[str, list[str]]:
    """Send every offline run below the folder of a sweep, oldest first, and return the folders by how it went.

    Returns:
        ``sent``, ``already`` (sent before) and ``failed``; what is to be said of a failure goes to stderr.
    """
    found: dict[str, list[str]] = {"sent": [], "already": [], "failed": []}
    there = list(offline_runs(folder))
    found["already"] = [str(run) for run in there if _is_sent(run)]
    left = [run for run in there if not _is_sent(run)]
    if left and (why := _silence()):
        sys.stderr.write(f"error: {why}\n")
        return found | {"failed": list(map(str, left))}
    for run in left:
        said = _send(run)
        if said is not None:
            sys.stderr.write(f"{mask(said)}\n")
        found["sent" if said is None else "failed"].append(str(run))
    return found


def offline_runs(folder: Path) -> Iterable[Path]:
    """Return the folders of offline W&B runs, those of one run in the order in which they were made."""
    found = {file.parent for file in folder.glob("**/tracking/wandb/offline-run-*/*.wandb")}
    return sorted(found, key=lambda run: run.name)


def _is_sent(run: Path) -> bool:
    return any(run.glob("*.wandb.synced"))


def _send(run: Path) -> str | None:
    """Send a run; return what wandb says where that does not succeed."""
    command = [sys.executable, "-P", "-m", "wandb", "sync", str(run)]
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=LIMIT_SECONDS
        )
    except subprocess.TimeoutExpired:
        return f"error: {run}: is not sent after {LIMIT_SECONDS:g} s"
    return None if done.returncode == 0 and _is_sent(run) else done.stdout.decode(errors="replace")


def _silence() -> str | None:
    """Return why the server is not there, or None where it answers."""
    import wandb

    from peftlab.loggers.wandb import PROBE_SECONDS, what_ails

    url = wandb.setup().settings.base_url
    found = what_ails(url, PROBE_SECONDS)
    return found and f"W&B: no answer from {mask(url)} ({mask(found)})"
