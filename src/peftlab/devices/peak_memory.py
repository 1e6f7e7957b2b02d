"""The most memory that this process has held. No torch."""

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
    try:
        text = (root / "proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        text = ""
    if held := re.search(r"^VmHWM:\s*(\d+) kB$", text, re.MULTILINE):
        return 1024 * int(held[1])
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def forget_peak(root: Path = ROOT) -> bool:
    """Have `peak_memory` count from now on; return whether the system can do that, as Linux can."""
    try:
        (root / "proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True
