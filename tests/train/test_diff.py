"""``peftlab diff`` on finished runs: what it prints, writes and keeps, and that the record stays what it was."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from peftlab.runs.folder import RunFolder
from peftlab.runs.record import RunRecord
from peftlab.use.check import check


@pytest.fixture
def copy(finished) -> Path:
    """A copy of the finished run, whose validation split has 16 sentences."""
    return Path(shutil.copytree(finished.folder, "copy"))


@pytest.mark.slow
def test_one_run_against_its_start(peftlab, copy, finished):
    code, out, err = peftlab("diff", copy, "--examples", "12", "--html", "diff.html", "--json")
    assert code == 0, err
    document = json.loads(out)
    assert json.loads((copy / "diff.json").read_text()) == [document]
    assert RunRecord.load(copy).data == finished.data
    assert "diff.json" not in str(check(RunFolder(RunRecord.load(copy))).causes)
    assert (document["examples"], document["of"], document["of_tokens"]) == (12, 16, True)
    (run,) = document["runs"]
    matrices = run["weights"]["matrices"]
    assert len(matrices) == 12  # six linear layers in each of two blocks
    assert {one["block"] for one in matrices} == {0, 1}
    assert all(one["relative"] > 0 and 1 <= one["stable_rank"] <= one["effective_rank"] <= 16.01 for one in matrices)
    assert run["weights"]["vectors"] == []
    assert [(one["stack"], one["block"]) for one in document["layers"]] == [("bert.encoder.layer", n) for n in (0, 1)]
    assert all(0 < one["cka"] < 1 and 0 < one["attention"] < 1 and one["moved"] > 0 for one in document["layers"])
    assert document["answers"] is document["logits"] is None
    assert "no trained head for task=ner" in document["left_out"]["answers"]
    page = Path("diff.html").read_text()
    assert page.count("<table") >= 3
    assert "<svg" in page


@pytest.fixture
def other(run_once, capsys) -> RunRecord:
    """A finished run with another seed."""
    record = run_once("finished_1", "seed=1")
    capsys.readouterr()  # what the training printed
    return record


@pytest.mark.slow
def test_two_runs(peftlab, copy, other):
    code, out, err = peftlab("diff", copy, other.folder, "--examples", "0", "--json")
    assert code == 0, err
    document = json.loads(out)
    assert not (copy / "diff.json").exists()
    assert document["left_out"] == {}
    assert len(document["cosines"]) == 12
    assert all(-1 <= cosine <= 1 for cosine in document["cosines"].values())
    assert 0 < document["logits"]["agreement"] <= 1
    answers = document["answers"]
    assert answers["difference"] == pytest.approx(answers["after"] - answers["before"])
    recorded = {
        name: next(one["value"] for one in RunRecord.load(folder).scores("validation") if one["name"] == "entity_f1")
        for name, folder in (("before", copy), ("after", other.folder))
    }
    assert {name: answers[name] for name in recorded} == pytest.approx(recorded)
    assert answers["lost"] == sum(one["flip"] == "lost" for one in answers["changed"])

    code, out, _ = peftlab("diff", copy, copy)
    assert code == 0
    assert "logits moved by 0 on average" in out.lower()
    assert "0 become right and 0 wrong" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--top", "0"], "invalid positive whole number value: '0'"),
        (["--examples", "-1"], "invalid whole number value: '-1'"),
        (["--seed", "-1"], "invalid whole number value: '-1'"),
        (["--below", "1"], "--below 1: expected a cosine between 0 and 1"),
        (["--html", "nowhere/diff.html"], "there is no such folder"),
        (["nothing"], "nothing"),
    ],
)
def test_what_cannot_be_done_is_told(peftlab, finished, options, message):
    code, out, err = peftlab("diff", finished.folder, *options)
    assert (code, out) == (2, "")
    assert message in err
