"""The section on robustness: the newest perturbations of the test split, and what their intervals are over."""

from __future__ import annotations

from types import MethodType, SimpleNamespace

from peftlab.report.sections.robustness import section
from peftlab.report.study import Run

TYPO = {
    "perturbation": "typo",
    "scores": {"entity_f1": 0.7},
    "drop": {"value": 0.1, "low": 0.05, "high": 0.15},
    "broken": 9,
    "mended": 1,
    "p": 0.02,
}
OLD = {"split": "test", "metric": "entity_f1", "examples": 500, "clean": {"entity_f1": 0.8}, "outcomes": [TYPO]}
"""As versions wrote it that drew examples."""
NEW = {**OLD, "units": "groups", "examples": 400}


def shown(*of_runs, seeds=(0, 1)):
    """Return the columns' notes and the rows of the table, and the figure."""
    runs = []
    for number, documents in enumerate(of_runs):
        run = SimpleNamespace(seed=seeds[number], id=f"run{number}", beside=lambda file, own=documents: [*own])
        runs.append(run)
        for reading in (Run.readable, Run.newest):
            setattr(run, reading.__name__, MethodType(reading, run))
    groups = [SimpleNamespace(name="lora", runs=runs)]
    comparison = SimpleNamespace(name="ner", groups=groups, metric="entity_f1", direction="max")
    made = section(SimpleNamespace(comparison=comparison))
    if made is None:
        return None
    table, figure = made.blocks
    notes = {column.title: column.note for column in table.columns}
    return notes, [row[3].text for row in table.rows], figure


def test_behaviour_alone_and_another_split_hide_nothing():
    behaviour, other = {**OLD, "clean": {}, "outcomes": []}, {**OLD, "split": "validation", "examples": 3}
    _, examples, _ = shown([OLD, behaviour, other])
    assert examples == ["500"]
    assert shown([behaviour, other]) is None
    assert shown([]) is None


def test_what_the_intervals_are_over_is_said():
    otherwise = "McNemar's test, or approximate randomisation where no answer flips"
    for documents, units, test in (
        ([[OLD]], "examples", f"{otherwise}, adjusted by Holm's method"),
        ([[OLD, NEW]], "groups of examples", f"{otherwise} or examples are grouped"),
        ([[NEW], [OLD]], "examples or groups of examples", otherwise),
    ):
        notes, _, figure = shown(*documents)
        assert notes["interval"] == f"paired bootstrap over {units}"
        assert notes["p"].startswith(test)
        assert figure.caption.endswith(f"paired bootstrap over {units}.")


def test_runs_of_one_seed_are_told_apart_in_the_figure():
    for seeds, labels in (
        ((0, 1), ["lora, seed 0", "lora, seed 1"]),
        ((0, 0), ["lora, seed 0, run0", "lora, seed 0, run1"]),
    ):
        *_, figure = shown([OLD], [OLD], seeds=seeds)
        assert [series["label"] for series in figure.data["series"]] == labels
