"""What to type to repeat everything."""

from __future__ import annotations

import shlex

from peftlab.report.analysis.results import Analysis
from peftlab.report.document import Block, Listing, Paragraph, Section

MOST_LINES = 30


def section(analysis: Analysis) -> Section:
    """Return the commands that made the runs, one for each tested run, and how to check them."""
    trained = [run for run in analysis.runs if run.computing is None]
    whole = dict.fromkeys(shlex.join(run.record.data["command"]) for run in trained if run.record.data["command"])
    blocks: list[Block] = []
    if whole:
        text = (
            "These commands trained the runs, with the settings, seeds and search of the configuration; a command that "
            f"is repeated continues an interrupted sweep.{_first(len(whole))}"
        )
        blocks += [Paragraph(text), Listing(tuple(whole)[:MOST_LINES])]
    tested = [run for result in analysis.results for run in result.comparison.runs if run.computing is None]
    lines = [
        shlex.join(["peftlab", "train", *run.record.data["overrides"]])
        for run in tested
        if run.record.data["overrides"]
    ]
    lines = [line for line in dict.fromkeys(lines) if line not in whole]
    if lines:
        blocks += [Paragraph(f"Each tested run by itself:{_first(len(lines))}"), Listing(tuple(lines[:MOST_LINES]))]
    if computed := dict.fromkeys(shlex.join(run.computing) for run in analysis.runs if run.computing is not None):
        text = f"Models that were computed from runs:{_first(len(computed))}"
        blocks += [Paragraph(text), Listing(tuple(computed)[:MOST_LINES])]
    ids = [run.id for run in tested[:3]] or [run.id for run in trained[:3]]
    if not ids:
        return Section("commands", "Commands to repeat everything", tuple(blocks))
    check = [f"peftlab reproduce {name}" for name in ids]
    commits = sorted(
        {str(run.record.data["code"]["commit"]) for run in analysis.runs if run.record.data["code"]["commit"]}
    )
    versions = sorted({str(run.record.data["code"]["version"]) for run in analysis.runs})
    text = f"With the code of {', '.join(commits[:4]) or 'an unknown commit'} (peftlab {', '.join(versions)}) "
    text += "and the packages of packages.txt in a run's folder, this trains a run again and says whether the result "
    text += "is the same"
    text += f" (the first {len(ids)} of {len(tested)} tested runs):" if 0 < len(ids) < len(tested) else ":"
    blocks += [Paragraph(text), Listing(tuple(check))]
    return Section("commands", "Commands to repeat everything", tuple(blocks))


def _first(number: int) -> str:
    """Return what is said of so many commands of which not all are listed."""
    return f" The first {MOST_LINES} of {number}." if number > MOST_LINES else ""
