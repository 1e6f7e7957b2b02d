"""A bias that the training data plants, with and without what is to remove it.

Whether a text is about Alan or Marie tells its label in 95 of 100 training texts, and what it says only in 90: without
mitigation the name decides. In the test split names and labels are independent.
"""

from __future__ import annotations

import json
import random

import numpy as np
import pytest

from peftlab.one_run import run

pytestmark = pytest.mark.slow

NAMES, CONTENT = {"yes": "alan", "no": "marie"}, {"yes": "hired", "no": "moved"}
OTHER = {"yes": "no", "no": "yes"}


def planted(texts, by_name, by_content, seed):
    """Return texts as CSV whose name and content go with the label at these rates."""
    draw = random.Random(seed)
    lines = ["text,label"]
    for _ in range(texts):
        label = draw.choice(["yes", "no"])
        name, content = (label if draw.random() < rate else OTHER[label] for rate in (by_name, by_content))
        filler = " ".join(draw.choices(["in", "to", "today", "was", "from", "paris", "rome"], k=3))
        lines.append(f"{NAMES[name]} {CONTENT[content]} {filler} {draw.randrange(10_000)},{label}")
    return "\n".join(lines) + "\n"


@pytest.fixture
def bias(compose_config, tiny_run, tmp_path):
    """Return what a run under some overrides learns: how much the name, and the content, moves P(yes)."""
    data = tmp_path / "data"
    data.mkdir()
    for seed, (name, texts, by_name) in enumerate([("train", 640, 0.95), ("dev", 64, 0.95), ("test", 256, 0.5)]):
        (data / f"{name}.csv").write_text(planted(texts, by_name, 1.0 if name == "test" else 0.9, seed))
    (tmp_path / "terms.txt").write_text("female | male\nmarie | alan\n")
    recipe = ["data.batch_size=32", "budget.max_epochs=12", "budget.max_steps=null", "optimizer.lr=2e-3", "peft=full"]
    recipe += ["task=classification", "data=csv", f"data.path={data}", "callbacks=[]", "trainer.log_every=50"]
    recipe += ["data.splits.validation=dev.csv", "data.max_tokens=64"]
    recipe += ["budget.validate_every=12"]  # not to choose by a split that has the bias

    def learnt(name, *overrides):
        record = run(compose_config(*tiny_run, *recipe, *overrides, f"run_dir={name}"))
        rows = [json.loads(line) for line in (record.folder / "predictions" / "test.jsonl").open()]
        yes = np.array([row["probabilities"]["yes"] for row in rows])
        by = {word: np.array([word in row["input"] for row in rows]) for word in ("alan", "hired")}
        return {word: yes[has].mean() - yes[~has].mean() for word, has in by.items()}

    return learnt


@pytest.mark.exhaustive
def test_each_mitigation_removes_what_the_data_planted(bias, tmp_path):
    without = bias("without")
    assert without["alan"] > max(0.4, without["hired"]), without
    terms = tmp_path / "terms.txt"
    for name, overrides in {
        "counterfactual": ["augment=[counterfactual]", f"augment.counterfactual.terms=[{terms}]"],
        "reweight": ["regularizer=[reweight]", f"regularizer.reweight.terms={terms}"],
        "group_dro": ["regularizer=[group_dro]", f"regularizer.group_dro.terms={terms}"],
    }.items():
        with_it = bias(name, *overrides)
        assert abs(with_it["alan"]) < min(without["alan"], with_it["hired"]) / 3, (name, with_it, without)
