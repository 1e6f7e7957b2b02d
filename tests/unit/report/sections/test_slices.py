"""The section on slices: the newest measurement of a run, and which slices were too small."""

from __future__ import annotations

from types import MethodType, SimpleNamespace

from tests.unit.report.sweeps import planned

from peftlab.report.analysis.options import Options
from peftlab.report.analysis.results import analysed
from peftlab.report.contents import document_of
from peftlab.report.sections.slices import section
from peftlab.report.study import Run, reading

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
    for method in (Run.readable, Run.newest):
        setattr(run, method.__name__, MethodType(method, run))
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


def test_what_cannot_be_read_or_is_of_another_split_is_not_shown():
    assert shown({**MEASURED, "small": {"a": "many"}}) is None
    assert shown({**MEASURED, "small": {}, "split": "validation"}) is None
    assert shown() is None


def test_a_notice_stands_below_the_title(tmp_path):
    sweep = planned(methods=("full", "lora"), seeds=(0,))
    for run in sweep.runs:
        run.config["notice"] = "not for clinical use"
    with reading([sweep.write(tmp_path / "sweep")]) as study:
        document = document_of(analysed(study, Options()))
    assert document.subtitle.endswith("Made from the records by peftlab. Notice: not for clinical use.")
