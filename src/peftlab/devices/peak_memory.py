"""The memory that this process holds, and the most that it has held. No torch."""

from __future__ import annotations

import re
import resource
import sys
from pathlib import Path

from peftlab.devices.control_groups import ROOT


def peak_memory(root: Path = ROOT) -> int:
    """Return the most bytes of memory that this process has held so far.

    Linux counts in ``ru_maxrss`` what the process that started this one held, too; its ``VmHWM`` does not.

    Args:
        root: the root of the file system.
    """
    most = _told("VmHWM", root)
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss if most is None else most


def held_memory(root: Path = ROOT) -> int:
    """Return the bytes of memory that this process holds; where the system does not say, the most so far."""
    held = _told("VmRSS", root)
    return peak_memory(root) if held is None else held


def forget_peak(root: Path = ROOT) -> bool:
    """Have `peak_memory` count from now on; return whether the system can do that, as Linux can."""
    try:
        (root / "proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def _told(name: str, root: Path) -> int | None:
    """Return the bytes that Linux tells of this process by this name; None elsewhere."""
    try:
        text = (root / "proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    told = re.search(rf"^{name}:\s*(\d+) kB$", text, re.MULTILINE)
    return 1024 * int(told[1]) if told else None
