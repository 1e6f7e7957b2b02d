"""The section on slices: the newest measurement of a run, and which slices were too small."""

from __future__ import annotations

from types import MethodType, SimpleNamespace

from peftlab.report.sections.slices import section
from peftlab.report.study import Run

NEGATED = {
    "slicer": "negation",
    "name": "negated",
    "unit": "entities",
    "size": 120,
    "score": {"value": 0.5, "low": 0.4, "high": None},
    "rest": 0.75,
    "p": 0.0004,
    "detectable": None,
    "says": "differs",
}
MEASURED = {
    "metric": "entity_f1",
    "split": "test",
    "units": "groups",
    "settings": {"min_slice": 20},
    "found": [NEGATED],
}


def shown(*documents):
    run = SimpleNamespace(seed=1, beside=lambda file: [*documents])
    for reading in (Run.readable, Run.newest):
        setattr(run, reading.__name__, MethodType(reading, run))
    groups = [SimpleNamespace(name="lora", runs=[run])]
    return section(SimpleNamespace(comparison=SimpleNamespace(name="ner", groups=groups)))


def test_the_newest_measurement_is_shown():
    made = shown({**MEASURED, "found": [], "small": {}}, {**MEASURED, "small": {"length: over 9 words": 3}})
    table, small = made.blocks
    ((_, _, name, size, score, limits, rest, p, detectable, verdict),) = table.rows
    assert [cell.text for cell in (name, size, score, rest, p)] == [
        "negation: negated",
        "120 entities",
        "50.00",
        "75.00",
        "< .001",
    ]
    assert (limits.value, detectable.value, verdict.strong) == (0.4, None, True)
    assert "fewer than 20: length: over 9 words" in small.text


def test_what_cannot_be_read_is_not_shown():
    assert shown({**MEASURED, "small": {"a": "many"}}) is None
    assert shown() is None
