"""The section on audits: the newest of each run, its curve, and what cannot be read."""

from __future__ import annotations

from types import MethodType, SimpleNamespace

from peftlab.report.document import Figure, Paragraph
from peftlab.report.sections.audit import section
from peftlab.report.study import Run


def audit(area: float, **others):
    rates = [
        {"allowed": allowed, "tpr": {"value": 0.125, "low": 0.1, "high": 0.2}, "others": 500}
        for allowed in (0.001, 0.01)
    ]
    bounds = {"value": area, "low": area - 0.05, "high": area + 0.05}
    one = {"name": "loss", "of": "run", "auc": bounds, "rates": rates, "curve": [[0.0, 0.0], [0.1, 0.3], [1.0, 1.0]]}
    whole = {"members": 500, "others": 500, "source": "rest", "verdict": "contradicted", "epsilon": 1.5, "delta": 1e-5}
    return {**whole, "warnings": ["few others"], "attacks": [one, {**one, "of": "recipe", "curve": []}]} | others


def shown(*documents, claim=None):
    privacy = {} if claim is None else {"privacy": {"epsilon": claim, "delta": 1e-5}}
    run = SimpleNamespace(seed=1, beside=lambda file: [*documents], record=SimpleNamespace(data=privacy))
    for reading in (Run.readable, Run.newest):
        setattr(run, reading.__name__, MethodType(reading, run))
    comparison = SimpleNamespace(name="ner", groups=[SimpleNamespace(name="lora", runs=[run])])
    return section(SimpleNamespace(comparison=comparison))


def test_the_newest_audit_is_shown():
    made = shown(audit(0.9), audit(0.6), claim=1.0)
    tables = {block.name: block.rows for block in made.blocks if hasattr(block, "rows")}
    first, second, *_ = ([cell.text for cell in row] for row in tables["ner-audit-table"])
    assert first[4:] == ["0.600", "0.550 to 0.650", "none", "12.5%", "10.0% to 20.0%"]  # of 500 others, one is more
    assert second[6] == "1.0%"
    (verdict,) = ([cell.text for cell in row] for row in tables["ner-epsilon-table"])
    assert verdict[2:] == ["500", "500", "rest", "1.50", "1.0e-05", "1.00", "contradicted"]
    (figure,) = (block for block in made.blocks if isinstance(block, Figure))
    assert figure.data["series"] == [{"label": "lora, seed 1, loss", "x": [0.0, 0.1, 1.0], "y": [0.0, 0.3, 1.0]}]
    assert Paragraph("lora, seed 1: few others.") in made.blocks


def test_what_cannot_be_read_is_not_shown():
    assert shown() is None
    assert shown(audit(0.6, attacks=[{}])) is None
    odd = audit(0.6)
    odd["attacks"][0]["curve"] = [[0.5]]
    assert shown(odd) is None
    assert shown(audit(0.6, epsilon=None)) is not None
