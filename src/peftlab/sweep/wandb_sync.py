"""Sending to the W&B server what the trials of a sweep, and its summary, have kept offline, by wandb's own command."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path


def sync(folder: Path) -> dict[str, list[str]]:
    """Send every offline run below the folder of a sweep, oldest first, and return the folders by how it went.

    Returns:
        ``sent``, ``already`` (sent before) and ``failed``; what wandb says of a failure goes to stderr.
    """
    found: dict[str, list[str]] = {"sent": [], "already": [], "failed": []}
    for run in offline_runs(folder):
        if any(run.glob("*.wandb.synced")):
            found["already"].append(str(run))
            continue
        done = subprocess.run(
            [sys.executable, "-m", "wandb", "sync", str(run)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        sent = done.returncode == 0 and any(run.glob("*.wandb.synced"))
        if not sent:
            sys.stderr.write(done.stdout.decode(errors="replace"))
        found["sent" if sent else "failed"].append(str(run))
    return found


def offline_runs(folder: Path) -> Iterable[Path]:
    """Return the folders of offline W&B runs, those of one run in the order in which they were made."""
    found = {file.parent for file in folder.glob("**/tracking/wandb/offline-run-*/*.wandb")}
    return sorted(found, key=lambda run: run.name)
