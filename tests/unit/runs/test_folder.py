"""Where a run is kept: which folder it gets, and what its record says however it ends."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from peftlab.errors import ConfigError, UserError
from peftlab.runs import start as starting
from peftlab.runs.folder import ROBUSTNESS, RunFolder, keep_beside, read_config
from peftlab.runs.identity import identity
from peftlab.runs.record import RunRecord
from peftlab.runs.start import elsewhere, start
from peftlab.storage import checkpoints, trees
from peftlab.storage.atomic import replacing
from peftlab.terminal.console import start_logging
from peftlab.terminal.signals import Interrupted

COST = {"steps": 3, "wall_seconds": 1.5}


def begin(**settings: Any) -> RunFolder:
    """Start a run of a configuration whose only option that counts is `lr`."""
    changed = {"train": "a", "weights": "b"} | settings.pop("changed", {})
    config = {"lr": 0.1, "run_dir": None, "existing": "auto"} | settings
    environment = {"threads": config.pop("threads", 1)}
    known = {"code": {}, "environment": environment, "command": ["train"], "overrides": ["lr=0.1"]}
    known |= {"data": {"splits": {"train": {"file": "my.csv"}}}}
    weights = changed.pop("weights")
    return start(config, "experiment", identity(config, changed, weights), **known)


def finish(folder: RunFolder) -> RunFolder:
    with folder.recording(lambda: COST):
        pass
    return folder


def on_disk(folder: RunFolder) -> dict[str, Any]:
    return RunRecord.load(folder.path).data


# --- which folder ----------------------------------------------------------------------------------------------------


def test_a_new_run_gets_a_folder_named_by_its_identity():
    folder = begin()
    record = on_disk(folder)
    assert folder.path == Path("runs/experiment") / record["identity"]["sha256"][:12]
    assert not folder.finished
    assert (record["status"], record["run_id"], record["name"]) == ("running", folder.path.name, "experiment")
    assert (record["command"], record["overrides"]) == (["train"], ["lr=0.1"])
    assert yaml.safe_load((folder.path / "config.yaml").read_text()) == read_config(folder.path)
    assert read_config(folder.path)["lr"] == 0.1
    assert "torch==" in (folder.path / "packages.txt").read_text()


def test_another_identity_gets_another_folder():
    assert begin().path != begin(lr=0.2).path


def test_a_finished_run_is_made_again_beside():
    first = finish(begin())
    second = finish(begin())
    third = begin()
    assert [folder.path.name for folder in (second, third)] == [f"{first.path.name}-2", f"{first.path.name}-3"]
    assert not second.finished


@pytest.mark.parametrize("existing", ["auto", "resume", "skip"])
@pytest.mark.parametrize("where", [{}, {"run_dir": "mine"}])
def test_a_run_that_did_not_finish_goes_on(where, existing):
    first = begin(**where)
    again = begin(**where, existing=existing)
    assert (again.path, again.unfinished, again.finished) == (first.path, True, False)


def test_the_latest_of_those_that_did_not_finish_goes_on():
    finish(begin())
    begin()
    latest = begin(existing="rerun")
    assert begin().path == latest.path


def test_a_run_that_did_not_finish_is_left_beside_where_asked():
    first = begin()
    assert begin(existing="rerun").path.name == f"{first.path.name}-2"


@pytest.mark.parametrize("where", [{}, {"run_dir": "mine"}])
def test_without_anything_to_resume_resuming_is_refused(where):
    with pytest.raises(ConfigError, match=r"^existing=resume: .* holds no run that could be resumed; leave existing="):
        begin(**where, existing="resume")
    finish(begin(**where))
    with pytest.raises(ConfigError, match=r"^existing=resume: .* is finished: there is nothing to resume; leave exi"):
        begin(**where, existing="resume")


CHANGES = [
    ({"lr": 0.2}, {}, "lr was 0.1 and is 0.2"),
    ({"peft": {"r": 4}}, {}, "peft.r was None and is 4"),
    ({"data": {"labels": ["a", "b"]}}, {}, "data.labels.0 was None and is 'a'; data.labels.1 was None and is 'b'"),
    ({f"key{n}": n for n in range(9)}, {}, "key5 was None and is 5; 3 more settings differ"),
    ({}, {"train": "c" * 64}, "my.csv has changed since: its digest was a and is cccccccccccc"),
    ({}, {"test": "c" * 64}, "the test split has changed since: its digest was none and is cccccccccccc"),
    ({}, {"weights": "d" * 64}, "the weights of model have changed since: their digest was b and is dddddddddddd"),
    ({"lr": 0.2}, {"train": "c"}, "my.csv has changed since: its digest was a and is c; lr was 0.1 and is 0.2"),
]


@pytest.mark.parametrize(("settings", "changed", "told"), CHANGES)
def test_a_refusal_names_what_differs(settings, changed, told):
    begin(run_dir="mine")
    with pytest.raises(ConfigError) as refused:
        begin(**settings, run_dir="mine", changed=changed)
    assert str(refused.value).startswith("run_dir=mine: holds another run (")
    assert told in str(refused.value)
    with pytest.raises(ConfigError) as refused:
        begin(**settings, run_dir="mine", existing="resume", changed=changed)
    assert str(refused.value).startswith("mine cannot be resumed as it is another run than this one now: ")
    assert str(refused.value).endswith(told)
    assert "existing" not in str(refused.value)


def test_the_newest_run_that_could_be_meant_is_named():
    finish(begin(lr=0.3))
    begin(lr=0.4)
    newest = begin(lr=0.5)
    with pytest.raises(ConfigError) as refused:
        begin(lr=0.6, existing="resume")
    assert str(refused.value).startswith(f"{newest.path} cannot be resumed")
    assert str(refused.value).endswith("lr was 0.5 and is 0.6")


def test_a_configuration_that_was_edited_is_named():
    file = begin(run_dir="mine").path / "config.yaml"
    file.write_text(file.read_text().replace("lr: 0.1", "lr: 0.2"))
    with pytest.raises(ConfigError, match=r": mine/config\.yaml has changed since the run began$"):
        begin(lr=0.2, run_dir="mine", existing="resume")


@pytest.mark.slow
@pytest.mark.parametrize("existing", ["auto", "resume", "skip"])
def test_a_run_that_another_process_is_writing_is_left_to_it(existing):
    folder = begin()
    assert f"process {os.getpid()} on " in in_another_process(lambda: begin(existing=existing))
    assert in_another_process(lambda: begin(existing="rerun")) == f"{folder.path}-2"
    os.close(folder.lock)
    assert in_another_process(lambda: begin(existing=existing)) == f"{folder.path}-2"


def test_a_run_that_another_process_is_writing_is_not_replaced():
    begin(run_dir="mine")
    assert " is writing this run" in in_another_process(lambda: begin(run_dir="mine", existing="rerun"))
    assert Path("mine/record.json").exists()


def test_nor_one_that_another_process_is_just_replacing():
    """Its record is among the first that goes, which leaves what looks like a folder of something else."""
    begin(run_dir="mine")
    Path("mine/record.json").unlink()
    assert " is writing this run" in in_another_process(lambda: begin(run_dir="mine", existing="rerun"))


# --- several at once -------------------------------------------------------------------------------------------------


def at_once(work: Callable[[], RunFolder], monkeypatch: pytest.MonkeyPatch, processes: int = 3) -> list[str]:
    """Return what as many processes get that have all looked for the run before the first of them makes it."""
    begin, reader, writer = os.pipe(), *os.pipe()
    for name in ("beginning_below", "beginning_in"):
        make = getattr(starting._Asked, name)

        def waiting(asked: Any, path: Path, make: Any = make) -> RunFolder:
            os.write(writer, b"there\n")
            os.read(begin[0], 1)
            return make(asked, path)

        monkeypatch.setattr(starting._Asked, name, waiting)
    over = os.pipe()
    for _ in range(processes):
        if os.fork() == 0:
            try:
                told = str(work().path)
            except Exception as error:  # noqa: BLE001  # told to the parent
                told = f"{type(error).__name__}: {error}"
            os.write(writer, f"{told}\n".encode())
            os.read(over[0], 1)  # a run goes on until then, and holds its lock
            os._exit(0)
    lines = os.fdopen(reader)
    assert [lines.readline() for _ in range(processes)] == ["there\n"] * processes
    os.write(begin[1], bytes(100))
    told = [lines.readline().strip() for _ in range(processes)]
    os.write(over[1], bytes(processes))
    for _ in range(processes):
        os.wait()
    return told


@pytest.mark.one_in(4, "exhaustive")
@pytest.mark.slow
@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"run_dir": "mine"},
        {"run_dir": "mine", "existing": "rerun"},
        {"existing": "skip"},
        {"sweep_dir": "sweeps/mine"},
        {"run_dir": "disk/mine"},
    ],
)
def test_of_several_that_start_at_the_same_moment_one_trains(asked, finished, monkeypatch):
    Path("elsewhere").mkdir()
    Path("disk").symlink_to("elsewhere")
    makes_again = asked.get("existing", "auto") == "rerun" or asked == {}
    if finished and not makes_again:
        first = finish(begin(**asked))
        assert begin(**asked).path == first.path  # nobody comes so far as to make one
        return
    if finished:
        finish(begin(**asked))
    told = at_once(lambda: begin(**asked), monkeypatch)
    (folder,) = [text for text in told if "Error" not in text]
    assert sum("is writing this run; wait for its end" in text for text in told) == 2
    records = sorted(file.parent for file in Path().rglob("record.json"))
    assert len(records) == (2 if finished and asked == {} else 1)
    assert not list(Path().rglob(".*.lock"))
    assert Path(folder).resolve() in [record.resolve() for record in records]


def test_a_run_that_ended_between_looking_and_making_is_not_made_over(monkeypatch):
    """Another process is so quick that it has begun and ended the run meanwhile."""
    make = starting._Asked.beginning_in

    def late(asked: Any, path: Path) -> RunFolder:
        monkeypatch.setattr(starting._Asked, "beginning_in", make)
        finish(begin(run_dir="mine"))
        return make(asked, path)

    monkeypatch.setattr(starting._Asked, "beginning_in", late)
    folder = begin(run_dir="mine")
    assert folder.finished
    assert on_disk(folder)["status"] == "completed"


def in_another_process(work: Callable[[], RunFolder]) -> str:
    """Return the folder that a forked process gets, or the message; locks are between processes."""
    reader, writer = os.pipe()
    other = os.fork()
    if other == 0:
        try:
            os.write(writer, str(work().path).encode())
        except ConfigError as error:
            os.write(writer, str(error).encode())
        finally:
            os._exit(0)
    os.waitpid(other, 0)
    return os.read(reader, 1000).decode()


def test_existing_skip_leaves_a_finished_run_alone():
    first = finish(begin())
    before = on_disk(first)
    again = begin(existing="skip")
    assert again.finished
    assert again.path == first.path
    assert on_disk(first) == before
    assert [path.name for path in Path("runs/experiment").iterdir()] == [first.path.name]


def test_existing_rerun_makes_a_finished_run_again():
    first = finish(begin())
    again = begin(existing="rerun")
    assert not again.finished
    assert again.path.name == f"{first.path.name}-2"


def test_run_dir_sets_the_folder_exactly():
    folder = begin(run_dir="mine/here")
    assert folder.path == Path("mine/here")
    assert not Path("runs").exists()


def test_run_dir_of_the_finished_run_is_left_alone():
    first = finish(begin(run_dir="mine"))
    before = on_disk(first)
    again = begin(run_dir="mine")
    assert again.finished
    assert on_disk(again) == before


def test_run_dir_of_another_run_is_refused_unless_it_is_to_be_replaced():
    finish(begin(run_dir="mine"))
    Path("mine/left-over").touch()
    with pytest.raises(ConfigError, match=r"^run_dir=mine: holds another run.*existing=rerun"):
        begin(run_dir="mine", lr=0.2)
    assert Path("mine/left-over").exists()
    folder = begin(run_dir="mine", lr=0.2, existing="rerun")
    assert read_config(folder.path)["lr"] == 0.2
    assert not Path("mine/left-over").exists()


def test_run_dir_of_a_run_that_was_killed_before_it_had_a_record():
    Path("mine").mkdir()
    for name in (".lock", f".record.json.{2**120}"):
        Path("mine", name).write_text("")
    folder = begin(run_dir="mine")
    assert not folder.unfinished
    assert sorted(file.name for file in folder.path.glob(".*")) == [".lock"]


def test_what_a_killed_attempt_was_writing_is_gone_when_the_run_goes_on():
    folder = begin(run_dir="mine")
    os.close(folder.lock)
    names = (".record.json", "predictions/.test.jsonl", "tables/test/.types.csv")
    left = [Path("mine", f"{name}.{2**120}") for name in names]
    Path("mine/.venv-3.12").mkdir()  # the user's own
    for file in left:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    begin(run_dir="mine").resume()
    assert not [file for file in left if file.exists()]
    assert Path("mine/.venv-3.12").is_dir()


@pytest.mark.parametrize("existing", ["auto", "rerun", "skip"])
def test_run_dir_that_holds_something_else_is_never_touched(existing):
    Path("mine").mkdir()
    Path("mine/thesis.tex").write_text("all my work")
    with pytest.raises(ConfigError, match=r"^run_dir=mine: there is something else in it"):
        begin(run_dir="mine", existing=existing)
    assert [path.name for path in Path("mine").iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("removed", range(5))
def test_a_run_whose_replacement_is_killed_is_no_finished_run_and_the_same_command_goes_on(removed, monkeypatch):
    """Wherever it is killed: the entries of a folder have no order."""
    real, before = starting.remove, iter(range(9))

    def killed(path):
        if next(before) == removed:
            raise KeyboardInterrupt
        real(path)

    folder = finish(begin(run_dir="mine"))
    (folder.path / "swag.safetensors").touch()
    assert len([*folder.path.iterdir()]) == 6
    with monkeypatch.context() as patch:
        patch.setattr(starting, "remove", killed)
        with pytest.raises(KeyboardInterrupt):
            begin(run_dir="mine", existing="rerun")
    if removed < 4:
        with pytest.raises(ConfigError, match=r"^run_dir=mine: holds the rest of a run .*existing=rerun"):
            begin(run_dir="mine")
    again = begin(run_dir="mine", existing="rerun")
    assert (again.finished, again.unfinished) == (False, False)
    assert sorted(path.name for path in again.path.iterdir()) == [".lock", "config.yaml", "packages.txt", "record.json"]


def test_replacing_a_run_follows_no_link_in_it():
    Path("outside").mkdir()
    Path("outside/thesis.tex").write_text("all my work")
    folder = finish(begin(run_dir="mine"))
    (folder.path / "notes").symlink_to(Path("outside").absolute())
    assert not begin(run_dir="mine", existing="rerun").finished
    assert not (folder.path / "notes").is_symlink()
    assert Path("outside/thesis.tex").exists()


def test_a_run_folder_may_be_a_link_itself():
    Path("disk").mkdir()
    Path("mine").symlink_to("disk")
    assert begin(run_dir="mine").path == Path("mine")
    assert begin(run_dir="mine").unfinished
    assert finish(begin(run_dir="mine")).path == Path("mine")
    assert begin(run_dir="mine", lr=0.2, existing="rerun").path == Path("mine")
    assert RunRecord.load("disk").data["status"] == "running"


def touched(*paths: Path) -> dict[str, tuple[int, int, int]]:
    """Return what changes with a file that is written to or replaced, by its name."""
    return {path.name: ((it := path.lstat()).st_ino, it.st_size, it.st_mtime_ns) for path in paths}


@pytest.mark.parametrize("name", ["log.txt", "config.yaml", "packages.txt", ".lock", "checkpoints", "predictions"])
@pytest.mark.parametrize("existing", ["auto", "resume"])
def test_a_run_whose_files_lead_elsewhere_does_not_go_on_and_nothing_is_touched(name, existing):
    folder = begin(run_dir="mine")
    os.close(folder.lock)
    Path("outside").write_text("all my work")
    (folder.path / name).unlink(missing_ok=True)
    (folder.path / name).symlink_to(Path("outside").absolute())
    before = touched(*folder.path.iterdir(), Path("outside"))
    with pytest.raises(ConfigError, match=rf"^mine/{name} is a link to '.*outside', where the run keeps a"):
        begin(run_dir="mine", existing=existing)
    assert touched(*folder.path.iterdir(), Path("outside")) == before


@pytest.mark.parametrize("text", ["{", "[]", '{"schema_version": 1}', "\0" * 100])
def test_a_broken_record_hides_no_other_run(text, caplog):
    logging.getLogger("peftlab").propagate = True
    first = begin()
    broken = first.path.with_name(f"{first.path.name}-2")
    broken.mkdir()
    (broken / "record.json").write_text(text)
    assert begin().path == first.path
    assert f"passed over: '{broken}/record.json' is not a run record: " in caplog.text
    finish(begin())
    assert begin().path.name == f"{first.path.name}-3"
    with pytest.raises(UserError, match=r"^'.*/record\.json' is not a run record: "):
        begin(run_dir=str(broken))


def test_run_dir_that_is_a_file_is_never_touched():
    Path("mine").write_text("all my work")
    with pytest.raises(ConfigError, match=r"^run_dir=mine: "):
        begin(run_dir="mine", existing="rerun")
    assert Path("mine").read_text() == "all my work"


def test_run_dir_that_cannot_be_made_is_told():
    Path("file").touch()
    with pytest.raises(UserError, match="run_dir=file/below"):
        begin(run_dir="file/below")


def test_an_empty_run_dir_is_used():
    Path("mine").mkdir()
    assert begin(run_dir="mine").path == Path("mine")


def test_a_folder_without_a_configuration_is_told():
    folder = begin()
    (folder.path / "config.yaml").unlink()
    with pytest.raises(ConfigError, match=r"config\.yaml: there is no such file"):
        folder.read_config()


# --- how it ends -----------------------------------------------------------------------------------------------------


def test_a_run_that_ends_well_is_completed():
    record = on_disk(finish(begin()))
    assert (record["status"], record["error"]) == ("completed", None)
    assert record["ended_at"] >= record["started_at"]
    assert record["cost"]["steps"] == 3
    assert [event["event"] for event in record["history"]] == ["started", "completed"]
    assert {file["path"] for file in record["files"]} == {"config.yaml", "packages.txt"}


@pytest.mark.parametrize("target", ["outside", "outside/thesis.tex", "nowhere", "notes", "mine/config.yaml"])
def test_a_link_in_it_neither_ends_a_run_nor_is_followed(target, caplog):
    logging.getLogger("peftlab").propagate = True
    Path("outside").mkdir()
    Path("outside/thesis.tex").write_text("all my work")
    folder = begin(run_dir="mine")
    (folder.path / "wandb").mkdir()
    with caplog.at_level(logging.INFO, "peftlab"), folder.recording(lambda: COST):
        for name in ("notes", "wandb/latest-run", "trail.jsonl"):
            (folder.path / name).symlink_to("notes" if target == "notes" else Path(target).absolute())
    record = on_disk(folder)
    assert record["status"] == "completed"
    assert {file["path"] for file in record["files"]} == {"config.yaml", "packages.txt"}
    assert "not listed in the record: notes (a link to " in caplog.text
    assert Path("outside/thesis.tex").read_text() == "all my work"
    assert not Path("nowhere").exists()


def test_what_cannot_be_read_or_is_no_file_is_not_listed(monkeypatch):
    folder = begin(run_dir="mine")
    for name in ("unreadable", "vanishing"):
        (folder.path / name).write_text("x")
    os.mkfifo(folder.path / "pipe")
    add_file = RunRecord.add_file

    def failing(record: RunRecord, path: str | Path) -> None:
        if str(path) in ("unreadable", "vanishing"):
            raise {"unreadable": PermissionError(13, "no"), "vanishing": FileNotFoundError(2, "no")}[str(path)]
        add_file(record, path)

    monkeypatch.setattr(RunRecord, "add_file", failing)
    assert {file["path"] for file in on_disk(finish(folder))["files"]} == {"config.yaml", "packages.txt"}


def test_a_log_that_has_become_a_link_is_not_written_through():
    start_logging()
    Path("outside").write_text("all my work\n")
    folder = begin(run_dir="mine")
    (folder.path / "log.txt").symlink_to(Path("outside").absolute())
    assert on_disk(finish(folder))["status"] == "completed"
    assert Path("outside").read_text() == "all my work\n"


def test_a_best_checkpoint_that_is_a_link_is_damaged():
    folder = begin(run_dir="mine")
    folder.record.update(selection={"sha256": "a" * 64})
    folder.checkpoints.mkdir()
    folder.best.symlink_to("/etc/passwd")
    assert folder.damage_of_best() == f"{folder.best} is a link to '/etc/passwd'"


def test_a_run_that_fails_says_why():
    folder = begin()
    with pytest.raises(ZeroDivisionError), folder.recording(lambda: COST):
        raise ZeroDivisionError("of no use")
    record = on_disk(folder)
    assert record["status"] == "failed"
    assert (record["error"]["type"], record["error"]["message"]) == ("ZeroDivisionError", "of no use")
    assert "test_folder.py" in record["error"]["traceback_tail"]
    assert record["cost"]["steps"] == 3


@pytest.mark.parametrize(
    ("error", "kind"), [(Interrupted(15), "Interrupted"), (KeyboardInterrupt(), "KeyboardInterrupt")]
)
def test_an_interrupted_run_says_so(error, kind):
    folder = begin()
    with pytest.raises(type(error)), folder.recording(lambda: COST):
        raise error
    record = on_disk(folder)
    assert (record["status"], record["error"]["type"]) == ("interrupted", kind)


def test_a_run_goes_on_from_its_newest_whole_checkpoint():
    folder = begin()
    assert folder.resume() is None  # it has just begun
    for step in (2, 4, 6):
        trees.write({"step": step}, checkpoints.path_of(folder.checkpoints, step))
    with pytest.raises(KeyboardInterrupt), folder.recording(lambda: COST):
        raise KeyboardInterrupt
    assert not {file["path"] for file in on_disk(folder)["files"]} & {"checkpoints/step-4.safetensors"}
    checkpoints.path_of(folder.checkpoints, 6).write_bytes(b"")
    (folder.checkpoints / f".step-8.safetensors.{2**120}").touch()
    again = begin()
    with again.recording(lambda: COST):
        assert again.resume() == checkpoints.path_of(folder.checkpoints, 4)
        assert [checkpoints.step_of(path) for path in checkpoints.files(folder.checkpoints)] == [4, 2]
        assert on_disk(again)["status"] == "running"
    events = [(event["event"], event.get("step")) for event in on_disk(again)["history"]]
    assert events == [("started", None), ("interrupted", None), ("resumed", 4), ("completed", None)]
    assert list(folder.checkpoints.iterdir()) == []
    assert "step-6.safetensors is damaged and passed over" in (folder.path / "log.txt").read_text()


@pytest.mark.parametrize("method", ["add_file", "finish"])
def test_a_run_that_is_killed_before_its_record_says_that_it_is_completed_need_not_train_again(method, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    folder = begin()
    for step in (2, 4):
        trees.write({"step": step}, checkpoints.path_of(folder.checkpoints, step))
    with monkeypatch.context() as patch:
        patch.setattr(RunRecord, method, killed)
        with pytest.raises(KeyboardInterrupt):
            finish(folder)
    again = begin()
    assert again.resume() == checkpoints.path_of(folder.checkpoints, 4)
    finish(again)
    assert list(folder.checkpoints.iterdir()) == []


def test_a_completed_run_keeps_the_checkpoints_it_was_to_keep():
    folder = begin()
    with folder.recording(lambda: COST, keep_every=4):
        for step in (2, 4, 8, 9):
            trees.write({"step": step}, checkpoints.path_of(folder.checkpoints, step))
    assert [checkpoints.step_of(path) for path in checkpoints.files(folder.checkpoints)] == [8, 4]


def test_where_a_run_goes_on_elsewhere_the_record_says_so():
    start_logging()
    begin()
    again = begin(threads=2)
    with again.recording(lambda: COST):
        assert again.resume() is None
    assert "resumed after step 0: there was no checkpoint yet" in (again.path / "log.txt").read_text()
    assert on_disk(again)["environment"]["threads"] == 2
    (resumed,) = [event for event in on_disk(again)["history"] if event["event"] == "resumed"]
    assert resumed["elsewhere"] == {"threads": [1, 2]}


def test_the_lines_of_a_run_are_kept():
    start_logging()
    folder = begin()
    with pytest.raises(ZeroDivisionError), folder.recording(lambda: COST):
        raise ZeroDivisionError("of no use")
    logging.getLogger("peftlab").info("too late")
    text = (folder.path / "log.txt").read_text()
    assert f"INFO run folder: {folder.path}" in text
    assert "ERROR failed: ZeroDivisionError: of no use" in text
    assert "too late" not in text


# --- ranks other than 0 ----------------------------------------------------------------------------------------------


def test_other_ranks_write_nothing(tmp_path):
    folder = elsewhere("experiment", identity({"lr": 0.1}, {"train": "a"}, "b"), command=[], overrides=[])
    folder.record.add_metric("entity_f1", "test", 0.5, "best", "scorer")
    folder.record.write()
    with pytest.raises(Interrupted), folder.recording(lambda: COST):
        raise Interrupted(15)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError, match="Not a directory"):
        folder.predictions.mkdir(parents=True)


def test_what_several_processes_find_out_at_once_is_all_kept(tmp_path, monkeypatch):
    def slowly(file: Path) -> Any:
        time.sleep(0.3)  # as long as all of them take to read what was there before
        return replacing(file)

    monkeypatch.setattr("peftlab.runs.folder.replacing", slowly)
    processes = []
    for number in range(3):
        if (process := os.fork()) == 0:
            os._exit(not keep_beside(tmp_path, ROBUSTNESS, {"number": number}))
        processes.append(process)
    assert [os.waitpid(process, 0)[1] for process in processes] == [0, 0, 0]
    kept = json.loads((tmp_path / ROBUSTNESS).read_text())
    assert sorted(one["number"] for one in kept) == [0, 1, 2]
    assert os.listdir(tmp_path) == [ROBUSTNESS]


def test_what_cannot_be_kept_is_told(tmp_path, caplog):
    logging.getLogger("peftlab").propagate = True
    (tmp_path / f".{ROBUSTNESS}.lock").symlink_to("elsewhere")
    assert not keep_beside(tmp_path, ROBUSTNESS, {})
    assert "cannot be kept there" in caplog.text


@pytest.mark.parametrize("content", [[{"secret": 1}], None])
def test_nothing_is_kept_of_what_a_link_out_of_the_folder_leads_to(tmp_path, content, caplog):
    logging.getLogger("peftlab").propagate = True
    own, theirs = tmp_path / "run", tmp_path / "theirs.json"
    own.mkdir()
    theirs.write_text(json.dumps(content) if content else "[" * 100_000)
    kept = own / ROBUSTNESS
    kept.symlink_to(theirs) if content else theirs.rename(kept)
    assert not keep_beside(own, ROBUSTNESS, {})
    assert kept.is_symlink() == bool(content)
    assert "cannot be kept there" in caplog.text
