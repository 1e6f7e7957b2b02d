"""Scores that do not follow from the run's predictions, or from the record itself."""

from __future__ import annotations

import math
from collections.abc import Iterator

from peftlab.report.analysis.groups import Comparison
from peftlab.report.document import Finding
from peftlab.report.likeness import by_value, compared_runs, places
from peftlab.report.numbers import plural
from peftlab.report.recount import recount
from peftlab.report.study import Run
from peftlab.runs.decisions import SECTION
from peftlab.scores.scorer import SCORED


def check(comparison: Comparison) -> Iterator[Finding]:
    """Compute the scores of compared runs again from their predictions, and name those that differ."""
    runs = compared_runs(comparison)
    unscored = [run for run in runs if run.scorer is None and recount(run, "test") is not None]
    if unscored:
        yield Finding(
            "unfounded_scores",
            "note",
            f"The scores of {plural(len(unscored), 'run')} were not computed again: their scorer is not one of "
            "peftlab's own.",
            places(unscored),
        )
    for faults, claiming in by_value(runs, lambda run: tuple(_faults(run)) or None).items():
        yield Finding(
            "unfounded_scores",
            "error",
            f"{plural(len(claiming), 'record')} {'claims' if len(claiming) == 1 else 'claim'} what the evidence "
            f"denies: {'; '.join(faults[:3])}. Do not believe these scores: put back the files that the run left, "
            "or run it again (peftlab reproduce).",
            places(claiming),
        )
    unkept = [run for run in runs if recount(run, "test") is None]
    if unkept:
        yield Finding(
            "unfounded_scores",
            "note",
            f"The scores of {plural(len(unkept), 'run')} cannot be computed again: the test predictions are not here. "
            "Archive them with the records: peftlab archive.",
            places(unkept),
        )


def _faults(run: Run) -> Iterator[str]:
    for split in SCORED:
        evidence = recount(run, split)
        if evidence is None:
            continue
        if evidence.fault is not None:
            yield f"the {split} predictions cannot be scored ({evidence.fault})"
        for score in run.record.scores(split):
            follows = evidence.scores.get(score["name"])
            if follows is not None and not _same(score["value"], follows):
                yield f"{split} {score['name']} is {_shown(score['value'])}, and {_shown(follows)} by the predictions"
    if SECTION in run.record.extensions:  # decisions, such as thresholds, are learnt after the checkpoint was selected
        return
    selection = run.record.data["selection"]
    recorded = run.record.score("validation", selection["metric"] or "")
    if selection["split"] == "validation" and recorded is not None and not _same(selection["value"], recorded):
        yield f"the checkpoint was selected for {_shown(selection['value'])}, and scores {_shown(recorded)}"


def _same(one: float | None, other: float) -> bool:
    """Return whether two scores are the same; other versions may add floats in another order."""
    if one is None:
        return math.isnan(other)
    return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-9)


def _shown(value: float | None) -> str:
    return "nothing" if value is None else f"{value:.4f}"
