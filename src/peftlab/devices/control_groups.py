"""The control groups of Linux that this process is in, which limit what a container may use. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")
"""The root of the file system."""


def groups(controller: str, root: Path = ROOT) -> Iterator[Path]:
    """Yield the folder of every control group that limits this process, the innermost first.

    In a container that sees only its own groups, the limits lie at the root of those.

    Args:
        controller: what is limited, such as ``cpu`` or ``memory``: in version 1 of the interface, each has a tree of
            its own.
        root: the root of the file system.

    Raises:
        OSError: the system has no control groups.
        ValueError: it describes them in another form.
    """
    for line in (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:  # version 2: one tree for all
            mounted = root / "sys/fs/cgroup"
        elif controller in controllers.split(","):
            mounted = root / "sys/fs/cgroup" / controller
        else:
            continue
        inner = mounted / path.lstrip("/")
        yield from (group for group in (inner, *inner.parents) if group.is_relative_to(mounted))
