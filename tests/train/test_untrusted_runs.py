"""A run folder that is passed around: what its configuration says runs no code, and what is odd in it is told."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from peftlab import one_run
from peftlab.errors import ConfigError, UserError
from peftlab.reading import plain_yaml
from peftlab.runs.folder import RunFolder
from peftlab.runs.record import RunRecord
from peftlab.use import check as run_check
from peftlab.use.finished import load
from peftlab.use.reproduce import reproduce


@pytest.fixture
def folder(finished, monkeypatch):
    """A copy of the finished run, in a folder that holds a package `evil`."""
    shutil.copytree(finished.folder, "run")
    Path("evil.py").write_text("import pathlib\npathlib.Path('ran').touch()\nclass X: ...\n")
    monkeypatch.syspath_prepend(Path.cwd())
    yield Path("run")
    assert not Path("ran").exists()
    sys.modules.pop("evil", None)


def edit(folder: Path, **sections) -> None:
    file = folder / "config.yaml"
    file.write_text(plain_yaml.dump(plain_yaml.load(file.read_text()) | sections))


def interrupt(folder: Path) -> None:
    file = folder / "record.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"status": "interrupted"}))


USES = [["predict", "run", "A text."], ["evaluate", "run"], ["export", "run", "out"], ["resume", "run"]]
USES += [["reproduce", "run"], ["reproduce", "run", "--check-only"]]


@pytest.mark.one_in(4, "slow")
@pytest.mark.parametrize("use", USES, ids=" ".join)
@pytest.mark.parametrize("allow", [["evil"], ["evil", "other"]])
def test_what_a_run_allows_itself_is_not_believed(folder, peftlab, use, allow):
    edit(folder, allow=allow, optimizer={"algorithm": {"_target_": "evil.X"}})
    if use[0] == "resume":
        interrupt(folder)
    for said in ([], ["--allow", "other"]):
        ended = peftlab(*use, *said)
        assert (ended[0], ended[1]) == (2, "")
        assert "config.yaml: the run is made of classes of evil" in ended[2]
        assert "--allow evil" in ended[2]
    assert "evil" not in sys.modules


def test_a_user_who_says_so_is_believed(folder, seal):
    Path("mine.py").write_text("from torch.optim import AdamW\nclass Mine(AdamW): ...\n")
    config = plain_yaml.load((folder / "config.yaml").read_text())
    algorithm = config["optimizer"]["algorithm"] | {"_target_": "mine.Mine"}
    edit(folder, allow=["mine"], optimizer=config["optimizer"] | {"algorithm": algorithm})
    seal(folder)
    with pytest.raises(ConfigError, match=r"in Python allow=\['mine'\]"):
        load(folder)
    assert load(folder, allow=["mine", "another"]).spec.optimizer.algorithm.func.__name__ == "Mine"


@pytest.mark.parametrize("allow", ["evil", ["evil.x"], [3], [["evil"]], {"evil": 1}, ["os"], ["peftlab"], 3])
def test_what_allows_no_package_of_ones_own_is_refused(folder, allow):
    edit(folder, allow=allow)
    with pytest.raises(ConfigError, match="allow"):
        load(folder, allow=["evil", "os"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        ["hydra.searchpath=[pkg://evil]"],
        ["+hydra.searchpath=['pkg://evil']"],
        ["++hydra.launcher._target_=evil.X"],
        ["allow=[evil]", "task._target_=evil.X"],
        ["allow=[evil]", "++callbacks.x._target_=evil.X"],
    ],
)
def test_the_command_in_a_record_is_not_done_where_it_would_run_code(folder, overrides):
    edit(folder, seed=7)
    file = folder / "record.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"overrides": overrides}))
    causes = run_check.check(RunFolder(RunRecord.load(folder))).causes
    assert {cause.what for cause in causes if cause.kind == "config"} == {"config.yaml (its digest)"}
    assert "evil" not in sys.modules


ODD = {
    "nothing": "",
    "a list": "- a\n- b\n",
    "a text": "hello\n",
    "nested": "a: " + "[" * 500,
    "tags": "a: !!python/object/apply:pathlib.Path [/]\n",
    "aliases": "a: &a [1,1,1]\nb: &b [" + "*a," * 99 + "]\nc: &c [" + "*b," * 99 + "]\nd: [" + "*c," * 99,
    "no UTF-8": "\udce4: 1",
    "a key twice": "a: 1\na: 2\n",
}


@pytest.mark.one_in(4, "slow")
@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
@pytest.mark.parametrize("use", USES[:5], ids=lambda use: use[0])
def test_a_configuration_that_is_none_is_one_message(folder, peftlab, text, use):
    (folder / "config.yaml").write_bytes(text.encode("utf-8", "surrogateescape"))
    interrupt(folder) if use[0] == "resume" else None
    ended = peftlab(*use)
    assert (ended[0], ended[1]) == (2, "")
    assert ended[2].startswith("error: run/config.yaml")


@pytest.mark.one_in(4, "slow")
@pytest.mark.parametrize("section", ["model", "data", "task", "peft", "optimizer", "trainer", "budget", "callbacks"])
@pytest.mark.parametrize("value", [None, [], "x", 3], ids=repr)
def test_a_section_that_is_none_is_named(folder, monkeypatch, section, value):
    edit(folder, **{section: value})
    interrupted = folder.rename("stopped")
    interrupt(interrupted)
    for use in (load, one_run.resume, reproduce):
        with pytest.raises(UserError, match=rf"stopped/config\.yaml: {section} is .*expected a section"):
            use(interrupted)


@pytest.mark.parametrize("section", ["scheduler", "task", "peft"])
def test_a_section_without_its_class_ends_in_no_traceback(folder, section, seal):
    config = plain_yaml.load((folder / "config.yaml").read_text())
    edit(folder, **{section: {name: value for name, value in config[section].items() if name != "_target_"}})
    seal(folder)
    with pytest.raises(ConfigError):
        load(folder).evaluate()  # which wants all of it; a model's answers do not hang on its schedule


def test_labels_that_are_no_list_are_refused(folder, seal):
    config = plain_yaml.load((folder / "config.yaml").read_text())
    edit(folder, data=config["data"] | {"labels": 3})
    seal(folder)
    with pytest.raises(ConfigError, match=r"^data\.labels = 3"):
        load(folder)


@pytest.mark.parametrize(("section", "key"), [("model", "source"), ("data", "source"), ("task", "selection")])
def test_a_section_within_one_too(folder, section, key, seal):
    config = plain_yaml.load((folder / "config.yaml").read_text())
    edit(folder, **{section: config[section] | {key: None}})
    seal(folder)
    with pytest.raises(ConfigError, match=rf"{section}\.{key} is missing; expected a section"):
        load(folder)


@pytest.mark.parametrize(
    "logger",
    [
        {"_target_": "lightning.pytorch.loggers.CSVLogger", "name": "../..", "version": ""},
        {"_target_": "lightning.pytorch.loggers.TensorBoardLogger", "sub_dir": "/elsewhere"},
        {"_target_": "peftlab.loggers.mlflow.MLflow", "tracking_uri": "file:///elsewhere"},
        {"_target_": "peftlab.loggers.metrics_csv.MetricsCsv", "save_dir": "/elsewhere"},
    ],
    ids=lambda logger: logger["_target_"].rpartition(".")[2],
)
def test_an_edited_logger_writes_nowhere_when_the_run_is_resumed(folder, logger):
    edit(folder, logger={"x": logger})
    interrupt(folder)
    with pytest.raises(ConfigError, match=r"^logger\.x"):
        one_run.resume(folder)


@pytest.mark.parametrize(
    "callback",
    [
        {"_target_": "peftlab.training.predictions.Predictions", "folder": "elsewhere"},
        {"_target_": "peftlab.training.trail.Trail", "path": "elsewhere", "every": 1},
        {"_target_": "lightning.pytorch.callbacks.SpikeDetection", "exclude_batches_path": "elsewhere"},
    ],
    ids=lambda callback: callback["_target_"].rpartition(".")[2],
)
def test_nor_does_an_edited_callback(folder, callback):
    edit(folder, callbacks={"x": callback})
    interrupt(folder)
    with pytest.raises(ConfigError, match=r"^callbacks\.x"):
        one_run.resume(folder)
