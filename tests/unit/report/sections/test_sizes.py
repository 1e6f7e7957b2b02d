from __future__ import annotations

import json

import pytest
from tests.unit.report.sweeps import planned

from peftlab.report.analysis.options import Options
from peftlab.report.analysis.results import analysed
from peftlab.report.figures.learning_curves import Data
from peftlab.report.sections import sizes
from peftlab.report.study import reading

pytestmark = pytest.mark.slow


@pytest.fixture
def section_of(tmp_path):
    """Return the section of a sweep over sizes of the training split."""

    def make(number_of, methods=("full", "lora")):
        sweep = planned(methods=methods)
        parts = []
        for size in number_of:
            for run in planned(methods=methods).runs:
                run.config["budget"]["train_examples"] = size
                rows = 640 if size is None else size
                splits = {"train": rows, **{split: len(examples) for split, examples in sweep.gold.items()}}
                run.record["data"] = {
                    "splits": {
                        split: {"file": "x", "rows": number, "truncated": 0, "dropped": {}}
                        for split, number in splits.items()
                    }
                }
                run.record["overrides"] = [
                    *(f"peft={run.method}", f"seed={run.seed}", f"budget.train_examples={json.dumps(size)}")
                ]
                run.error_rate += 10 / rows
                parts.append(run)
        sweep.runs = parts
        with reading([sweep.write(tmp_path / "sweep")]) as study:
            (result,) = analysed(study, Options()).results
            return sizes.section(result)

    return make


def test_each_method_has_a_line_over_sizes(section_of):
    (figure,) = section_of([100, 300, None]).blocks
    assert [(one["label"], one["x"]) for one in figure.data["series"]] == [
        ("full", [100, 300, 640]),
        ("lora", [100, 300, 640]),
    ]
    for one in figure.data["series"]:
        assert one["mean"] == sorted(one["mean"])
        assert all(low < mean < high for low, mean, high in zip(one["low"], one["mean"], one["high"], strict=True))
    Data(**figure.data)


def test_runs_of_one_size_have_none(section_of):
    assert section_of([100]) is None
