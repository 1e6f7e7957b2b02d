"""What the reader must know before believing a number."""

from __future__ import annotations

from peftlab.report.analysis.results import Analysis
from peftlab.report.document import Block, Finding, Findings, Paragraph, Section

_ORDER = {"error": 0, "warning": 1, "note": 2}


def section(analysis: Analysis) -> Section:
    """Return the findings of all checks, the gravest first."""
    findings = findings_of(analysis)
    blocks: list[Block] = [Paragraph(said(findings))]
    if findings:
        blocks.append(Findings(findings))
    return Section("checks", "Before you believe it", tuple(blocks))


def findings_of(analysis: Analysis) -> tuple[Finding, ...]:
    """Return the findings of all comparisons, each once, the gravest first."""
    unique: dict[Finding, None] = {}
    if analysis.study.left_out:
        places = tuple(one.place for one in analysis.study.left_out)
        text = f"{len(places)} records cannot be read and are left out; see “Interruptions and losses” for the reasons."
        unique[Finding("unreadable", "warning", text, places)] = None
    for result in analysis.results:
        unique |= dict.fromkeys(result.findings)
    return tuple(sorted(unique, key=lambda finding: (_ORDER[finding.level], finding.check, finding.text)))


def said(findings: tuple[Finding, ...]) -> str:
    """Return how many findings there are, in words."""
    errors, warnings = (sum(one.level == level for one in findings) for level in ("error", "warning"))
    if not errors and not warnings:
        return "The checks have found nothing that weakens a claim."
    parts = []
    if errors:
        parts.append(f"{errors} {'finding forbids' if errors == 1 else 'findings forbid'} a claim")
    if warnings:
        parts.append(f"{warnings} {'weakens' if warnings == 1 else 'weaken'} one")
    return f"{' and '.join(parts)}.".capitalize() if not errors else f"{' and '.join(parts)}."
