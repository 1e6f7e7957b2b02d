"""Which plan a sweep follows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from peftlab.errors import ConfigError
from peftlab.sweep.grid import GridPlan
from peftlab.sweep.plan import Plan
from peftlab.sweep.space import Space, grid
from peftlab.sweep.spec import SweepSpec


def make_plan(
    spec: SweepSpec,
    space: Space,
    objectives: Mapping[str, str],
    default_of: Callable[[str, Sequence[str]], Any],
) -> Plan:
    """Return the plan that `spec` describes."""
    if spec.protocol != "none" or spec.search != "grid":
        raise ConfigError("sweep.search: only grid")
    return GridPlan(grid(space))
