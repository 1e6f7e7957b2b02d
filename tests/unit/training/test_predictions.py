from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from peftlab.training import predictions as module
from peftlab.training.predictions import Predictions


def trainer(fn, step=5):
    state = SimpleNamespace(fn=fn)
    return SimpleNamespace(state=state, is_global_zero=True, global_step=step, estimated_stepping_batches=10)


def predictions(*ids):
    return [{"id": id_, "input": ["Zürich"], "predicted": ["B-LOC"]} for id_ in ids]


def written(folder, split):
    return [json.loads(line) for line in (folder / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]


def place_of(id_):
    """The place in the split of an example with such an id, one that a format of one's own may give."""
    return int(id_.rpartition(":")[2].removeprefix("doc-"))


@pytest.mark.parametrize("split", ["validation", "test"])
class TestEvaluation:
    def evaluate(self, callback, split, *batches, fn=None, step=5):
        for batch in batches:
            places = SimpleNamespace(examples=[place_of(prediction["id"]) for prediction in batch])
            getattr(callback, f"on_{split}_batch_end")(
                trainer(fn or split, step), None, batch, SimpleNamespace(part=places), 0
            )
        getattr(callback, f"on_{split}_epoch_end")(trainer(fn or split, step), None)

    def test_they_come_in_the_order_of_the_file(self, tmp_path, split):
        callback = Predictions(tmp_path / "predictions")
        ids = [f"{split}:{n}" for n in (10, 2, 100, 9, 0)]
        self.evaluate(callback, split, predictions(*ids[:3]), predictions(*ids[3:]))
        found = written(tmp_path / "predictions", split)
        assert found == predictions(*(f"{split}:{n}" for n in (0, 2, 9, 10, 100)))
        assert [path.name for path in (tmp_path / "predictions").iterdir()] == [f"{split}.jsonl"]

    @pytest.mark.parametrize("form", ["doc-{}", "2024:a:{}", "{}", "ünï:doc-{}"])
    def test_ids_are_any_texts(self, tmp_path, split, form):
        ids = [form.format(n) for n in (2, 10, 1)]
        self.evaluate(Predictions(tmp_path), split, predictions(*ids))
        assert [each["id"] for each in written(tmp_path, split)] == [ids[2], ids[0], ids[1]]

    def test_letters_stay_readable(self, tmp_path, split):
        self.evaluate(Predictions(tmp_path), split, predictions(f"{split}:0"))
        assert "Zürich" in (tmp_path / f"{split}.jsonl").read_text(encoding="utf-8")

    def test_a_second_evaluation_replaces_the_first(self, tmp_path, split):
        callback = Predictions(tmp_path)
        self.evaluate(callback, split, predictions(f"{split}:0", f"{split}:1"))
        self.evaluate(callback, split, predictions(f"{split}:1", f"{split}:0"))
        assert [each["id"] for each in written(tmp_path, split)] == [f"{split}:0", f"{split}:1"]


def test_of_validations_while_training_only_the_one_after_the_last_step_leaves_a_file(tmp_path):
    callback = Predictions(tmp_path)
    TestEvaluation().evaluate(callback, "validation", predictions("validation:3"), fn="fit")
    assert list(tmp_path.iterdir()) == []
    TestEvaluation().evaluate(callback, "validation", predictions("validation:4"), fn="fit", step=10)
    assert [each["id"] for each in written(tmp_path, "validation")] == ["validation:4"]
    TestEvaluation().evaluate(callback, "validation", predictions("validation:0"))
    assert [each["id"] for each in written(tmp_path, "validation")] == ["validation:0"]


def test_the_splits_do_not_mix(tmp_path):
    callback = Predictions(tmp_path)
    TestEvaluation().evaluate(callback, "validation", predictions("validation:0"))
    TestEvaluation().evaluate(callback, "test", predictions("test:0"))
    assert [each["id"] for each in written(tmp_path, "test")] == ["test:0"]


def test_many_go_through_a_nameless_file(tmp_path, monkeypatch):
    callback = Predictions(tmp_path)
    TestEvaluation().evaluate(callback, "test", predictions("test:2", "test:0"), predictions("test:1"))
    few = (tmp_path / "test.jsonl").read_bytes()
    monkeypatch.setattr(module, "HELD", 1)
    TestEvaluation().evaluate(callback, "test", predictions("test:2", "test:0"), predictions("test:1"))
    assert (tmp_path / "test.jsonl").read_bytes() == few
    assert [path.name for path in tmp_path.iterdir()] == ["test.jsonl"]


def test_another_rank_touches_no_folder(tmp_path):
    (tmp_path / "file").touch()
    callback, other = Predictions(tmp_path / "file" / "predictions"), trainer("test")
    other.is_global_zero = False
    part = SimpleNamespace(part=SimpleNamespace(examples=[0]))
    callback.on_test_batch_end(other, None, predictions("test:0"), part, 0)
    callback.on_test_epoch_end(other, None)
