"""What later measurements of a finished run say of it, a sentence each, for its model card. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from peftlab.report.study import Run
from peftlab.runs.folder import AUDIT, FAIRNESS, ROBUSTNESS, SLICES

UNMEASURED = "unknown, not measured"


def measurements(run: Run) -> Iterator[tuple[str, str]]:
    """Yield what each kind of measurement is about, and what the last one says; it may hold text from anybody."""
    yield "Errors by slice", _slices(run.beside(SLICES))
    yield "Fairness", _fairness(run.beside(FAIRNESS))
    yield "Changed inputs", _robustness(run.beside(ROBUSTNESS))
    yield "What it reveals of its training examples", _audit(run.beside(AUDIT))


def _robustness(measured: Sequence[Mapping[str, Any]]) -> str:
    """Return what the last measurement of perturbations says; behaviour tests alone change no inputs."""
    try:
        last = [one for one in measured if one["outcomes"]][-1]
        drops = [f"{one['perturbation']} {_drop(one['drop']['value'])}" for one in last["outcomes"]]
        return f"loss of {last['metric']} on {last['examples']} examples of {last['split']}: {', '.join(drops)}"
    except (LookupError, TypeError, ValueError):
        return UNMEASURED


def _slices(measured: Sequence[Mapping[str, Any]]) -> str:
    """Return what the last measurement of slices says: those that differ from the rest, and how many do not."""
    try:
        last = measured[-1]
        parts = [
            f"{one['slicer']}, {one['name']} {one['score']['value']:.4f} (the rest {one['rest']:.4f})"
            for one in last["found"]
            if one["says"] == "differs"
        ]
        others = f"{len(last['found']) - len(parts)} of {len(last['found'])} slices were not shown to differ"
        return f"{last['metric']} on the {last['split']} split: {'; '.join([*parts, others])}"
    except (LookupError, TypeError, ValueError):
        return UNMEASURED


def _fairness(measured: Sequence[Mapping[str, Any]]) -> str:
    """Return what the last measurement of gaps between groups says."""
    try:
        last = [one for one in measured if one["kind"] == "groups"][-1]
        apart = [one for one in last["found"] if one["says"] == "differs"]
        gaps = [f"{one['attribute']} {one['gap']['metric']} {one['gap']['value']:.4f}" for one in apart]
        others = f"{len(last['found']) - len(apart)} of {len(last['found'])} gaps between groups were not shown"
        return f"on {last['examples']} examples of {last['split']}: {'; '.join([*gaps, others])}"
    except (LookupError, TypeError, ValueError):
        return UNMEASURED


def _audit(measured: Sequence[Mapping[str, Any]]) -> str:
    """Return what the last audit says, of the attack on the run with the largest area."""
    try:
        last = measured[-1]
        best = max((one for one in last["attacks"] if one["of"] == "run"), key=lambda one: one["auc"]["value"])
        area, rate = best["auc"], best["rates"][1]
        return (
            f"attack {best['name']}, {last['members']} training examples against {last['others']} others: area "
            f"{area['value']:.3f} ({area['low']:.3f} to {area['high']:.3f}; .5 is guessing), "
            f"{rate['tpr']['value']:.1%} recognised at {rate['allowed']:.1%} false alarms; "
            f"epsilon is at least {last['epsilon']:.2f} at delta {last['delta']:g}"
        )
    except (LookupError, TypeError, ValueError):
        return UNMEASURED


def _drop(value: float | None) -> str:
    return "unknown" if value is None else f"{value:+.4f}"
