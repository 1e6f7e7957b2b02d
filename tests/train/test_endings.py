"""How a run ends: well, badly or early, and what happens where it has ended already."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.utilities import combined_loader

from peftlab.storage import checkpoints, trees

pytestmark = pytest.mark.slow


def only_record() -> dict[str, Any]:
    """Return the record of the only run below ``runs/``."""
    (file,) = Path("runs").rglob("record.json")
    return json.loads(file.read_text())


def folders() -> list[str]:
    return sorted(file.parent.name for file in Path("runs").rglob("record.json"))


# --- badly -----------------------------------------------------------------------------------------------------------


def test_a_failure_is_recorded_and_raised(command, capsys, users_callbacks):
    with pytest.raises(ArithmeticError, match="the callback failed"):  # Python exits with 1 and shows the traceback
        command(*users_callbacks("Fail", step=2))
    record = only_record()
    assert record["status"] == "failed"
    assert (record["error"]["type"], record["error"]["message"]) == ("ArithmeticError", "the callback failed")
    assert "users_callbacks.py" in record["error"]["traceback_tail"]
    assert record["cost"]["steps"] == 2
    assert record["cost"]["wall_seconds"] > record["cost"]["train_seconds"] > 0
    assert record["history"][-1]["event"] == "failed"
    assert record["overrides"][-1] == "+callbacks.users.step=2"
    (log,) = Path("runs").rglob("log.txt")
    assert "failed: ArithmeticError: the callback failed" in log.read_text()
    assert "failed: ArithmeticError: the callback failed" in capsys.readouterr().out


def test_a_run_that_learnt_nothing_has_failed(command):
    """No validation gives a number: the record must not claim a result."""
    with pytest.raises(RuntimeError, match="nothing was learnt"):
        command("budget.max_steps=1", "optimizer.lr=1e30", "optimizer=sgd", "task.selection.metric=loss")
    record = only_record()
    assert (record["status"], record["metrics"]) == ("failed", [])
    assert record["selection"]["value"] is None


# --- early -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "name", "code"),
    [(signal.SIGINT, "SIGINT", 130), (signal.SIGUSR1, "SIGUSR1", 143)],
)
def test_a_signal_ends_the_training_after_a_step(command, users_callbacks, number, name, code):
    before = signal.getsignal(number)
    ended = command(
        "budget.max_steps=50", *users_callbacks("Signal", number=int(number), hook="on_train_batch_start", step=1)
    )
    assert (ended.code, ended.err) == (code, "")
    assert f"interrupted ({name})" in ended.out
    record = only_record()
    assert (record["status"], record["error"]["message"]) == ("interrupted", name)
    assert record["cost"]["steps"] == 1  # the next one had not begun
    assert record["cost"]["train_seconds"] > 0
    assert {"config.yaml", "metrics.csv"} <= {file["path"] for file in record["files"]}
    (folder,) = Path("runs").rglob("checkpoints")
    (last,) = checkpoints.files(folder)
    kept = trees.read(last)
    assert (checkpoints.step_of(last), kept["global_step"]) == (1, 1)
    weights = kept["state_dict"].values()
    assert sum(weight.numel() for weight in weights) == record["method"]["trainable_parameters"]
    assert all(torch.isfinite(weight).all() for weight in weights)
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("hook", ["on_validation_batch_start", "on_test_batch_start"])
def test_a_signal_ends_an_evaluation(command, users_callbacks, hook):
    ended = command(*users_callbacks("Signal", number=int(signal.SIGINT), hook=hook))
    assert ended.code == 130
    record = only_record()
    assert record["status"] == "interrupted"
    assert "test" not in {metric["split"] for metric in record["metrics"]}
    (folder,) = Path("runs").rglob("checkpoints")
    assert checkpoints.step_of(checkpoints.newest_whole(folder)) == 4


@pytest.mark.parametrize("place", ["while the workers are ended", "in a finalizer"])
def test_a_signal_where_an_exception_would_do_harm_waits(command, monkeypatch, place):
    """Raised there, it was replaced by another error when Lightning ended the loop again, or dropped by Python."""
    end_workers, sent = combined_loader._shutdown_workers_and_reset_iterator, []

    class Finalized:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGTERM)

    def interrupted(loader):
        if not sent:
            sent.append(loader)
            Finalized() if place == "in a finalizer" else os.kill(os.getpid(), signal.SIGTERM)
        end_workers(loader)

    monkeypatch.setattr(combined_loader, "_shutdown_workers_and_reset_iterator", interrupted)
    assert command().code == 143
    assert only_record()["status"] == "interrupted"
    (folder,) = Path("runs").rglob("checkpoints")
    assert checkpoints.step_of(checkpoints.newest_whole(folder)) == 4


def test_a_signal_when_all_is_done_but_writing_comes_too_late(command, users_callbacks):
    assert command(*users_callbacks("Signal", number=int(signal.SIGTERM), hook="on_test_epoch_end")).code == 0
    assert only_record()["status"] == "completed"


# --- in spite of what stands around it -------------------------------------------------------------------------------


def test_neither_a_terminal_that_takes_nothing_nor_links_laid_meanwhile_end_a_run(
    command, users_callbacks, monkeypatch
):
    Path("outside").write_text("all my work")
    lay = users_callbacks("Lay", folder="mine", target="outside", step=2)
    reader, writer = os.pipe()
    os.close(reader)
    with monkeypatch.context() as patch, open(writer, "w", encoding="ascii") as pipe:
        patch.setattr(sys, "stdout", pipe)
        assert command("run_dir=mine", *lay).code == 0
    record = json.loads(Path("mine/record.json").read_text())
    assert record["status"] == "completed"
    assert Path("outside").read_text() == "all my work"
    log = Path("mine/log.txt").read_text()
    assert "the terminal takes no more lines, and the run goes on: " in log
    assert "not listed in the record: notes (a link to '" in log
    assert log.count("run folder: mine") == 2
    listed = {file["path"] for file in record["files"]}
    assert {"trail.jsonl", "metrics.csv", "adapter/adapter_config.json", "predictions/test.jsonl"} <= listed
    assert [json.loads(line)["step"] for line in Path("mine/trail.jsonl").read_text().splitlines()[1:]] == [0, 1, 2, 4]


# --- again -----------------------------------------------------------------------------------------------------------


def test_a_finished_run_in_run_dir_is_left_alone_or_replaced(command):
    assert command("run_dir=mine").code == 0
    before = {path: path.read_bytes() for path in Path("mine").rglob("*") if path.is_file()}
    ended = command("run_dir=mine")
    assert ended.code == 0
    assert "this very run is finished already: mine" in ended.out
    assert {path: path.read_bytes() for path in Path("mine").rglob("*") if path.is_file()} == before
    assert not Path("runs").exists()
    Path("mine/left-over").touch()
    assert command("run_dir=mine", "existing=rerun").code == 0
    assert json.loads(Path("mine/record.json").read_text())["status"] == "completed"
    assert not Path("mine/left-over").exists()


def test_the_same_run_is_made_again_beside_unless_it_is_to_be_skipped(command):
    assert command().code == 0
    (first,) = folders()
    assert "finished already" in command("existing=skip").out
    assert folders() == [first]
    assert command().code == 0
    assert folders() == [first, f"{first}-2"]
    assert command("existing=rerun").code == 0
    assert folders() == [first, f"{first}-2", f"{first}-3"]


def test_an_interrupted_run_is_not_taken_for_a_finished_one(command, users_callbacks):
    signalled = users_callbacks("Signal", number=int(signal.SIGINT), hook="on_train_batch_start", step=1)
    assert command("run_dir=mine", *signalled).code == 130
    assert command("run_dir=mine", *signalled).code == 130  # the callback sends its signal again
    ended = command("run_dir=mine", *signalled, "existing=rerun")
    assert ended.code == 130
    history = json.loads(Path("mine/record.json").read_text())["history"]
    assert [event["event"] for event in history] == ["started", "interrupted"]
