from __future__ import annotations

import functools
import json
import math
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from peftlab.methods.method import MethodContext
from peftlab.methods.selection import Head
from peftlab.runs.record import RunRecord
from peftlab.schedules import Constant
from peftlab.storage.digests import file_sha256
from peftlab.tasks.task import Selection
from peftlab.training.keep_best import KeepBest
from peftlab.training.optimizers import OptimizerSpec
from peftlab.training.tuner import Tuner


@pytest.fixture
def tuner(ner):
    """A model of two layers, the second of which is trained; its weight is set to the step."""
    model = torch.nn.ModuleDict({"encoder": torch.nn.Linear(1, 1), "classifier": torch.nn.Linear(1, 1)})
    context = MethodContext(("classifier",), "TOKEN_CLS", "here")
    method = Head(name="head", learning_rate=1)
    optimizer = OptimizerSpec(lr=1, algorithm=functools.partial(torch.optim.SGD))
    return Tuner(method.apply(model, context), ner(), method, context, optimizer, Constant())


@pytest.fixture
def record(tmp_path):
    identity = {"sha256": "a", "config_sha256": "b", "data_sha256": {}, "weights_sha256": "c"}
    return RunRecord.start(tmp_path, run_id="a", name="run", command=[], overrides=[], identity=identity)


@pytest.fixture
def validate(tuner, record, tmp_path):
    """Return the step of the weights that are kept after validations with these scores."""

    def run(*scores, metric="entity_f1", mode="max", fn="fit", loss=1.0, last=False):
        callback = KeepBest(Selection(metric=metric, mode=mode), tmp_path / "checkpoints" / "best", record, last)
        for step, score in enumerate(scores, start=1):
            tuner.model["classifier"].weight.data.fill_(step)
            trainer = SimpleNamespace(
                callback_metrics={
                    "validation/loss": torch.tensor(loss),
                    f"validation/{metric}": torch.tensor(score),
                    "validation/other": torch.tensor(step),
                },
                global_step=step,
                current_epoch=step // 2,
                state=SimpleNamespace(fn=fn),
                estimated_stepping_batches=100,
                is_global_zero=True,
            )
            callback.on_validation_end(trainer, tuner)
            assert callback.validated_step == step
        kept = load_file(callback.path)["classifier.weight"].item() if callback.path.is_file() else None
        return kept, callback

    return run


@pytest.mark.parametrize(
    ("scores", "mode", "kept"),
    [
        ([0.1, 0.3, 0.2], "max", 2),
        ([0.1, 0.3, 0.3], "max", 2),  # a tie: the earlier
        ([0.0, 0.0], "max", 1),
        ([3.0, 1.0, 2.0], "min", 2),
        ([1.0, 1.0], "min", 1),
        ([math.nan, 0.1, math.nan], "max", 2),
        ([0.1, math.nan, 0.2], "max", 3),
        ([math.nan, 5.0, 4.0, math.nan], "min", 3),
        ([-1.0, -2.0], "max", 1),
        ([math.inf, 3.0], "min", 2),
    ],
)
def test_the_best_is_kept(validate, record, scores, mode, kept):
    step, callback = validate(*scores, mode=mode)
    assert step == kept
    assert callback.value == pytest.approx(scores[kept - 1])
    assert record.data["selection"] == {
        "metric": "entity_f1",
        "split": "validation",
        "mode": mode,
        "value": pytest.approx(scores[kept - 1]),
        "epoch": kept // 2,
        "step": kept,
        "sha256": file_sha256(callback.path),
    }


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_score_beside_a_loss_that_is_not_finite_keeps_nothing(validate, record, loss):
    """Predictions can be read off NaN, and they may even score."""
    assert validate(0.5, loss=loss)[0] is None
    assert "not finite" in [event["event"] for event in record.data["history"]]


def test_scores_that_are_no_number_keep_nothing(validate):
    assert validate(math.nan, math.nan)[0] is None


@pytest.mark.parametrize("scores", [[0.3, 0.2], [0.3, math.nan], [math.nan]])
def test_the_last_is_kept_whatever_its_score_is(validate, record, scores):
    """A correlation is NaN where a small validation split has the same number everywhere."""
    assert validate(*scores, last=True)[0] == len(scores)
    assert json.loads((record.folder / "record.json").read_text())["selection"]["step"] == len(scores)


def test_the_loss_can_be_what_is_selected_by(validate, record):
    assert validate(0.5, 0.4, metric="loss", mode="min")[0] == 2
    assert record.data["selection"]["metric"] == "loss"


def test_only_what_is_trained_is_written(validate):
    _, callback = validate(0.5)
    assert load_file(callback.path).keys() == {"classifier.weight", "classifier.bias"}


def test_the_record_on_disk_tells_of_every_validation(validate, record):
    validate(0.25, math.nan, 0.5)
    on_disk = json.loads((record.folder / "record.json").read_text())
    events = [event for event in on_disk["history"] if event["event"] == "validated"]
    assert [(event["step"], event["entity_f1"]) for event in events] == [(1, 0.25), (2, None), (3, 0.5)]
    assert on_disk["selection"]["step"] == 3


def test_a_validation_after_the_training_is_no_event(validate, record):
    assert validate(0.25, fn="validate")[0] == 1
    assert [event["event"] for event in record.data["history"]] == ["started"]
