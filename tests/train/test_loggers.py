"""Where metrics go: every logger holds every row, and none of them a secret."""

from __future__ import annotations

import csv
import json
import math
import signal
import sys
import threading
from pathlib import Path

import pytest

from peftlab.config import resolve, validate
from peftlab.errors import ConfigError
from peftlab.runs.record import RunRecord
from peftlab.training.tuner import Tuner
from peftlab.use.evaluate import tuner_of
from peftlab.use.finished import load

SECRETS = [f"Zq{number:02}xVb{number:02}WnT" for number in range(40)]
"""Told apart from any word by their first letters."""


def rows_of(folder: Path) -> list[dict[str, float]]:
    with (folder / "metrics.csv").open() as file:
        return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]


def agree(logged: dict, row: dict[str, float]) -> bool:
    """Return whether a row of wandb's holds the values of one of ``metrics.csv``."""
    expected = {"trainer/global_step" if key == "step" else key: value for key, value in row.items()}
    return all(
        key in logged and math.isclose(float(logged[key]), value, rel_tol=1e-9) for key, value in expected.items()
    )


TRACKED = ["optimizer.head_lr=1e-3", "budget.max_steps=36"]


@pytest.fixture(scope="module")
def tracked(run_tiny, made_once):
    """A run with every logger."""

    def fill(folder):
        import wandb

        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PEFTLAB_CACHE", str(folder / "cache"))
            patch.setenv("WANDB_MODE", "offline")
            patch.chdir(folder)
            run_tiny("logger=[csv,wandb,tensorboard,mlflow]", "run_dir=run", *TRACKED)
            assert {path.name for path in folder.iterdir()} <= {"run", "cache"}
        wandb.teardown()  # whose own process writes the last of it when it ends

    folder = made_once("tracked", fill) / "run"
    return RunRecord.load(folder), folder


@pytest.mark.slow
def test_what_is_logged_while_training(tracked):
    _, folder = tracked
    rows = [row for row in rows_of(folder) if "train/loss" in row]
    assert len(rows) == 36
    assert all({"train/lr", "train/head_lr", "train/grad_norm"} <= row.keys() for row in rows)
    assert max(row["train/lr"] for row in rows) == pytest.approx(1e-2)
    assert max(row["train/head_lr"] for row in rows) == pytest.approx(1e-3)
    assert all(row["train/grad_norm"] > 0 for row in rows)


@pytest.mark.exhaustive
def test_what_may_be_watched_is_what_is_logged(tracked):
    _, folder = tracked
    columns = {column for row in rows_of(folder) for column in row if column.startswith(("train/", "validation/"))}
    assert columns - {"train/lr", "train/head_lr"} == set(tuner_of(load(folder)).logged())


@pytest.mark.slow
def test_wandb_holds_every_row_the_tables_and_the_artifact(tracked, read_wandb):
    record, folder = tracked
    (found,) = read_wandb(folder)
    metrics = rows_of(folder)
    logged = [row for row in found.rows if not any("_type" in key for key in row)]
    assert len(metrics) == len(logged) > 36
    assert all(agree(row, expected) for row, expected in zip(logged, metrics, strict=True))
    tables = {row["trainer/global_step"] for row in found.rows if any("confusion" in key for key in row)}
    assert tables == {36}
    assert found.records["stats"]
    (run,) = found.records["run"]
    assert run.run_group == record.data["name"]
    assert set(run.tags) == {"ner", "files", "lora"}
    (artifact,) = [artifact for artifact in found.records["artifact"] if artifact.type == "model"]
    assert {"record.json", "adapter/adapter_model.safetensors"} <= {item.path for item in artifact.manifest.contents}
    (exit_,) = found.records["exit"]
    assert exit_.exit_code == 0
    (event,) = [event for event in record.data["history"] if event["event"] == "tracked"]
    assert event["id"] == run.run_id


@pytest.mark.slow
def test_the_last_line_says_how_to_send_it(tracked):
    _, folder = tracked
    last = (folder / "log.txt").read_text().splitlines()[-1]
    command, path = last.split(" wandb sync ")
    assert command.endswith("send it with:")
    assert Path(path).is_dir()


def test_the_error_matrix_agrees_with_the_scores(tracked):
    record, folder = tracked
    with (folder / "tables" / "test" / "confusion.csv").open() as file:
        (_, *types, missed), *rows = csv.reader(file)
    assert (missed, rows[-1][0]) == ("missed", "spurious")
    counts = {row[0]: list(map(int, row[1:])) for row in rows}
    correct = sum(counts[name][column] for column, name in enumerate(types))
    predicted = sum(sum(row[: len(types)]) for row in counts.values())
    (precision,) = [
        m["value"] for m in record.data["metrics"] if (m["name"], m["split"]) == ("entity_precision", "test")
    ]
    assert correct / predicted == pytest.approx(precision)


def test_tensorboard_holds_the_scalars(tracked):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    _, folder = tracked
    events = EventAccumulator(str(folder / "tracking" / "tensorboard"))
    events.Reload()
    expected = [row["train/loss"] for row in rows_of(folder) if "train/loss" in row]
    assert [event.value for event in events.Scalars("train/loss")] == pytest.approx(expected)
    assert "test/confusion/text_summary" in events.Tags()["tensors"]


def test_mlflow_holds_the_metrics_and_how_it_ended(tracked):
    from mlflow.tracking import MlflowClient

    _, folder = tracked
    client = MlflowClient((folder / "tracking" / "mlflow").as_uri())
    (run,) = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    assert run.info.status == "FINISHED"
    losses = [row["train/loss"] for row in rows_of(folder) if "train/loss" in row]
    assert [metric.value for metric in client.get_metric_history(run.info.run_id, "train/loss")] == losses
    assert run.data.params["peft/name"] == "lora"


def test_the_record_leaves_out_what_is_still_written(tracked):
    record, _ = tracked
    paths = {file["path"] for file in record.data["files"]}
    assert {"metrics.csv", "tables/test/confusion.csv"} <= paths
    assert not [path for path in paths if path.startswith("tracking")]


@pytest.mark.slow
def test_loggers_change_no_bit(tracked, run_tiny):
    record, _ = tracked
    alone = run_tiny("logger=[]", "run_dir=alone", *TRACKED)
    assert not Path("alone/metrics.csv").exists()
    assert not Path("alone/tracking").exists()
    assert alone.data["identity"] == record.data["identity"]
    digests = [
        [file["sha256"] for file in each.data["files"] if file["path"].startswith(("adapter", "predictions"))]
        for each in (record, alone)
    ]
    assert digests[0] == digests[1] != []


@pytest.mark.slow
def test_runs_of_one_process_are_runs_of_their_own(command, read_wandb, monkeypatch):
    import wandb

    monkeypatch.setenv("WANDB_MODE", "offline")
    users = wandb.init(project="theirs", mode="offline", dir="theirs", settings=wandb.Settings(silent=True))
    for number in range(2):
        assert command("logger=[csv,wandb]", f"seed={number}", f"run_dir=run{number}").code == 0
    assert wandb.run is users
    users.finish()
    found = [read_wandb(Path(f"run{number}")) for number in range(2)]
    assert [len(each) for each in found] == [1, 1]
    assert len({each.records["run"][0].run_id for (each,) in found} | {users.id}) == 3
    for number, (each,) in enumerate(found):
        losses = [row["train/loss"] for row in each.rows if "train/loss" in row]
        assert losses == [row["train/loss"] for row in rows_of(Path(f"run{number}")) if "train/loss" in row]


@pytest.mark.slow
def test_no_step_waits_for_wandb_to_begin(command, read_wandb, monkeypatch):
    from peftlab.loggers.wandb import Wandb

    init, step, stepped = Wandb._init, Tuner.take_step, threading.Event()
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr(Wandb, "_init", lambda *arguments: init(*arguments) if stepped.wait(20) else None)
    monkeypatch.setattr(Tuner, "take_step", lambda *arguments: stepped.set() or step(*arguments))
    assert command("logger=[wandb]", "run_dir=run").code == 0
    (found,) = read_wandb(Path("run"))
    assert len([row for row in found.rows if "train/loss" in row]) == 4


@pytest.mark.slow
def test_a_callback_may_log_to_the_wandb_run(command, users_callbacks, read_wandb, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert command("logger=[wandb]", "run_dir=run", *users_callbacks("LogToWandb")).code == 0
    (found,) = read_wandb(Path("run"))
    assert [row["mine"] for row in found.rows if "mine" in row] == [42]


@pytest.mark.slow
def test_a_failed_run_ends_its_wandb_run_as_failed(command, users_callbacks, read_wandb, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    with pytest.raises(ArithmeticError):
        command("logger=[wandb]", "run_dir=run", *users_callbacks("Fail", step=2))
    (found,) = read_wandb(Path("run"))
    assert found.records["exit"][0].exit_code == 1
    status = [i.value_json for s in found.records["summary"] for i in s.update if i.key == "status"]
    assert status == ['"failed"']
    signalled = users_callbacks("Signal", number=int(signal.SIGINT), hook="on_train_batch_start")
    assert command("logger=[wandb]", "run_dir=other", *signalled).code == 130
    (found,) = read_wandb(Path("other"))
    assert found.records["exit"][0].exit_code == 1


@pytest.mark.slow
def test_a_logger_that_fails_is_told_once_and_borne(command, monkeypatch):
    from peftlab.loggers.wandb import Wandb

    monkeypatch.setattr(Wandb, "_init", lambda *_: (_ for _ in ()).throw(OSError("no room, password=hunter2hunter2")))
    ended = command("logger=[csv,wandb]", "run_dir=run")
    assert ended.code == 0
    assert ended.out.count("logger.wandb fails and the run goes on: OSError: no room, password=****") == 1
    assert ended.out.count("fails and the run goes on") == 1
    assert rows_of(Path("run"))
    (event,) = [e for e in RunRecord.load(Path("run")).data["history"] if e["event"] == "logger failed"]
    assert (event["logger"], event["reason"]) == ("wandb", "OSError: no room, password=****")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wandb", "tensorboard", "mlflow"])
def test_a_package_that_is_missing_is_told_before_the_run(compose_config, tiny_overrides, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, f"peftlab.loggers.{name}", raising=False)
    with pytest.raises(ConfigError, match=rf"logger\.{name}\._target_: .* pip install {name}"):
        validate(resolve(compose_config(*tiny_overrides, f"logger={name}")))


PLANTED = '''
from lightning.pytorch.callbacks import Callback


class Careless(Callback):
    """Keep secrets in every wrong place, and tell them at the end."""

    def __init__(self, api_key: str, password: str, url: str, options: dict, notes: str):
        self.told = (api_key, password, url, options, notes)

    def on_test_end(self, trainer, tuner):
        import logging

        logging.getLogger("peftlab").info("connecting with %s and %s", *self.told[:2])
        raise ConnectionError(f"refused: {self.told} Authorization: Bearer SECRET")
'''


@pytest.mark.slow
def test_no_secret_reaches_a_file(command, tmp_path_factory, monkeypatch, read_wandb):
    package = tmp_path_factory.mktemp("package")
    secrets = iter(SECRETS)

    def new() -> str:
        return next(secrets)

    (package / "careless.py").write_text(PLANTED.replace("SECRET", new()))
    monkeypatch.syspath_prepend(package)
    monkeypatch.setenv("WANDB_MODE", "offline")
    for variable in ("WANDB_API_KEY", "HF_TOKEN", "GITHUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "DB_PASSWORD"):
        monkeypatch.setenv(variable, new())
    environment = [SECRETS[number] for number in range(1, 6)]
    keys = [
        "api_key",
        "hf_token",
        "client_secret",
        "hub_token",
        "aws_secret_access_key",
        "db_password",
        "private_key",
        "auth_token",
    ]
    keys += ["github_token", "openai_api_key", "passphrase", "credentials", "authorization", "access_key", "cookie"]
    options = [f"+callbacks.careless.options.{key}={new()}" for key in keys]
    forms = [f"hf_{new()}{'a1' * 8}", f"sk-{new()}{'b2' * 6}", f"ghp_{new()}{'c3' * 6}", f"wandb_v1_{new()}{'d4' * 6}"]
    forms += [f"https://me:{new()}@host.example/x?token={new()}", f"bearer {new()}", f"token={new()}"]
    forms += [f"password={new()}", *(f"{variable}={new()}" for variable in ("DB_PASS", "SLACK_TOKEN", "API_KEY"))]
    forms += environment
    with pytest.raises(ConnectionError):
        command(
            *("logger=[csv,wandb,tensorboard,mlflow]", "run_dir=run", "allow=[careless]"),
            "+callbacks.careless._target_=careless.Careless",
            f"+callbacks.careless.api_key={new()}",
            f"+callbacks.careless.password={new()}",
            f"+callbacks.careless.url='postgresql://me:{new()}@host.example/db'",
            *options,
            f"+callbacks.careless.notes={json.dumps(' and '.join(forms))}",
            f"logger.wandb.notes={json.dumps(f'log in with password={new()}, api_key: {new()}')}",
            f"logger.wandb.name={json.dumps(f'with token={new()}')}",
            f"logger.mlflow.run_name={json.dumps(f'with secret={new()}')}",
        )
    assert list(secrets) == []
    files = [path for path in Path("run").rglob("*") if path.is_file()]
    assert {".wandb", ".json", ".yaml", ".txt"} <= {path.suffix for path in files}
    found = {(str(path), secret) for path in files for secret in SECRETS if secret.encode() in path.read_bytes()}
    assert found == set()
    (kept,) = read_wandb(Path("run"))
    assert "****" in kept.records["run"][0].notes
    assert "****" in Path("run/config.yaml").read_text()
    assert "refused: ('****', '****'" in Path("run/record.json").read_text()
