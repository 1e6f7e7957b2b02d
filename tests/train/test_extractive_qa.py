"""Questions about texts: a run, its answers, and what is done with it afterwards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import peftlab
from peftlab.data.squad import SquadJson
from peftlab.errors import DataError

QUESTION = {"question": "moved", "context": "maria moved from paris to rome . nothing happened today ."}


@pytest.fixture
def trained(tiny_run, tiny_questions):
    def make(*overrides, data=tiny_questions):
        given = ["task=qa", "data=questions", f"data.path={data}", "data.max_tokens=24", "task.stride=8", "run_dir=run"]
        record = peftlab.run(*tiny_run, *given, *overrides)
        assert record.data["status"] == "completed"
        return peftlab.load("run")

    return make


def kept(split="test"):
    return [json.loads(line) for line in Path("run/predictions", f"{split}.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_run(trained, tiny_questions):
    run = trained("trainer.accumulate=2")
    test = SquadJson().read({"test": tiny_questions / "test.json"})["test"]
    rows = kept()
    assert run.record.data["data"]["splits"]["test"]["rows"] == len(rows) == 16
    for row, one in zip(rows, test, strict=True):
        assert row["gold"] == [answer.text for answer in one.answers]
        assert row["predicted"] == one.context[row["start"] : row["end"]] == row["n_best"][0]["answer"]
        assert row["probability"] == row["n_best"][0]["probability"]
        assert (row["group"], row["source_id"]) == (one.group, one.source_id)
        probabilities = [each["probability"] for each in row["n_best"]]
        assert sorted(probabilities, reverse=True) == probabilities
        assert 0 < sum(probabilities) <= 1
        assert len({(each["start"], each["end"]) for each in row["n_best"]}) == len(probabilities) == 5
    assert run.evaluate().equal
    scorer = run.spec.task.scorer
    assert run.record.score("test", "f1") == scorer.scores(scorer.total(rows))["f1"]
    (answer,) = run.predict([QUESTION])
    assert answer["answer"] == QUESTION["context"][answer["start"] : answer["end"]]
    assert answer["n_best"][0]["answer"] == answer["answer"]
    with pytest.raises(DataError, match=r"texts\[0\]: expected `question` and `context`, both strings"):
        run.predict(["paris"])
    exported = run.export("exported")
    assert exported.largest_difference < 1e-4
    assert "The answer is the span of at most 30 tokens" in Path("exported/README.md").read_text()
    assert plain_answers("exported", QUESTION) == answer["answer"]
    worse = run.robustness(["typo"], limit=8)
    assert worse.outcomes


def plain_answers(folder, question):
    """Return what transformers alone makes of the exported model for a text of one row."""
    from transformers import AutoModelForQuestionAnswering, AutoTokenizer

    model, tokenizer = (kind.from_pretrained(folder) for kind in (AutoModelForQuestionAnswering, AutoTokenizer))
    inputs = tokenizer(question["question"], question["context"], return_tensors="pt", return_offsets_mapping=True)
    places, of_text = inputs.pop("offset_mapping")[0].tolist(), inputs.sequence_ids(0)
    with torch.inference_mode():
        outputs = model.eval()(**inputs)
    spans = [
        (float(outputs.start_logits[0, first] + outputs.end_logits[0, last]), first, last)
        for first in range(len(places))
        for last in range(first, min(first + 30, len(places)))
        if of_text[first] == of_text[last] == 1
    ]
    _, first, last = max(spans)
    return question["context"][places[first][0] : places[last][1]]


@pytest.fixture
def unanswerable(tiny_questions, tmp_path):
    """A folder of the same questions, every third of them about something else."""
    folder = tmp_path / "unanswerable"
    folder.mkdir()
    for file in tiny_questions.iterdir():
        content = json.loads(file.read_text())
        for number, paragraph in enumerate(content["data"][0]["paragraphs"]):
            if number % 3 == 0:
                paragraph["qas"][0] |= {"question": "yesterday", "answers": [], "is_impossible": True}
        (folder / file.name).write_text(json.dumps(content))
    return folder


@pytest.mark.slow
def test_when_there_is_no_answer_is_learnt_on_validation(trained, unanswerable):
    run = trained("task.no_answer=true", "budget.max_steps=8", data=unanswerable)
    threshold = run.record.data["decisions"]["learnt"]["null_threshold"]
    task, validation, test = run.spec.task, kept("validation"), kept("test")
    assert task.decisions == {"null_threshold": threshold} == task.decide(validation)
    for row in (*validation, *test):
        best = next(each for each in row["n_best"] if each["start"] is not None)
        assert row["predicted"] == ("" if row["null_margin"] > threshold else best["answer"])
    details = task.scorer.details(task.scorer.total(test))
    assert {"f1/HasAns", "f1/NoAns"} <= details.keys()
    assert details.items() <= {one["name"]: one["value"] for one in run.record.scores("test")}.items()
    assert run.evaluate().equal
    question = {"question": "yesterday", "context": QUESTION["context"]}
    for offset in (-1, 1):
        (answer,) = run.predict([question])
        task = run.predictor.task
        by_hand = [each for each in answer["n_best"] if (each["start"] is None) == (answer["answer"] == "")]
        assert answer["answer"] == by_hand[0]["answer"]
        task.decisions = {"null_threshold": offset * 1e6}
    assert run.predict([question])[0]["answer"] != ""
