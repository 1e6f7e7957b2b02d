"""``peftlab robustness`` on a finished run: what it prints and keeps, and that the record stays what it was."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from peftlab.runs.folder import RunFolder
from peftlab.runs.record import RunRecord
from peftlab.use.check import check

TIMES = {"seconds": 0, "at": ""}


@pytest.fixture
def copy(finished) -> Path:
    """A copy of the finished run, whose test split has 16 sentences."""
    return Path(shutil.copytree(finished.folder, "copy"))


@pytest.fixture(autouse=True)
def _no_index(monkeypatch) -> None:
    """Have no package index, and so no WordNet."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)


def untimed(document):
    """Return a document without what differs from one time to the next."""
    if isinstance(document, dict):
        return {key: TIMES.get(key, untimed(value)) for key, value in document.items()}
    return [untimed(value) for value in document] if isinstance(document, list) else document


@pytest.mark.slow
def test_everything_that_suits_a_tagger(peftlab, copy, finished):
    options = ["--limit", "12", "--steps", "2", "--restarts", "2", "--epsilon", "3", "--strength", "0.4", "--json"]
    code, out, _ = peftlab("robustness", copy, *options)
    assert code == 0
    document = json.loads(out)
    assert (document["examples"], document["of"], document["metric"]) == (12, 16, "entity_f1")
    outcomes = {one["perturbation"]: one for one in document["outcomes"]}
    assert outcomes.keys() | document["left_out"].keys() == {"typo", "case", "synonym", "mention", "greedy", "pgd"}
    assert document["left_out"].keys() == {"case", "synonym"}
    assert "makes no difference between" in document["left_out"]["case"]  # the tokenizer writes all in lower case
    for one in outcomes.values():
        drop = document["clean"]["entity_f1"] - one["scores"]["entity_f1"]
        assert one["drop"]["value"] == pytest.approx(drop, abs=1e-6)
        assert one["drop"]["low"] <= one["drop"]["value"] <= one["drop"]["high"]
        assert one["queries"] >= one["changed"] > 0
    assert {name for name, one in outcomes.items() if one["p"] is None} == {"greedy", "pgd"} & outcomes.keys()
    assert outcomes["pgd"]["broken"] > outcomes["pgd"]["mended"] == 0
    assert outcomes["pgd"]["queries"] == 12 * 2 * (2 + 1 + 1)

    again = json.loads(peftlab("robustness", copy, *options)[1])
    assert untimed(again) == untimed(document)
    assert json.loads((copy / "robustness.json").read_text()) == [document, again]
    assert RunRecord.load(copy).data == finished.data
    assert "robustness.json" not in str(check(RunFolder(RunRecord.load(copy))).causes)


@pytest.mark.slow
def test_the_table(peftlab, copy):
    code, out, _ = peftlab("robustness", copy, "--perturb", "typo", "--limit", "0", "--split", "validation")
    assert code == 0
    title, heads, row = out.splitlines()[1:4]
    assert title == "entity_f1 of 16 validation examples (conll entity-level, repair=conlleval)"
    assert heads.split()[:5] == ["perturbation", "changed", "clean", "perturbed", "drop"]
    assert row.split()[0] == "typo"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--perturb", "typos"],
            "there is no such perturbation. Did you mean 'typo'? Allowed: back_translation, case,",
        ),
        (["--perturb", "none"], "--perturb none leaves nothing to do but --behaviour FILE"),
        (["--perturb", "case"], "case: the model's tokenizer makes no difference between the texts"),
        (["--substitutes", "typo,synonyms"], "--substitutes synonyms: there are no such substitutes. Allowed: typo,"),
        (["--max-queries", "2"], "--max-queries 2: greedy replaces nothing with fewer than 3"),
        (["--sentiments", "a,b,c"], "--sentiments names the labels of --behaviour FILE"),
        (["--behaviour", "suite.jsonl"], "--behaviour: task=ner gives a text no single label"),
        (["--perturb", "typo", "--step-size", "1"], "--step-size acts on pgd, and --perturb typo names none"),
        (["--perturb", "pgd", "--substitutes", "typo"], "--substitutes acts on greedy, and --perturb pgd names none"),
        (["--perturb", "pgd", "--strength", "1"], "--strength acts on slices of some words, and --perturb pgd names"),
        (["--perturb", "context", "--strength", "1"], "--strength acts on slices of some words, and --perturb context"),
        (
            ["--perturb", "none", "--behaviour", "suite.jsonl", "--limit", "0"],
            "--limit acts on perturbations, and --perturb none names none",
        ),
        (["--strength", "2"], "invalid share between 0 and 1 value: '2'"),
    ],
)
def test_what_cannot_be_done_is_told(peftlab, finished, options, message):
    code, out, err = peftlab("robustness", finished.folder, *options)
    assert (code, out) == (2, "")
    assert message in err


@pytest.mark.slow
def test_behaviour_of_a_classifier(peftlab, run_tiny, tiny_texts, capsys):
    run_tiny("task=classification", "data=csv", f"data.path={tiny_texts}", "budget.max_steps=20", "run_dir=run")
    capsys.readouterr()  # what the training printed
    cases = [
        {"test": "moves", "type": "MFT", "texts": "Noether moved from Paris to Rome .", "label": "move"},
        {"test": "places", "type": "INV", "texts": ["Rome is larger than Paris", "Warsaw is larger than Rome"]},
    ]
    Path("suite.jsonl").write_text("".join(json.dumps(case) + "\n" for case in cases))
    code, out, _ = peftlab("robustness", "run", "--perturb", "none", "--behaviour", "suite.jsonl", "--json")
    assert code == 0
    document = json.loads(out)
    assert [(one["test"], one["cases"]) for one in document["behaviour"]] == [("moves", 1), ("places", 1)]
    code, out, err = peftlab("robustness", "run", "--max-queries", "40", "--steps", "2")
    assert code == 0, err
    assert "left out: mention: none of these 16 examples has a mention" in out
    assert {"typo", "greedy", "pgd"} <= {line.split()[0] for line in out.splitlines()}
