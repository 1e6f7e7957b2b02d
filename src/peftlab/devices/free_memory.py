"""The memory of this machine that is free, or left to this container. No torch."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from peftlab.devices.control_groups import ROOT, groups

_LIMITS = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))
"""The files of a control group, of both versions, that limit its memory, and count what it takes."""


def free_memory(root: Path = ROOT) -> int:
    """Return the bytes of memory that are free on this machine, or left to this container; 0 if it does not say.

    Args:
        root: the root of the file system.
    """
    return max(0, min([_available(root), *_left_to_groups(root)]))


def _left_to_groups(root: Path) -> list[int]:
    """Return what each control group that limits memory has left, with what it would give back of files it has read."""
    left = []
    with suppress(OSError, ValueError):
        for group in groups("memory", root):
            for limit, used in _LIMITS:
                most, taken = _number(group / limit), _number(group / used)
                if most is not None and taken is not None:
                    left.append(most - taken + _of_files(group))
    return left


def _of_files(group: Path) -> int:
    """Return the bytes of files that a group keeps in memory until they are needed: its usage counts them."""
    try:
        counts = dict(line.split() for line in (group / "memory.stat").read_text(encoding="ascii").splitlines())
        # version 1 counts groups within this one only in the totals
        return sum(int(counts.get(f"total_{name}", counts.get(name, 0))) for name in ("active_file", "inactive_file"))
    except (OSError, ValueError):
        return 0


def _number(file: Path) -> int | None:
    """Return the number in a file; None if there is none, such as where no limit is set."""
    try:
        return int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _available(root: Path) -> int:
    try:
        text = (root / "proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return 0
    found = re.search(r"MemAvailable: *(\d+) kB", text)
    return 1024 * int(found[1]) if found else 0
