"""What `peftlab diff` measured, in a report and on its own page."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
import torch
from tests.unit.report.sweeps import planned, run_folders
from torch import nn

from peftlab.report import markdown
from peftlab.report.analysis.options import Options
from peftlab.report.analysis.results import analysed
from peftlab.report.contents import document_of
from peftlab.report.sections.changes import page, sections_of
from peftlab.report.study import reading
from peftlab.use.differing.weights import weight_changes

pytestmark = pytest.mark.slow


def measured(seed):
    """Return a document of two blocks that were moved at random."""
    torch.manual_seed(seed)
    model = nn.ModuleDict({"layer": nn.ModuleList(nn.ModuleDict({"query": nn.Linear(8, 8)}) for _ in range(2))})
    after = {name: parameter.detach() + 0.1 for name, parameter in model.named_parameters()}
    weights = weight_changes(model, after, (), top=2, below=0.5)
    layers = [
        {"stack": "layer", "block": n, "cka": 0.9 - n / 10, "moved": 0.2, "attention": 0.1, "crossed": None}
        for n in range(2)
    ]
    run = {"run": "runs/a", "name": "<b>&", "method": "lora", "seed": seed, "weights": asdict(weights)}
    virtual = {"virtual_tokens": [{"nearest": "<s>", "cosine": 0.5, "norm": 1.0}]}
    run |= virtual | {"added": {"layer.0.adapter": 0.3}, "prefixes": {"layer.0": {"keys": 1.0, "values": 2.0}}}
    run |= {"to_virtual": [{"stack": "layer", "block": 0, "share": 0.25}]}
    changed = {"id": "test:3", "input": "a text", "gold": "x", "before": "y", "after": "x", "flip": "won", "loss": -1.5}
    answers = {"examples": 9, "metric": "accuracy", "before": 0.5, "after": 0.6, "difference": 0.1, "low": None}
    answers |= {"high": None, "units": "examples", "lost": 0, "won": 1, "test": "McNemar", "p": 1.0}
    return {
        **{"before": "runs/b", "after": "runs/a", "split": "test", "examples": 9, "of": 20, "runs": [run]},
        **{"cosines": {"layer.0.query.weight": 0.25}, "of_tokens": True, "layers": layers},
        "logits": {"shift": 0.5, "size": 2.0, "agreement": 0.9},
        "answers": answers | {"changed": [changed]},
        **{"left_out": {"attention": "not shown"}, "settings": {"top": 2, "below": 0.5}},
    }


def test_the_page_shows_everything_and_escapes_names():
    document = json.loads(json.dumps(measured(0)))
    html = page(document)
    assert html.count("<svg") == 1
    assert "<b>&" not in html
    for text in ("layer.1.query.weight", "test:3", "&lt;s&gt;", "0.2500", "25.0 %", "attention: not shown", "+10.00"):
        assert text in html, text
    titles = [section.title for section in sections_of(document)]
    assert len(titles) == 5


def test_a_report_has_the_newest_of_each_run(tmp_path):
    folder = planned(examples=20, methods=("lora", "full")).write(tmp_path / "sweep")
    runs = run_folders(folder)
    (runs[0] / "diff.json").write_text(json.dumps([measured(0), measured(1) | {"settings": {"top": 7}}, {}]))
    with reading([folder]) as study:
        text = markdown.page(document_of(analysed(study, Options())))
    (row,) = [line for line in text.splitlines() if " of 14 " in line]  # 7 directions of each of two matrices
    assert "0.8000" in row  # the least CKA
    assert text.count("What training changed") >= 2
