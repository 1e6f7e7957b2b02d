"""The section on explanations: the newest measurement of the test split."""

from __future__ import annotations

from types import MethodType, SimpleNamespace

from peftlab.report.sections.explanation import section
from peftlab.report.study import Run

ABOVE = {"value": 0.4, "low": 0.3, "high": 0.6}
OUTCOME = {"how": "ig", "comprehensiveness": 0.8, "sufficiency": 0.2, "above_random": ABOVE, "complete": 0.975}
MEASURED = {"split": "test", "examples": 20, "baseline": "mask", "outcomes": [OUTCOME], "stability": []}


def shown(*documents):
    run = SimpleNamespace(seed=1, beside=lambda file: [*documents])
    for reading in (Run.readable, Run.newest):
        setattr(run, reading.__name__, MethodType(reading, run))
    made = section(
        SimpleNamespace(comparison=SimpleNamespace(name="ner", groups=[SimpleNamespace(name="lora", runs=[run])]))
    )
    return made and [row[3].text for block in made.blocks if hasattr(block, "rows") for row in block.rows]


def test_the_newest_of_the_test_split_is_shown():
    validation = {**MEASURED, "split": "validation", "examples": 3}
    assert shown(MEASURED, {**MEASURED, "examples": 30}, validation) == ["30"]
    assert shown(validation) is None
    assert shown() is None
