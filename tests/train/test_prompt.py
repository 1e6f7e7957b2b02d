"""Runs that classify by prompts: without training and with it, and what is kept of labels."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import peftlab
from peftlab.data.reading import read_data_set
from peftlab.data.sampling import sampled
from peftlab.errors import ConfigError
from peftlab.runs.folder import RunFolder
from peftlab.runs.label_budget import label_budget_of
from peftlab.use.check import check
from peftlab.use.reproduce import reproduce

pytestmark = pytest.mark.slow

WORDS = "{compare: a, hire: b, move: c, nothing: d, report: e}"
ONE_ROW = [r'task.template="{text} :{answer}"', f"task.label_words={WORDS}"]


@pytest.fixture
def train(tiny_run, tiny_texts, language_model):
    def make(*overrides, run_dir="run", task="prompt"):
        model = [f"model.path={language_model('llama')}", "model.dropout=null", "model.head_dropout=null"]
        zero = ["budget.max_steps=0", "budget.select=last"] if "budget=zero_shot" in overrides else []
        overrides = [*zero, *(each for each in overrides if each != "budget=zero_shot")]
        data = [
            f"task={task}",
            "budget.train_examples=null",
            "budget.eval_examples=null",
            "data=csv",
            f"data.path={tiny_texts}",
            f"run_dir={run_dir}",
        ]
        record = peftlab.run(*tiny_run, *data, *model, *overrides)
        assert record.data["status"] == "completed"
        return record

    return make


def test_a_run_without_training_and_its_use(train):
    record = train(*ONE_ROW, "budget=zero_shot", "peft=head", "task.calibration=contextual", "task.demonstrations=2")
    assert record.data["cost"]["steps"] == 0
    assert record.data["selection"]["step"] == 0
    assert label_budget_of(record)._asdict() == {"trained_on": 2, "selected_on": 0, "selects": []}
    assert record.extensions["prompt"]["calibration"]["fitted_on"] == "texts without content"
    run = peftlab.load("run")
    assert len(run.config["task"]["shown"]) == 2
    assert float(run.model.verbalizer.shift.detach().abs().max()) > 0
    assert run.evaluate().equal
    rows = [json.loads(line) for line in Path("run/predictions/test.jsonl").read_text().splitlines()]
    answers = run.predict([row["input"] for row in rows])
    assert [one["predicted"] for one in answers] == [row["predicted"] for row in rows]
    assert reproduce("run").verdict == "identical"


def test_a_run_that_trains_words_of_several_tokens(train):
    """And a soft verbalizer: what is trained beside the method is in the adapter."""
    train("peft=lora", "budget.max_steps=3", "budget.select=last", "callbacks=[progress]", "trainer.accumulate=2")
    run = peftlab.load("run")
    assert run.evaluate().equal
    assert check(RunFolder(run.record)).causes == []
    assert label_budget_of(run.record)._asdict() == {"trained_on": 48, "selected_on": 0, "selects": []}
    train(*ONE_ROW, "peft=lora", "budget.max_steps=3", "task.verbalizer=soft", "task.calibration=batch", run_dir="soft")
    soft = peftlab.load("soft")
    assert soft.evaluate().equal
    assert check(RunFolder(soft.record)).causes == []  # although the shift is fitted after the trail's last point
    assert soft.record.data["selection"]["step"] > 0
    names = {name for name, _ in soft.parts.peft.saved(soft.model).items() if "verbalizer" in name}
    assert {name.rpartition("verbalizer.")[2] for name in names} == {"shift", "vectors.weight"}


def test_shots_are_those_of_a_classification_and_nested(train):
    few, ids = {}, {}
    for task in ("prompt", "classification"):
        for shots in (1, 3):
            record = train(
                "budget=zero_shot", "peft=lora", f"budget.per_class={shots}", task=task, run_dir=f"{task}{shots}"
            )
            run = peftlab.load(record.folder)
            spec = run.spec
            examples = sampled("train", read_data_set(spec.data, spec.task)[0]["train"], spec.task, spec.budget)
            few[task, shots], ids[task, shots] = len(examples), {one.id for one in examples}
    assert ids["prompt", 1] == ids["classification", 1] < ids["prompt", 3] == ids["classification", 3]
    assert few["prompt", 1] == 5


def test_validation_labels_are_labels(train):
    record = train(*ONE_ROW, "budget.max_steps=2", "budget.per_class=1", "budget.validation_per_class=1")
    assert record.data["data"]["splits"]["validation"]["rows"] == 5
    assert label_budget_of(record)._asdict() == {
        "trained_on": 5,
        "selected_on": 5,
        "selects": ["checkpoint", "early stopping"],
    }
    beyond = train(*ONE_ROW, "budget.max_steps=2", "budget.per_class=1", run_dir="beyond")
    assert label_budget_of(beyond).exceeds
    with pytest.raises(ConfigError, match=r"callbacks.early_stopping would end the training by a validation score"):
        train("budget.select=last", run_dir="other")
    with pytest.raises(ConfigError, match=r"peft=head with task=prompt: there is nothing to train"):
        train("peft=head", "task.calibration=batch", run_dir="other")


def test_a_template_is_chosen_once_and_kept(train):
    several = r'task.template=["{text} :{answer}","{text} is {answer}"]'
    record = train(several, "task.choose=mdl", "budget=zero_shot", "peft=lora", "task.calibration=domain")
    facts = record.extensions["prompt"]
    chosen = min(facts["choice"]["by"], key=lambda one: one["bits"])["template"]
    assert facts["templates"] == [chosen]
    assert label_budget_of(record).trained_on == 48
    again = peftlab.load("run")
    assert again.parts.task.used == [chosen]
    assert again.evaluate().equal
    torch.testing.assert_close(again.model.verbalizer.shift, again.adapted().verbalizer.shift)
