"""What a task decides on the validation split: learnt with the best checkpoint, frozen, loaded, and checked."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from peftlab.errors import DataError, UserError
from peftlab.runs.decisions import DECISIONS
from peftlab.runs.folder import RunFolder, read_predictions
from peftlab.runs.record import RunRecord
from peftlab.storage.digests import file_sha256
from peftlab.use.check import check
from peftlab.use.clean import label_errors_of
from peftlab.use.finished import load
from peftlab.use.reproduce import reproduce

LEARNING = ["optimizer.lr=5e-3", "budget.max_steps=40", "model.dropout=0", "task.selection.metric=micro_f1"]


@pytest.fixture(scope="session")
def multilabel(tiny_label_sets):
    return ["task=multilabel", "data=several_labels", f"data.path={tiny_label_sets}"]


@pytest.fixture(scope="session")
def finished_sets(run_once, multilabel):
    """A finished run; tests only read it."""
    return run_once("finished_sets", *multilabel, *LEARNING)


@pytest.fixture
def copy(finished_sets) -> Path:
    return Path(shutil.copytree(finished_sets.folder, "run"))


def of_section(record: RunRecord) -> dict:
    return record.data["decisions"]


def scores(record: RunRecord, split: str) -> dict[str, float]:
    return {score["name"]: score["value"] for score in record.scores(split)}


def changed(folder: Path, edit) -> list[str]:
    """Return what the run check says once the record is edited and all digests of files are put right."""
    data = json.loads((folder / "record.json").read_text())
    edit(data)
    for file in data["files"]:
        path = folder / file["path"]
        file |= {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
    (folder / "record.json").write_text(json.dumps(data))
    return [cause.what for cause in check(RunFolder(RunRecord.load(folder))).causes]


class TestRun:
    @pytest.mark.slow
    def test_the_decisions_are_those_of_the_validation_split(self, finished_sets):
        run = load(finished_sets.folder)
        learnt = of_section(finished_sets)["learnt"]
        answers = read_predictions(finished_sets.folder / "predictions" / "validation.jsonl")
        assert run.parts.task.decide(answers) == learnt
        assert json.loads((finished_sets.folder / "adapter" / DECISIONS).read_text()) == learnt
        assert set(learnt["thresholds"]) == {"LOC", "ORG", "PER"}
        assert set(learnt["thresholds"].values()) != {0.5}

    @pytest.mark.parametrize("split", ["validation", "test"])
    def test_predictions_and_scores_obey_them(self, finished_sets, split):
        task = load(finished_sets.folder).parts.task
        answers = read_predictions(finished_sets.folder / "predictions" / f"{split}.jsonl")
        assert all(task.is_consistent(answer, task.decisions) for answer in answers)
        recorded = scores(finished_sets, split)
        assert {**recorded, "loss": 0} == {**task.scorer.measured(answers), "loss": 0}

    def test_the_best_was_chosen_without_them(self, finished_sets):
        validated = [event["micro_f1"] for event in finished_sets.events("validated")]
        assert finished_sets.data["selection"]["value"] == max(validated)
        assert scores(finished_sets, "validation")["micro_f1"] >= max(validated)

    def test_the_record_says_how_much_the_test_split_would_have_flattered(self, finished_sets):
        task = load(finished_sets.folder).parts.task
        answers = read_predictions(finished_sets.folder / "predictions" / "test.jsonl")
        flattering = task.decide(answers)
        flattered = task.scorer.measured([task.decided(answer, flattering) for answer in answers])
        optimism = of_section(finished_sets)["optimism"]
        recorded = scores(finished_sets, "test")
        assert optimism == {name: round(flattered[name] - recorded[name], 6) for name in task.scorer.directions}
        assert optimism["ranking_average_precision"] == 0

    @pytest.mark.slow
    def test_a_run_without_decisions_has_none(self, run_tiny, multilabel):
        record = run_tiny(*multilabel, "budget.max_steps=2", "task.threshold=0.4", "callbacks=[]")
        assert "decisions" not in record.data
        assert not (record.folder / "adapter" / DECISIONS).exists()
        assert check(RunFolder(record)).causes == []


class TestUse:
    @pytest.mark.slow
    def test_it_is_scored_and_answers_as_recorded(self, finished_sets):
        run = load(finished_sets.folder)
        assert run.evaluate().equal
        kept = read_predictions(finished_sets.folder / "predictions" / "test.jsonl")[:8]
        given = run.predict([answer["input"] for answer in kept])
        assert [one["predicted"] for one in given] == [answer["predicted"] for answer in kept]

    @pytest.mark.slow
    def test_the_exported_folder_has_them(self, finished_sets, tmp_path):
        load(finished_sets.folder).export(tmp_path / "exported")
        learnt = of_section(finished_sets)["learnt"]
        assert json.loads((tmp_path / "exported" / DECISIONS).read_text()) == learnt
        assert "Decisions learnt on the validation split" in (tmp_path / "exported" / "README.md").read_text()

    @pytest.mark.slow
    @pytest.mark.parametrize("text", ["{}", None, "[", "[]"])
    def test_it_is_not_used_without_them(self, copy, text):
        file = copy / "adapter" / DECISIONS
        file.unlink() if text is None else file.write_text(text)
        with pytest.raises(UserError, match=DECISIONS):
            load(copy)
        assert changed(
            copy, lambda data: data.update(files=[f for f in data["files"] if text or DECISIONS not in f["path"]])
        )

    @pytest.mark.slow
    def test_what_needs_one_label_says_so(self, finished_sets, tmp_path):
        with pytest.raises(DataError, match="may have several labels"):
            label_errors_of(finished_sets.folder)
        with pytest.raises(UserError, match="gives a text no single label"):
            load(finished_sets.folder).robustness([], behaviour=str(tmp_path / "suite.jsonl"))

    @pytest.mark.slow
    def test_it_is_reproduced(self, copy):
        assert reproduce(copy, check_only=True).verdict == "identical"


class TestCheck:
    @pytest.mark.slow
    def test_nothing_is_said_of_an_honest_run(self, copy):
        assert changed(copy, lambda data: None) == []
        assert "decisions" not in check(RunFolder(RunRecord.load(copy))).unverified

    @pytest.mark.slow
    def test_a_threshold_that_was_changed_everywhere_is_found(self, copy):
        file = copy / "adapter" / DECISIONS
        other = json.loads(file.read_text())
        other["thresholds"]["PER"] += 0.01
        file.write_text(json.dumps(other))
        causes = changed(copy, lambda data: data["decisions"].update(learnt=other))
        assert "record.json: decisions.learnt.thresholds.PER" in causes
        assert f"adapter/{DECISIONS} is not what follows from the predictions of the validation split" in causes

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("edit", "cause"),
        [
            (lambda data: data["decisions"]["optimism"].update(micro_f1=0.0001), "decisions.optimism.micro_f1"),
            (lambda data: data.pop("decisions"), "decisions.learnt"),
            (lambda data: data["selection"].update(value=0.0), "selection.value"),
        ],
    )
    def test_an_entry_that_was_changed_is_found(self, copy, edit, cause):
        assert any(cause in each for each in changed(copy, edit))

    @pytest.mark.slow
    def test_an_answer_that_was_changed_is_found(self, copy):
        file = copy / "predictions" / "test.jsonl"
        rows = read_predictions(file)
        rows[0]["predicted"] = [label for label in ("LOC", "ORG", "PER") if label not in rows[0]["predicted"]]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        assert changed(copy, lambda data: None)

    @pytest.mark.slow
    def test_without_predictions_they_are_unverified(self, copy):
        (copy / "predictions" / "validation.jsonl").unlink()
        assert "decisions" in check(RunFolder(RunRecord.load(copy))).unverified


@pytest.mark.exhaustive
def test_all_ranks_decide_alike_and_a_repetition_too(run_tiny, multilabel):
    one = run_tiny(*multilabel, *LEARNING, "run_dir=one")
    two = run_tiny(
        *multilabel, *LEARNING, "trainer.devices=2", "trainer.strategy=ddp", "run_dir=two", "trainer.threads=1"
    )
    assert of_section(two)["learnt"].keys() == of_section(one)["learnt"].keys()
    assert check(RunFolder(two)).causes == []
    assert load(two.folder).evaluate().equal
    assert reproduce(one.folder).verdict == "identical"
