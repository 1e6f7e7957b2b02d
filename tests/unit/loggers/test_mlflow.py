from __future__ import annotations

import logging

import pytest

from peftlab.runs.record import RunRecord

NAMES = [
    *("f1/password: reset", "f1/password_ reset", "f1/what?", "f1/what!", "f1/中文", "f1/日本", "f1/a//b", "f1/a/b"),
    *("f1/..", "f1/.", "f1/" + "long" * 100, "f1/C++", "f1/C#", "f1/100 %", "loss"),
]


@pytest.fixture
def mlflow():
    """The class, whose import takes seconds that the other processes of the tests can do without."""
    from peftlab.loggers.mlflow import MLflow

    return MLflow


@pytest.fixture
def logger(mlflow, tmp_path):
    return mlflow(tmp_path)


def test_every_metric_arrives_whatever_its_name(logger, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("peftlab"), "propagate", True)
    monkeypatch.setattr(logging.getLogger("peftlab"), "level", logging.INFO)
    monkeypatch.setattr(logging.getLogger("peftlab"), "handlers", [])  # each line is to be heard once
    for step in range(2):
        logger.log_metrics({name: n + step for n, name in enumerate(NAMES)}, step)
    run = logger.experiment.get_run(logger.run_id)
    assert sorted(run.data.metrics.values()) == [n + 1 for n in range(len(NAMES))]
    kept = {"loss", "f1/password_ reset", "f1/a/b"}
    assert kept <= run.data.metrics.keys()
    assert caplog.text.count("MLflow: ") == len(NAMES) - len(kept)  # once each
    assert "'f1/password: reset' is called 'f1/password_ reset-" in caplog.text


def test_every_parameter_arrives(logger, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("peftlab"), "propagate", True)
    monkeypatch.setattr(logging.getLogger("peftlab"), "level", logging.INFO)
    weights = {"C++": 1.0, "C#": 2.0, "password: reset": 3.0, "a.b": 4.0, "x" * 300: 5.0}
    logger.log_hyperparams({"task": {"weights": weights}, "data": {"labels": ["label"] * 100, "long": "l" * 7000}})
    from mlflow.tracking import MlflowClient

    params = MlflowClient((tmp_path / "tracking" / "mlflow").as_uri()).get_run(logger.run_id).data.params
    assert sorted(value for key, value in params.items() if key.startswith("task/weights")) == list(
        map(str, weights.values())
    )
    assert params["data/labels"] == str(["label"] * 100)
    assert len(params["data/long"]) == 6000
    assert "only the first 6000 characters of data/long are kept" in caplog.text


def test_a_resumed_run_goes_on_in_its_mlflow_run(mlflow, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("peftlab"), "propagate", True)
    monkeypatch.setattr(logging.getLogger("peftlab"), "level", logging.INFO)
    record = RunRecord.start(tmp_path, run_id="x", name="x", command=[], overrides=[], identity={"sha256": "0"})

    def part(loss: float, step: int, **params: str) -> str:
        """Log a part of the run as another process does."""
        logger = mlflow(tmp_path)
        logger.begin(RunRecord.load(tmp_path))
        assert logger.experiment.get_run(logger.run_id).info.status == "RUNNING"
        logger.log_hyperparams(params)
        logger.log_metrics({"loss": loss}, step)
        logger.conclude(record)
        return logger.run_id

    record.finish("interrupted")
    first = part(3.0, 1, existing="auto", lr="0.1")
    assert part(2.0, 2, existing="resume", lr="0.1", new="yes") == first
    assert "the parameters existing keep the values" in caplog.text
    run = mlflow(tmp_path).experiment.get_run(first)
    assert run.data.params == {"existing": "auto", "lr": "0.1", "new": "yes"}
    assert [row.value for row in mlflow(tmp_path).experiment.get_metric_history(first, "loss")] == [3.0, 2.0]
    assert run.info.status == "KILLED"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "another").as_uri())
    assert part(1.0, 3) != first
    assert f"no longer has the run {first}" in caplog.text


def test_an_experiment_that_mlflow_does_not_take_is_refused(mlflow):
    assert mlflow.refuse({"experiment": "e" * 501}).startswith("experiment = 'eee")
    assert mlflow.refuse({"experiment": "e" * 500}) is None
    assert mlflow.refuse({}) is None


@pytest.mark.parametrize("configured", [None, "http://localhost:5000"])
def test_the_environment_may_name_a_store_elsewhere(mlflow, tmp_path, monkeypatch, configured):
    elsewhere = (tmp_path / "mine").as_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", elsewhere)
    assert mlflow(tmp_path / "run", tracking_uri=configured)._tracking_uri == (configured or elsewhere)
