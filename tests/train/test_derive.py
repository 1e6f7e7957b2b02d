"""A run that is computed from finished runs, not trained, is used like any other."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from peftlab import one_run
from peftlab.errors import UserError
from peftlab.report.study import Run
from peftlab.runs.record import RunRecord
from peftlab.use.derive import against, derive
from peftlab.use.finished import load

pytestmark = pytest.mark.slow

FULL = {"_target_": "peftlab.methods.selection.Full", "name": "merged"}


@pytest.fixture
def parent(finished):
    return load(finished.folder)


def merged(parent, factor=1.0, **options):
    """Return the run of the parent's merged model, with the head multiplied by `factor`."""
    plain = parent.parts.peft.merge(parent.adapted())

    def fill(model):
        with torch.no_grad():
            model.load_state_dict(plain.state_dict())
            model.classifier.weight.mul_(factor)

    return derive([parent], by="compress", how={"factor": factor}, peft=FULL, fill=fill, **options)


def test_it_answers_scores_exports_and_is_compared_as_its_parent(parent, peftlab):
    run = merged(parent)
    record = RunRecord.load(run.folder.path)
    assert record.data["status"] == "completed"
    assert run.folder.path == Path("runs", f"{parent.record.data['name']}-merged", record.data["run_id"])
    metric = parent.parts.task.selection.metric
    for split in ("validation", "test"):
        assert record.score(split, metric) == pytest.approx(parent.record.score(split, metric), abs=1e-6)
    assert run.evaluate().equal is True
    texts = ["Anna works for Acme in Rome .", "nothing"]
    for own, theirs in zip(run.predict(texts), parent.predict(texts), strict=True):
        assert [entity["type"] for entity in own["entities"]] == [entity["type"] for entity in theirs["entities"]]
    assert run.export("plain").largest_difference < 1e-5
    pair = against(parent, run)
    assert (pair.metric, pair.difference.value, pair.lost, pair.won) == (metric, 0, 0, 0)
    derived = record.derived
    assert (derived["by"], derived["how"]) == ("compress", {"factor": 1.0})
    (told,) = derived["parents"]
    assert told["identity"] == parent.record.data["identity"]["sha256"]
    assert (run.folder.path / told["folder"]).resolve() == parent.folder.path.resolve()
    assert Run(record, "").is_tested
    for command in (["runs"], ["card", run.folder.path], ["report", run.folder.path, parent.folder.path, "--out", "r"]):
        assert peftlab(*command)[0] == 0, command


def test_the_same_again_is_found_and_another_is_another(parent):
    one, again, other = merged(parent), merged(parent), merged(parent, 0.5)
    assert one.folder.path == again.folder.path != other.folder.path
    assert one.record.data["started_at"] == again.record.data["started_at"]
    assert merged(parent, root=Path("elsewhere")).folder.path.parts[0] == "elsewhere"


def test_one_that_was_interrupted_is_computed_again(parent, monkeypatch):
    path = merged(parent).folder.path
    record = RunRecord.load(path)
    record.data["status"] = "running"  # killed
    record.write()
    shutil.rmtree(path / "adapter")
    assert merged(parent).folder.path == path
    assert RunRecord.load(path).data["status"] == "completed"
    assert load(path).evaluate().equal is True


def test_it_is_not_trained(parent, peftlab):
    path = merged(parent).folder.path
    for command in ("reproduce", "resume"):
        code, _, stderr = peftlab(command, path)
        assert code == 2
        assert "`peftlab compress` computed it from other runs" in stderr
    with pytest.raises(UserError, match="nothing to train"):
        one_run.run(load(path).config)


def test_it_has_the_notices_of_all_its_parents(parent):
    other = load(parent.folder.path)
    other.config["notice"] = "not for clinical use"
    plain = parent.parts.peft.merge(parent.adapted()).state_dict()
    how = {"with": "a notice"}
    run = derive(
        [parent, other], by="compress", how=how, peft=FULL, fill=lambda model: model.load_state_dict(plain) and None
    )
    assert (parent.notice, run.notice) == (None, "not for clinical use")
    assert "not for clinical use" in (run.export("plain").folder / "README.md").read_text(encoding="utf-8")
