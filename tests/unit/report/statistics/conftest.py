"""How many random cases a function is compared on."""

from __future__ import annotations

import pytest


@pytest.fixture(params=[30, pytest.param(1000, marks=pytest.mark.exhaustive)])
def cases(request: pytest.FixtureRequest) -> range:
    """Return a range of random cases: few by default, a thousand in the slow suite."""
    return range(request.param)
