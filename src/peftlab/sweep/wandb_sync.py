"""Uploads the offline W&B runs of a sweep, summary included, with ``wandb sync``."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from peftlab.masking.mask import mask

LIMIT_SECONDS = 900.0
"""Time limit per run: if the server stops answering, wandb retries for hours."""


def sync(folder: Path) -> dict[str, list[str]]:
    """Upload every offline run below the folder of a sweep, oldest first; failures are explained on stderr.

    Returns:
        The run folders by result: ``sent``, ``already`` (sent before) and ``failed``.
    """
    results: dict[str, list[str]] = {"sent": [], "already": [], "failed": []}
    runs = list(offline_runs(folder))
    results["already"] = [str(run) for run in runs if _is_sent(run)]
    unsent = [run for run in runs if not _is_sent(run)]
    if unsent and (reason := _unreachable()):
        sys.stderr.write(f"error: {reason}\n")
        return results | {"failed": list(map(str, unsent))}
    for run in unsent:
        message = _send(run)
        if message is not None:
            sys.stderr.write(f"{mask(message)}\n")
        results["sent" if message is None else "failed"].append(str(run))
    return results


def offline_runs(folder: Path) -> Iterable[Path]:
    """Return the folders of offline W&B runs, oldest first."""
    runs = {file.parent for file in folder.glob("**/tracking/wandb/offline-run-*/*.wandb")}
    return sorted(runs, key=lambda run: run.name)


def _is_sent(run: Path) -> bool:
    return any(run.glob("*.wandb.synced"))


def _send(run: Path) -> str | None:
    """Upload a run; return the output of wandb on failure, else None."""
    command = [sys.executable, "-P", "-m", "wandb", "sync", str(run)]
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=LIMIT_SECONDS
        )
    except subprocess.TimeoutExpired:
        return f"error: {run}: is not sent after {LIMIT_SECONDS:g} s"
    return None if done.returncode == 0 and _is_sent(run) else done.stdout.decode(errors="replace")


def _unreachable() -> str | None:
    """Return why the server does not answer; None if it does."""
    import wandb

    from peftlab.loggers.wandb import PROBE_SECONDS, what_ails

    url = wandb.setup().settings.base_url
    reason = what_ails(url, PROBE_SECONDS)
    return reason and f"W&B: no answer from {mask(url)} ({mask(reason)})"
