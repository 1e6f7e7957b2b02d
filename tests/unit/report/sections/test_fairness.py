"""The section on fairness: the newest measurement of each kind, of groups and of names."""

from __future__ import annotations

from types import MethodType, SimpleNamespace

import pytest

from peftlab.report.document import Figure
from peftlab.report.sections.fairness import section
from peftlab.report.study import Run


def names(value, **others):
    gap = {"value": value, "largest": "us", "smallest": "in", "low": -0.03, "high": 0.38, "expected": 0.08}
    each = {"measure": "recall", "factor": "place", "gap": {**gap, "debiased": 0.15, "p": 0.083}}
    return {"kind": "names", "templates": "test sentences", "texts": 1440, "gaps": [each]} | others


def groups(value, attribute="terms=gender", split="test", metric="f1"):
    gap = {"metric": metric, "value": value, "expected": 0.03, "debiased": 0.1, "low": None, "high": None}
    one = {"attribute": attribute, "says": "differs", "p": 0.02}
    found = one | {"gap": {**gap, "detectable": 0.1, "groups": []}}
    return {"kind": "groups", "split": split, "found": [found]}


def blocks(*documents):
    run = SimpleNamespace(seed=1, beside=lambda file: [*documents])
    for reading in (Run.readable, Run.newest):
        setattr(run, reading.__name__, MethodType(reading, run))
    comparison = SimpleNamespace(name="ner", groups=[SimpleNamespace(name="lora", runs=[run])])
    made = section(SimpleNamespace(comparison=comparison))
    return made and made.blocks


def shown(*documents):
    made = blocks(*documents)
    return made and {block.name: block.rows for block in made if hasattr(block, "rows")}


def test_the_newest_of_groups_and_of_names_are_shown():
    tables = shown(names(0.5), groups(0.4), names(0.1764), groups(0.1087))
    assert [*tables] == ["ner-fairness-table", "ner-names-table"]
    ((*_, gap, limits, _, _, p),) = tables["ner-names-table"]
    assert (gap.text, limits.text, p.text) == ("0.176", "-0.030 to 0.380", ".083")
    ((_, _, _, _, gap, limits, *_),) = tables["ner-fairness-table"]
    assert (gap.text, limits.value) == ("0.109", None)


def test_attributes_that_were_measured_before_are_shown_too():
    earlier = groups(0.5), groups(0.3, "terms=age"), groups(0.2, "terms=faith", "validation")
    rows = shown(*earlier, groups(0.4), groups(0.6, split="validation"))["ner-fairness-table"]
    assert [(row[2].text, row[4].text) for row in rows] == [("terms=gender", "0.400"), ("terms=age", "0.300")]


def test_names_alone_are_shown_and_what_cannot_be_read_is_not():
    assert [*shown(names(0.1))] == ["ner-names-table"]
    assert shown() is None
    assert shown(groups(0.6, split="validation")) is None
    assert shown(names(0.1, gaps=[{}]), {"kind": "other"}) is None


@pytest.mark.parametrize(
    ("metric", "is_drawn"),
    [
        ("fnr/negative", True),
        ("accuracy", True),
        ("hit@10", True),
        ("rmse", False),
        ("perplexity", False),
        ("bleu", False),
    ],
)
def test_only_shares_are_drawn_on_an_axis_of_percent(metric, is_drawn):
    document = groups(0.4, metric=metric)
    document["found"][0]["gap"]["groups"] = [{"name": "she", "size": 30, "value": 0.5, "low": None, "high": None}]
    assert any(isinstance(block, Figure) for block in blocks(document)) == is_drawn
