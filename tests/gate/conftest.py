"""The option that pins the trails anew: ``python -m pytest tests/gate -m slow --pin``."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--pin``."""
    parser.addoption("--pin", action="store_true", help="keep what the runs leave, to hold other code against it")
