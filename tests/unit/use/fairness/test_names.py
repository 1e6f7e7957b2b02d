"""Names swapped into sentences: what is measured, of a model that is known to be biased."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import pytest

from peftlab.errors import ConfigError, DataError, UserError
from peftlab.runs.folder import FAIRNESS
from peftlab.tasks.networks.heads import (
    CAUSAL_LM,
    MULTI_LABEL_CLASSIFICATION,
    REGRESSION,
    SEQUENCE_CLASSIFICATION,
    TOKEN_CLASSIFICATION,
)
from peftlab.use.fairness.names import SENTENCES, names
from peftlab.use.fairness.people import people
from peftlab.use.predictor import Refused

WHO = {name.text: name for name in people(["us", "cn"], 8)}


@pytest.fixture
def run_of(tmp_path):
    """Return a maker of a run that answers each text by a function."""

    def make(answer, **task):
        defaults = {"name": "toy", "head": SEQUENCE_CLASSIFICATION, "labels": []}
        (tmp_path / "predictions").mkdir(exist_ok=True)
        return SimpleNamespace(
            folder=SimpleNamespace(path=tmp_path, predictions=tmp_path / "predictions"),
            parts=SimpleNamespace(task=SimpleNamespace(**(defaults | task))),
            predictor=SimpleNamespace(answers=lambda texts, at_once: map(answer, texts)),
        )

    return make


def who_is_in(words):
    return next((place, WHO[word]) for place, word in enumerate(words) if word in WHO)


def tagger(words):
    """Find all but Chinese women, who are taken for a place."""
    place, name = who_is_in(words)
    missed = (name.place, name.gender) == ("cn", "female")
    return {"entities": [{"type": "LOC" if missed else "PER", "start": place, "end": place + 1}]}


def ner(run_of, answer=tagger):
    return run_of(answer, head=TOKEN_CLASSIFICATION, types=["LOC", "PER"])


def test_whom_a_tagger_misses(run_of, tmp_path):
    result = names(ner(run_of), ["us", "cn"], 8)
    assert result.texts == 60 * len(WHO)
    assert result.means == {"recall": pytest.approx(1 - len(result.people["cn female"]) / len(WHO))}
    gaps = {one.factor: one.gap for one in result.gaps}
    assert {factor: (gap.smallest, gap.value) for factor, gap in gaps.items()} == {
        "gender": ("female", pytest.approx(0.5, abs=0.05)),
        "place": ("cn", pytest.approx(0.5, abs=0.05)),
        "place and gender": ("cn female", 1),
    }
    (kept,) = json.loads((tmp_path / FAIRNESS).read_text())
    assert kept == json.loads(json.dumps(result.document()))
    assert kept["kind"] == "names"
    text = "\n".join(result.lines())
    assert "recall by place and gender" in text
    assert "us female 8" in text


def test_the_runs_own_sentences(run_of):
    run = ner(run_of)
    rows = [{"input": ["In", "Rome", who, "slept"], "gold": ["O", "B-LOC", "B-PER", "O"]} for who in "abc"]
    (run.folder.predictions / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = names(run, ["us", "cn"], 8, SENTENCES)
    assert (result.templates, result.sentences) == ("test sentences", 3)
    assert result.means["recall"] < 1


def test_what_a_classifier_changes(run_of):
    def answer(text):
        _, name = who_is_in(re.findall(r"\w+", text))
        bad = 0.8 if name.gender == "male" else 0.3
        return {"predicted": "Neg" if bad > 0.5 else "Pos", "probabilities": {"Neg": bad, "Neu": 0.1, "Pos": 0.9 - bad}}

    result = names(run_of(answer, labels=["Neg", "Neu", "Pos"]), ["us", "cn"], 8)
    gaps = {(one.measure, one.factor): one.gap for one in result.gaps}
    assert gaps["sentiment", "gender"].value == pytest.approx(1.0)
    assert gaps["sentiment", "gender"].smallest == "male"
    # nothing varies but the gender; there are three measures by three factors
    # nothing varies but the gender; there are three measures by three factors
    assert gaps["sentiment", "gender"].p == pytest.approx(9 / 2000)
    assert result.means["accuracy"] == pytest.approx(1 / 3)
    assert {measure for measure, _ in gaps} == {"sentiment", "accuracy", "flips"}
    topics = {"Neg": "sport", "Neu": "tech", "Pos": "news"}

    def other(text):
        reply = answer(text)
        return {
            "predicted": topics[reply["predicted"]],
            "probabilities": {topics[label]: p for label, p in reply["probabilities"].items()},
        }

    result = names(run_of(other, labels=sorted(topics.values())), ["us", "cn"], 8)
    assert set(result.means) == {"probability", "flips"}
    assert 0.3 < result.means["flips"] <= 0.5


def test_numbers_and_what_cannot_be_measured(run_of, tmp_path):
    file = tmp_path / "own.txt"
    file.write_text("{name} came.\n{name} went.\n")
    result = names(run_of(lambda text: {"predicted": float(len(text))}, head=REGRESSION), ["us", "cn"], 8, file)
    assert set(result.means) == {"number"}
    for head in (CAUSAL_LM, MULTI_LABEL_CLASSIFICATION):
        with pytest.raises(ConfigError, match="neither entities nor one label or number"):
            names(run_of(lambda text: pytest.fail("it is asked"), head=head), ["us", "cn"], 8, file)
    with pytest.raises(UserError, match="--names 1: a group of one name"):
        names(run_of(lambda text: pytest.fail("it is asked")), ["us", "cn"], 1, file)
    with pytest.raises(ConfigError, match="finds LOC, ORG, and none is called PER or PERSON"):
        names(run_of(tagger, types=["LOC", "ORG"]), ["us", "cn"], 8, file)
    with pytest.raises(ConfigError, match="takes a run of NER that was tested"):
        names(run_of(lambda text: {}), ["us", "cn"], 8, SENTENCES)
    with pytest.raises(DataError, match="does not take such texts: no pair"):
        names(run_of(lambda text: Refused({}, DataError("no pair"))), ["us", "cn"], 8, file)
