"""`peftlab label` from texts and rules to a run that is trained on their labels, weighted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from peftlab.runs.record import RunRecord

RULES = """
LOC: {any: [Paris, Rome, Berlin, Oslo, Tokyo], unless: [won]}
PER: {any: [Anna, Bob, Carla, David, Eva]}
"""


@pytest.fixture
def unlabelled(tiny_texts):
    """Write the tiny training texts without labels; their labels by text."""
    rows = [line.rpartition(",") for line in (tiny_texts / "train.csv").read_text().splitlines()[1:]]
    Path("texts.txt").write_text("\n".join(text.strip('"') for text, _, _ in rows) + "\n")
    return {text.strip('"'): label for text, _, label in rows}


def words_of(unlabelled):
    """Return a rule for each label: the words that only its texts have."""
    texts = {label: " ".join(t for t, own in unlabelled.items() if own == label) for label in set(unlabelled.values())}
    own = {}
    for label, joined in texts.items():
        others = " ".join(text for other, text in texts.items() if other != label)
        own[label] = sorted({word for word in joined.split() if word.isalpha()} - set(others.split()))[:8]
    return {label: {"any": words} for label, words in own.items() if words}


@pytest.mark.slow
def test_from_rules_to_a_run(peftlab, command, tiny_run, tiny_texts, unlabelled):
    rules = words_of(unlabelled)
    assert len(rules) > 1, unlabelled
    Path("rules.yaml").write_text(json.dumps(rules))
    weak = ["label", "texts.txt", "--functions", "rules.yaml", "--out", "weak/train.jsonl"]
    Path("weak").mkdir()
    code, out, err = peftlab(*weak, "--keep-unlabelled", "rest.jsonl", "--dev", tiny_texts / "dev.csv", "--json")
    facts = json.loads(out)
    assert (code, err) == (0, "")
    rows = [json.loads(line) for line in Path("weak/train.jsonl").read_text().splitlines()]
    rest = Path("rest.jsonl").read_text().splitlines()
    assert (len(rows), len(rows) + len(rest)) == (facts["labelled"], facts["examples"])
    assert all(unlabelled[row["text"]] == row["label"] for row in rows)  # as the rules were made by the labels
    first = Path("weak/train.jsonl").read_bytes()
    code, out, _ = peftlab(*weak)
    assert (code, Path("weak/train.jsonl").read_bytes()) == (0, first)
    assert f"weak/train.jsonl: {len(rows)} of {facts['examples']} labelled by generative" in out

    header, *dev = (tiny_texts / "dev.csv").read_text().splitlines()
    assert header == "text,label"
    with Path("weak/dev.jsonl").open("w") as file:
        for line in dev:
            text, _, label = line.rpartition(",")
            file.write(json.dumps({"text": text.strip('"'), "label": label}) + "\n")
    (Path("weak") / "test.jsonl").write_text(Path("weak/dev.jsonl").read_text())
    overrides = [*tiny_run, "task=classification", "data=json_lines", "data.path=weak"]
    losses = []
    for name, more in (("weighted", ["data.format.weight=weight"]), ("plain", [])):
        ended = command(*overrides, *more, f"run_dir={name}")
        assert ended.code == 0, ended.err
        losses.append(RunRecord.load(Path(name)).data)
    weighted, plain = losses
    assert weighted["run_id"] != plain["run_id"]
    assert weighted["metrics"] != plain["metrics"]

    ended = command(*overrides, "data.format.weight=wieght", "run_dir=typo")
    assert ended.code == 2
    assert "the column 'wieght' of weights is empty, or missing, in the training split" in ended.err

    # the run votes, too
    Path("runs.yaml").write_text("runs: {model: {run: weighted, threshold: 0.0}}")
    code, out, _ = peftlab(*weak, "--functions", "runs.yaml", "--json")
    one = json.loads(out)["functions"][-1]
    assert (code, one["name"], one["coverage"]) == (0, "model", 1)


def test_entities(peftlab, tiny_data):
    Path("rules.yaml").write_text("runs: {}\nLOC: {any: [Paris, Rome], case: true}\n")
    code, out, _ = peftlab(
        *("label", tiny_data / "train.txt", "--task", "ner", "--functions", "rules.yaml", "--out", "a.jsonl", "--json"),
        *("--dev", tiny_data / "dev.txt", "--labels", "LOC,MISC,ORG,PER"),
    )
    facts = json.loads(out)
    rows = [json.loads(line) for line in Path("a.jsonl").read_text().splitlines()]
    assert (code, facts["rows"]) == (0, "words")
    assert rows
    assert all(len(row["tokens"]) == len(row["ner_tags"]) for row in rows)
    assert np.mean([row["weight"] for row in rows]) <= 1


def test_what_is_refused(peftlab):
    Path("a.csv").write_text("text\nlove\n")
    Path("rules.yaml").write_text("pos: {any: [love]}")
    for more, message in (
        (["--out", "a.csv"], "a.csv: would be written over what is read"),
        (["--out", "b", "--keep-unlabelled", "b"], "b: would be written over what is read or written too"),
        (["--out", "b", "--functions", "a.csv"], "expected a Python module (.py), or rules in YAML (.yaml)"),
        (["--out", "b", "--labels", "a,,b"], "--labels a,,b: expected different names with commas"),
        (["--out", "b", "--balance", "a"], "--balance a: expected a share of each class"),
        (["--out", "b", "--balance", "a=.5,a=.3,b=.7"], "has two shares of one class"),
        (["--out", "b", "--task", "ner", "--pair", "x"], "--pair is for --task classification"),
        (["--out", "b", "--model", "weighted"], "add --dev FILE"),
    ):
        code, _, err = peftlab("label", "a.csv", "--functions", "rules.yaml", *more)
        assert (code, message in err) == (2, True), (more, err)
    assert not Path("b").exists()
