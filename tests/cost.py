"""What tests cost, for whoever decides their tier: ``python -m pytest -p tests.cost [--cost-file FILE]``.

It is the CPU time of each test, with its fixtures and the processes that it has waited for. Unlike the time of the
clock, it is much the same beside other work. What the first test of a process pays for all is counted there.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

SHOWN = 50
_seconds: dict[str, float] = {}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--cost-file", type=Path, help="write the CPU seconds of each test there, as JSON")


def _cpu() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    before = _cpu()
    try:
        return (yield)
    finally:
        _seconds[item.nodeid] = round(_cpu() - before, 4)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["cost"] = _seconds


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    _seconds.update(getattr(node, "workeroutput", {}).get("cost", {}))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    by_function: Counter[str] = Counter()
    for test, seconds in _seconds.items():
        by_function[test.partition("[")[0]] += seconds
    terminalreporter.section(f"{sum(by_function.values()):.0f} CPU seconds of {len(_seconds)} tests; the dearest")
    for name, seconds in by_function.most_common(SHOWN):
        terminalreporter.line(f"{seconds:7.2f} {name}")
    if (file := config.getoption("--cost-file")) is not None:
        file.write_text(json.dumps(_seconds), encoding="utf-8")
