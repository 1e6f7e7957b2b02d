"""What the reader must know before believing a number."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from peftlab.report.analysis.results import Analysis
from peftlab.report.checks import checks
from peftlab.report.document import Block, Finding, Findings, Paragraph, Section
from peftlab.report.numbers import plural
from peftlab.report.sections.doubts import DOUBTS
from peftlab.report.sections.doubts import findings as doubts

_INTRODUCTION = (
    "What the checks have found in the records. An error forbids the claim that it is about, a "
    "warning weakens it, a note is good to know."
)
_ORDER = {"error": 0, "warning": 1, "note": 2}


def section(analysis: Analysis) -> Section:
    """Return the findings of all checks, the gravest first."""
    findings = findings_of(analysis)
    blocks: list[Block] = [Paragraph(_INTRODUCTION)] if findings else []
    if findings:
        blocks.append(Findings(findings))
    blocks.append(Paragraph(_passed(findings)))
    return Section("checks", "Before you believe it", tuple(blocks))


def _passed(findings: tuple[Finding, ...]) -> str:
    """Name what was looked for and not seen."""
    names = [name for name in (*DOUBTS, *checks()) if name not in {finding.check for finding in findings}]
    return f"Checked, with nothing to report: {', '.join(name.replace('_', ' ') for name in names)}."


def findings_of(analysis: Analysis) -> tuple[Finding, ...]:
    """Return the findings of all comparisons, each once, the gravest first; runs are named by their ids."""
    unique: dict[Finding, None] = {}
    if analysis.study.left_out:
        places = tuple(one.place for one in analysis.study.left_out)
        text = f"{len(places)} records cannot be read and are left out; see “Failed and resumed runs” for the reasons."
        unique[Finding("unreadable", "warning", text, places)] = None
    ids = Counter(run.id for run in analysis.runs)
    called = {run.place: run.id for run in analysis.runs if ids[run.id] == 1}
    for result in analysis.results:
        for finding in (*result.findings, *doubts(result)):
            places = tuple(called.get(place, place) for place in finding.places)
            unique[replace(finding, places=places)] = None
    return tuple(sorted(unique, key=lambda finding: (_ORDER[finding.level], finding.check, finding.text)))


def said(findings: tuple[Finding, ...]) -> str:
    """Return how many findings there are, in words."""
    errors, warnings = (sum(one.level == level for one in findings) for level in ("error", "warning"))
    if not errors and not warnings:
        return "The checks of the records and of the result gave no warning; “Before you believe it” names them."
    counted = [plural(number, word) for number, word in ((errors, "error"), (warnings, "warning")) if number]
    graver = "forbids a claim" if errors else "weakens what is claimed"
    return f"The checks give {' and '.join(counted)}: what {graver} is in “Before you believe it”."
