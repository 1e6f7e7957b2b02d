"""What must the reader know before believing a comparison? One module for each check, found because it lies here."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from functools import cache

from peftlab.report.analysis.groups import Comparison
from peftlab.report.document import Finding

Check = Callable[[Comparison], Iterator[Finding]]
"""Yields what is wrong with a comparison; a finding is named for the module."""

_ORDER = ("error", "warning", "note")


@cache
def checks() -> dict[str, Check]:
    """Return all checks by name."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return {name: importlib.import_module(f"{__name__}.{name}").check for name in names}


def findings_of(comparison: Comparison) -> tuple[Finding, ...]:
    """Return what all checks say of a comparison, the worst first."""
    findings = [finding for check in checks().values() for finding in check(comparison)]
    return tuple(sorted(findings, key=lambda finding: _ORDER.index(finding.level)))
