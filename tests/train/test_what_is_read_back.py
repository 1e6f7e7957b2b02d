"""Labels that look like secrets: a run, and whatever is made of it, has them as they are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from peftlab.errors import ConfigError
from peftlab.masking.mask import mask, mask_settings
from peftlab.runs.folder import RunFolder
from peftlab.runs.record import RunRecord
from peftlab.use.finished import load

pytestmark = pytest.mark.slow

LABELS = ["billing: refund", "password: change", "password: reset", "postgres-and-others"]


@pytest.fixture(scope="module")
def odd_run(run_tiny, tmp_path_factory):
    """A finished run on such labels, whose columns and folder look like secrets, too; tests only read it."""
    folder = tmp_path_factory.mktemp("token=v2ready")
    words = ["moved", "hired", "report", "nothing"]
    for name, count in {"train": 32, "dev": 8, "test": 8}.items():
        rows = [f'"the {words[n % 4]} one in paris",{LABELS[n % 4]}' for n in range(count)]
        (folder / f"{name}.csv").write_text("\n".join(["secret: text,password: label", *rows]) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PEFTLAB_CACHE", str(folder / "cache"))
        patch.setenv("POSTGRES_PASSWORD", LABELS[-1])
        patch.setenv("APP_PASSWORD", "completed")
        return run_tiny(
            *("task=classification", "data=csv", f"data.path='{folder}'", f"run_dir='{folder / 'run'}'"),
            *("data.format.text='secret: text'", "data.format.label='password: label'"),
            *("budget.max_steps=2", "logger=[csv,tensorboard]"),
        )


def test_its_files(odd_run):
    folder = RunFolder(odd_run)
    config = folder.read_config()
    assert config["data"]["labels"] == LABELS
    assert config["data"]["format"]["label"] == "password: label"
    assert config["data"]["source"]["path"] == str(odd_run.folder.parent)
    kept = RunRecord.load(odd_run.folder).data
    assert (kept["status"], kept["data"]["labels"]) == ("completed", LABELS)
    assert {f"f1/{label}" for label in LABELS} <= {metric["name"] for metric in kept["metrics"]}
    assert not [event for event in kept["history"] if any("****" in str(part) for part in event.items())]
    for name in ("log.txt", "tables/validation/classes.csv"):
        text = (odd_run.folder / name).read_text()
        assert all(label in text for label in LABELS), name
        assert "****" not in text, name


def test_masking_leaves_what_a_run_writes_as_it_is(finished):
    folder = finished.folder
    for name in ("record.json", "config.yaml", "log.txt", "packages.txt", "trail.jsonl", "metrics.csv"):
        text = (folder / name).read_text()
        assert mask(text) == text, name
    config = RunFolder(finished).read_config()
    assert mask_settings(config) == mask(config) == config
    record = json.loads((folder / "record.json").read_text())
    assert mask(record) == record


def test_what_is_made_of_it(odd_run, peftlab, tmp_path):
    code, out, _ = peftlab("evaluate", odd_run.folder, "--json")
    scores = json.loads(out)["scores"]
    assert code == 0
    assert {f"f1/{label}" for label in LABELS} <= {score["name"] for score in scores}
    assert all(score["value"] == score["recorded"] for score in scores)
    code, out, _ = peftlab("predict", odd_run.folder, "the hired one in paris", "--json")
    assert code == 0
    assert json.loads(out.splitlines()[0])["predicted"] in LABELS
    exported = load(odd_run.folder).export(tmp_path / "exported")
    assert list(json.loads((exported.folder / "config.json").read_text())["label2id"]) == LABELS
    code, out, _ = peftlab("reproduce", odd_run.folder, "--json")
    verdict = json.loads(out)
    assert (code, verdict["verdict"]) == (0, "identical")
    assert "****" not in (odd_run.folder / "reproduction.json").read_text()


def test_a_run_whose_labels_an_older_version_has_masked(odd_run, tmp_path, peftlab):
    old = tmp_path / "old"
    shutil.copytree(odd_run.folder, old)
    text = (odd_run.folder / "config.yaml").read_text()
    (old / "config.yaml").write_text(text.replace("change", "****").replace("reset", "****"))
    told = f"{old}/config.yaml: 'data.labels' was masked as a secret. Write its value there"
    for use in (lambda: load(old), lambda: RunFolder(RunRecord.load(old)).read_config()):
        with pytest.raises(ConfigError, match=r"data\.labels"):
            use()
    for command in (["predict", old, "text"], ["evaluate", old], ["export", old, tmp_path / "out"]):
        code, _, err = peftlab(*command)
        assert (code, told in err, "Traceback" in err) == (2, True, False), command
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("data", "train.csv has changed since: its digest was "),
        ("config", "budget.max_steps was 2 and is 3"),
        ("nothing", "is finished: there is nothing to resume"),
    ],
)
def test_what_keeps_a_run_from_being_resumed_is_named(odd_run, tmp_path, peftlab, change, told):
    run, data = tmp_path / "run", tmp_path / "data"
    shutil.copytree(odd_run.folder, run)
    shutil.copytree(odd_run.folder.parent, data, ignore=shutil.ignore_patterns("run", "cache"))
    config = (run / "config.yaml").read_text().replace(str(odd_run.folder.parent), str(data))
    record = json.loads((run / "record.json").read_text())
    if change == "data":
        with (data / "train.csv").open("a") as file:
            file.write('"one more was moved",password: reset\n')
    if change == "config":
        config = config.replace("max_steps: 2", "max_steps: 3")
        told = f"{run}/config.yaml has changed since the run began"
    if change != "nothing":
        record["status"] = "interrupted"
    (run / "config.yaml").write_text(config)
    (run / "record.json").write_text(json.dumps(record))
    code, _, err = peftlab("resume", run)
    assert (code, told in err, "leave existing" in err) == (2, True, False), err
