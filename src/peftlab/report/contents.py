"""The table of contents of a report: which sections it has, in which order."""

from __future__ import annotations

from collections.abc import Callable

from peftlab.report.analysis.results import Analysis, Result
from peftlab.report.as_json import numbers
from peftlab.report.document import Document, Section, Table
from peftlab.report.numbers import called, listed, plural
from peftlab.report.sections import (
    answers,
    audit,
    changes,
    checklists,
    checks,
    commands,
    comparison,
    compression,
    cost,
    data,
    ensembles,
    environment,
    explanation,
    fairness,
    few_labels,
    folds,
    identity,
    interruptions,
    limitations,
    long_tables,
    out_of_scope,
    overview,
    reruns,
    robustness,
    scores,
    search,
    sizes,
    slices,
    summary,
    training,
)
from peftlab.runs.notice import notice_of

OF_A_COMPARISON: tuple[Callable[[Result], Section | None], ...] = (
    overview.section,
    scores.section,
    comparison.section,
    folds.section,
    sizes.section,
    cost.section,
    search.section,
    training.section,
    answers.section,
    ensembles.section,
    compression.section,
    out_of_scope.section,
    slices.section,
    robustness.section,
    explanation.section,
    changes.section,
    fairness.section,
    audit.section,
)
OF_ALL: tuple[Callable[[Analysis], Section | None], ...] = (
    few_labels.section,
    reruns.section,
    interruptions.section,
    data.section,
    limitations.section,
)
APPENDIX: tuple[Callable[[Analysis], Section], ...] = (
    identity.section,
    environment.section,
    checklists.section,
    commands.section,
)


def document_of(analysis: Analysis) -> Document:
    """Return the report; several comparisons get a section each."""
    sections = [summary.section(analysis), checks.section(analysis)]
    whole: list[Table] = []
    for result in analysis.results:
        made = [long_tables.shortened(part, result) for make in OF_A_COMPARISON if (part := make(result)) is not None]
        parts = tuple(part for part, _ in made)
        whole += [table for _, tables in made for table in tables]
        if len(analysis.results) == 1:
            sections += parts
        else:
            sections.append(Section(result.comparison.name, _title(result), (), parts))
    sections += [part for of_all in OF_ALL if (part := of_all(analysis)) is not None]
    tables = long_tables.section(whole)
    appendix = (*((tables,) if tables else ()), *(of_all(analysis) for of_all in APPENDIX))
    sections.append(Section("appendix", "Appendix", (), appendix))
    names = sorted({str(run.record.data["name"]) for run in analysis.runs if run.record.data["name"]})
    return Document(f"Report: {listed(names, 3)}", _subtitle(analysis), sections, numbers(analysis))


def _title(result: Result) -> str:
    comparison = result.comparison
    return f"{summary.place(comparison).removeprefix('On ')}, {called(comparison.metric)}"


def _subtitle(analysis: Analysis) -> str:
    starts = sorted(str(run.record.data["started_at"])[:10] for run in analysis.runs if run.record.data["started_at"])
    when = "" if not starts else f", {starts[0]}" if starts[0] == starts[-1] else f", {starts[0]} to {starts[-1]}"
    left = analysis.study.left_out
    out = f"; {plural(len(left), 'record')} left out" if left else ""
    notices = dict.fromkeys(notice for run in analysis.runs if (notice := notice_of(run.config)) is not None)
    told = "".join(f" Notice: {notice.rstrip('.')}." for notice in notices)
    return f"{plural(len(analysis.runs), 'run')}{when}{out}. Made from the records by peftlab.{told}"
