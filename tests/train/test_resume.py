"""A run that is interrupted goes on as if nothing had been: the same bits in every file that it leaves."""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from peftlab import cli, one_run
from peftlab.devices.openmp import THREADS
from peftlab.errors import DamagedError
from peftlab.runs.folder import RunFolder
from peftlab.runs.record import RunRecord
from peftlab.storage import checkpoints, trees
from peftlab.tasks.audio_classification import AudioClassification
from peftlab.terminal.signals import Interrupted
from peftlab.training.checkpointing import Checkpointing
from peftlab.training.keep_best import KeepBest
from peftlab.use.check import check
from peftlab.use.finished import load
from peftlab.use.reproduce import reproduce

SCHEDULED = ["budget.max_steps=20", "model.dropout=0.2", "trainer.checkpoint_every=3", "callbacks=[early_stopping]"]
"""Six steps an epoch, a validation at the end of each."""


def left(folder: Path) -> dict[str, bytes]:
    """Return the files of a run that must be the same."""
    names = ("metrics.csv", "trail.jsonl", "checkpoints/*", "predictions/*", "adapter/*", "tables/*/*")
    return {str(file.relative_to(folder)): file.read_bytes() for name in names for file in sorted(folder.glob(name))}


def on_disk(folder: str) -> dict[str, Any]:
    return json.loads(Path(folder, "record.json").read_text())


@pytest.fixture(scope="module")
def whole(run_tiny, tmp_path_factory):
    """Return the run that gets no signal, with further overrides; it is made once, and tests only read it."""

    @functools.cache
    def make(*overrides: str) -> RunRecord:
        return run_tiny(*SCHEDULED, *overrides, f"run_dir={tmp_path_factory.mktemp('whole') / 'run'}")

    return make


@pytest.fixture
def same_when_interrupted(run_tiny, users_callbacks, whole):
    """Compare a run that gets signals, each at a hook once so many steps are over, with one that gets none."""

    def compare(*overrides: str, at: dict[int, str]) -> dict[str, Any]:
        expected = whole(*overrides)
        for step, hook in at.items():
            signalled = users_callbacks("Signal", number=int(signal.SIGTERM), hook=hook, step=step)
            # in the place of a callback that is no part of the identity
            signalled = [override.replace("callbacks.users", "callbacks.progress") for override in signalled]
            with pytest.raises(Interrupted):
                run_tiny(*SCHEDULED, *overrides, "run_dir=parts", *signalled)
            assert on_disk("parts")["status"] == "interrupted"
        found = run_tiny(*SCHEDULED, *overrides, "run_dir=parts")
        assert left(Path("parts")) == left(expected.folder)
        assert found.data["metrics"] == expected.data["metrics"]
        assert found.data["selection"] == expected.data["selection"]
        for key in ("steps", "epochs", "train_flops"):
            assert found.data["cost"][key] == expected.data["cost"][key]
        assert check(RunFolder(found)).causes == []
        return found.data

    return compare


@pytest.mark.slow
def test_recordings_are_changed_alike(same_when_interrupted, data_for, language_model):
    changes = ["speed=[0.9,1.1]", "noise_db=[5,20]", "time_shift=0.1", "frame_masks=[1,8]"]
    own = ["task=audio_classification", *data_for(AudioClassification), f"model.path={language_model('whisper')}"]
    own += [f"task.changes.{change}" for change in changes]
    same_when_interrupted(*own, "data.batch_size=2", "trainer.accumulate=2", at={7: "on_train_batch_start"})


@pytest.mark.one_in(3, "exhaustive")
@pytest.mark.slow
@pytest.mark.parametrize(
    "own",
    [
        ["task=retrieval", "task.user=history", "peft=head"],
        ["task=retrieval", "task.negatives=3"],
        ["task=click", "data.format.label=liked", "data.format.protocol=time", "data.format.periods=[0.4,0.7]"],
    ],
    ids=lambda own: " ".join(own[:2]),
)
def test_what_recommends_goes_on_with_its_items(same_when_interrupted, tiny_interactions, own):
    data = ["data=interactions", f"data.path={tiny_interactions}", "data.batch_size=8", "data.max_tokens=40"]
    same_when_interrupted(*own[:1], *data, *own[1:], at={2: "on_train_batch_start", 7: "on_train_batch_end"})


@pytest.mark.one_in(3, "exhaustive")
@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "at"),
    [
        (["trainer.accumulate=2"], {7: "on_train_batch_start"}),
        *(
            (overrides, at)
            for overrides, at in [
                (["data.workers=1", "trainer.accumulate=2", "data.batch_tokens=96"], {5: "on_train_batch_start"}),
                (["budget.max_steps=9", "budget.validate_every=0.5"], {9: "on_validation_start"}),
                (["budget.max_steps=18"], {18: "on_validation_end"}),
                (["budget.max_steps=18", "optimizer.lr=1e-3"], {18: "on_test_start"}),  # the last weights are the best
                (["model.quantize=nf4", "optimizer=adamw_8bit"], {7: "on_train_batch_start"}),
                (
                    [],
                    {
                        2: "on_train_batch_end",
                        6: "on_validation_batch_start",
                        7: "on_train_batch_start",
                        20: "on_test_start",
                    },
                ),
            ]
        ),
        *(
            pytest.param(overrides, at, marks=pytest.mark.exhaustive)
            for overrides, at in [
                (["peft=full"], {4: "on_train_batch_start"}),
                (["data.workers=2"], {10: "on_train_batch_start"}),
                (["regularizer=[rdrop]", "regularizer.rdrop.start_step=7"], {7: "on_train_batch_start"}),
                ([], {6: "on_validation_batch_start"}),
                ([], {6: "on_validation_end"}),
                ([], {12: "on_train_epoch_start"}),
                ([], {18: "on_validation_start", 19: "on_train_batch_start"}),
                (["budget.max_steps=18"], {18: "on_validation_batch_start"}),
                (["budget.max_steps=7"], {6: "on_validation_batch_start"}),
                (["budget.max_steps=null", "budget.max_epochs=3"], {18: "on_validation_start"}),
                (["callbacks.early_stopping.patience=1", "optimizer.lr=1e-9"], {12: "on_train_end"}),
                (["optimizer=sgd", "scheduler=cosine"], {20: "on_test_batch_start"}),
            ]
        ),
    ],
    ids=str,
)
def test_anywhere(same_when_interrupted, overrides, at):
    same_when_interrupted(*overrides, at=at)


@pytest.mark.slow
def test_with_partners_that_are_drawn_and_a_head_that_is_fitted(same_when_interrupted, tiny_texts):
    overrides = [
        "task=contrastive",
        "data=csv",
        f"data.path={tiny_texts}",
        "data.max_tokens=40",
        "trainer.accumulate=2",
    ]
    same_when_interrupted(
        *overrides, at={7: "on_train_batch_start", 12: "on_validation_batch_start", 20: "on_test_start"}
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "wrong", ["the tree of another step", pytest.param("none of what a checkpoint holds", marks=pytest.mark.exhaustive)]
)
def test_a_wrong_checkpoint_under_a_right_digest_is_passed_over(same_when_interrupted, monkeypatch, wrong, capsys):
    """What lies there when the run goes on is not what it has written, though the digest beside it is right."""
    newest_whole = checkpoints.newest_whole

    def spoilt(folder: Path, *args: Any) -> Path | None:
        newest = checkpoints.files(folder)[0]
        tree = trees.read(newest)
        trees.write(tree | {"global_step": 3} if wrong.startswith("the tree") else {"epoch": 0}, newest)
        return newest_whole(folder, *args)

    monkeypatch.setattr(checkpoints, "newest_whole", spoilt)
    data = same_when_interrupted(at={7: "on_train_batch_start"})
    assert next(event["step"] for event in data["history"] if event["event"] == "resumed") == 6
    told = "it was made after 3 steps" if wrong.startswith("the tree") else "tree['global_step'] is no int"
    assert f"step-7.safetensors is damaged and passed over: {told}" in capsys.readouterr().out


@pytest.mark.slow
def test_a_checkpoint_of_an_older_version_counts_parts_where_steps_are_counted_now(same_when_interrupted, monkeypatch):
    """To Lightning, each part of a step was a batch of its own; a checkpoint says how many parts a step had."""
    newest_whole, turned = checkpoints.newest_whole, []

    def of_old(folder: Path, *args: Any) -> Path | None:
        for file in checkpoints.files(folder)[:1]:
            tree = trees.read(file)
            progress = tree["loops"]["fit_loop"]["epoch_loop.batch_progress"]
            for counter in (progress["total"], progress["current"]):
                counter |= {name: 2 * count for name, count in counter.items()}
            trees.write(tree | {"accumulate": 2}, file)
            turned.append(progress["current"]["completed"])
        return newest_whole(folder, *args)

    monkeypatch.setattr(checkpoints, "newest_whole", of_old)
    same_when_interrupted("trainer.accumulate=2", at={7: "on_train_batch_start"})
    assert turned == [2]  # one step of the second epoch


@pytest.mark.slow
def test_it_goes_on_with_as_many_threads_as_before(run_tiny, monkeypatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(one_run, "fit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_tiny("run_dir=run")
    record = on_disk("run")
    record["environment"]["threads"] = 3
    Path("run", "record.json").write_text(json.dumps(record))
    asked: list[int | None] = []
    monkeypatch.setattr(one_run, "run", lambda config, *_: asked.append(config["trainer"]["threads"]))
    one_run.resume(Path("run"))  # here the environment says how many
    for name in THREADS:
        monkeypatch.delenv(name, raising=False)
    one_run.resume(Path("run"))
    assert asked == [None, 3]


@pytest.mark.slow
def test_the_command_resume(run_tiny, users_callbacks, capsys):
    signalled = users_callbacks("Signal", number=int(signal.SIGUSR1), hook="on_train_batch_start", step=4)
    with pytest.raises(Interrupted):
        run_tiny("budget.max_steps=8", *signalled)
    (file,) = Path("runs").rglob("record.json")
    run_id = file.parent.name
    with pytest.raises(SystemExit) as ended:  # its configuration holds the callback, which sends the signal again
        cli.main(["resume", run_id, "--json", "--allow", "users_callbacks"])
    assert ended.value.code == 143
    (file.parent / "config.yaml").write_text((file.parent / "config.yaml").read_text().replace("step: 4", "step: 99"))
    capsys.readouterr()
    with pytest.raises(SystemExit) as refused:
        cli.main(["resume", run_id, "--allow", "users_callbacks"])
    assert refused.value.code == 2
    assert f"{file.parent}/config.yaml has changed since the run began" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_resume_prints_json_and_finds_everything_from_elsewhere(
    run_tiny, tiny_model, tiny_data, tmp_path, capsys, monkeypatch
):
    shutil.copytree(tiny_model, "model")
    shutil.copytree(tiny_data, "data")
    with monkeypatch.context() as patch:
        patch.setattr(Checkpointing, "on_train_end", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Interrupted):
            run_tiny("budget.max_steps=8", "trainer.checkpoint_every=5", "model.path=model", "data.path=data")
    (file,) = tmp_path.glob("runs/*/*/record.json")
    folder = file.parent
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    capsys.readouterr()
    assert cli.main(["resume", str(folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["status"], Path(found["run"])) == ("completed", folder)
    assert found["metrics"] == json.loads(file.read_text())["metrics"]
    with pytest.raises(SystemExit) as refused:
        cli.main(["resume", str(folder)])
    assert refused.value.code == 2
    assert "is finished" in capsys.readouterr().err
    assert load(folder).evaluate().equal
    assert reproduce(folder, check_only=True).verdict == "identical"
    assert run_tiny("budget.max_steps=8", "run_dir=run").data["identity"] == json.loads(file.read_text())["identity"]


@pytest.mark.slow
def test_a_batch_may_be_divided_otherwise_from_there_on(run_tiny, monkeypatch):
    """The steps, and the validations after them, stay where they were."""
    options = ["budget.max_steps=20", "model.dropout=0", "model.attention_dropout=0", "optimizer=sgd"]
    whole = run_tiny(*options, "run_dir=whole")
    with monkeypatch.context() as patch:
        patch.setattr(Checkpointing, "on_validation_end", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Interrupted):
            run_tiny(*options, "run_dir=parts")
    parts = run_tiny(*options, "run_dir=parts", "trainer.accumulate=3")
    steps = [
        [event["step"] for event in run.data["history"] if event["event"] == "validated"] for run in (whole, parts)
    ]
    assert steps[0] == steps[1]
    expected, found = (load_file(run.folder / "checkpoints" / "best.safetensors") for run in (whole, parts))
    for name, tensor in expected.items():
        assert torch.allclose(found[name], tensor, rtol=1e-4, atol=1e-6), name


@pytest.mark.slow
@pytest.mark.parametrize(
    "damage",
    [
        pytest.param("gone", marks=pytest.mark.exhaustive),
        "a flipped bit",
        pytest.param("another run's", marks=pytest.mark.exhaustive),
    ],
)
def test_without_the_best_checkpoint_so_far_it_begins_anew(run_tiny, monkeypatch, damage):
    """Of a run that hardly learns the first validation is the best, and what comes after it cannot stand in for it."""
    flat = ["budget.max_steps=18", "optimizer.lr=1e-9"]
    whole = run_tiny(*flat, "run_dir=whole")
    assert whole.data["selection"]["step"] == 6
    with monkeypatch.context() as patch:
        patch.setattr(KeepBest, "on_validation_end", interrupted_after(12))
        with pytest.raises(Interrupted):
            run_tiny(*flat, "run_dir=parts")
    best = Path("parts/checkpoints/best.safetensors")
    content = best.read_bytes()
    if damage == "gone":
        best.unlink()
    elif damage == "another run's":
        other = run_tiny("budget.max_steps=6", "seed=3", "budget.test=false", "run_dir=other")
        shutil.copy(other.folder / "checkpoints" / "best.safetensors", best)
    else:
        best.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    found = run_tiny(*flat, "run_dir=parts")
    assert found.resumed_at == 0
    assert left(Path("parts")) == left(Path("whole"))
    assert found.data["selection"] == whole.data["selection"]


@pytest.mark.slow
def test_a_best_checkpoint_that_changes_while_training_goes_on_is_not_scored(run_tiny, monkeypatch):
    monkeypatch.setattr(Checkpointing, "on_train_end", lambda *_: save_file({}, "run/checkpoints/best.safetensors"))
    with pytest.raises(DamagedError, match="is not what was written there"):
        run_tiny("budget.max_steps=6", "run_dir=run")
    assert on_disk("run")["status"] == "failed"


def interrupted_after(step: int):
    """Return a hook of `KeepBest` that has the run interrupted by the validation after so many steps."""
    keep = KeepBest.on_validation_end

    def hook(self, trainer, pl_module):
        keep(self, trainer, pl_module)
        if trainer.global_step == step:
            os.kill(os.getpid(), signal.SIGTERM)

    return hook


def test_in_the_middle_of_an_epoch(same_when_interrupted):
    record = same_when_interrupted(at={8: "on_train_batch_start"})
    events = [(event["event"], event.get("step")) for event in record["history"] if event["event"] != "validated"]
    assert events == [("started", None), ("interrupted", None), ("resumed", 8), ("completed", None)]
