"""What a record may hold: everything else is refused when it is loaded, in one message that says where."""

from __future__ import annotations

import copy
import json
import os
import tarfile
from functools import reduce
from pathlib import Path
from typing import Any

import pytest

from peftlab.errors import UserError
from peftlab.reading.json_form import parsed
from peftlab.runs.find import runs_below
from peftlab.runs.identity import identity, run_id_of
from peftlab.runs.record import MOST_BYTES, RunRecord
from peftlab.runs.record_form import check
from peftlab.storage.digests import sha256_of

COMMITTED = Path(__file__).parents[3] / "experiments" / "method_axis" / "records.tar.xz"


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> dict[str, Any]:
    """Return a record with something in every list."""
    folder = tmp_path_factory.mktemp("good")
    config = {"lr": 0.1}
    run = RunRecord.start(
        folder, run_id="x", name="a", command=["train"], overrides=[], identity=identity(config, {"train": "a"}, "b")
    )
    run.add_metric("f1", "test", float("nan"), "best", "a scorer")
    run.event("validated", step=1, of=2, f1=0.5)
    run.event("out of memory", stage="training", positions=7)
    (folder / "x").touch()
    run.add_file("x")
    run.finish("failed", ValueError("no"))
    check(parsed((folder / "record.json").read_text()))
    return json.loads((folder / "record.json").read_text())


def changed(record: dict[str, Any], key: str, value: Any) -> str:
    """Return the JSON of `record` with `value` at a dotted key, or without it where `value` is `...`."""
    record = copy.deepcopy(record)
    *outer, last = [int(part) if part.isdigit() else part for part in key.split(".")]
    node = reduce(lambda node, part: node[part], outer, record)
    node[last] = value
    if value is ...:
        del node[last]
    return json.dumps(record)


WRONG = [
    ("schema_version", 0, "it has no schema_version"),
    ("schema_version", -1, "it has no schema_version"),
    ("schema_version", True, "it has no schema_version"),
    ("schema_version", 10**9, "Upgrade"),
    ("started_at", 5, r"started_at: expected a time such as 2026-01-31T12:00:00\+00:00, not 5"),
    ("started_at", "yesterday", 'started_at: expected a time such as .*, not "yesterday"'),
    ("started_at", "0000-01-01", "started_at: expected a time"),
    ("ended_at", [], r"ended_at: expected a time such as .*, not \[\]"),
    ("status", "done", "status: expected one of running, completed, failed, interrupted, pruned, not 'done'"),
    ("status", None, "status: expected a text, not null"),
    ("identity", None, "identity: expected keys and values, not null"),
    ("identity", [1], r"identity: expected keys and values, not \[1\]"),
    ("identity.sha256", {"a": 1}, "identity.sha256: expected a text"),
    ("identity.data_sha256", "abc", "identity.data_sha256: expected keys and values"),
    ("identity.data_sha256.train", 7, "identity.data_sha256.train: expected a text, not 7"),
    ("environment", ..., "environment is missing"),
    ("environment.threads", "two", 'environment.threads: expected a whole number, not "two"'),
    ("environment.threads", 1.5, "environment.threads: expected a whole number"),
    ("environment.threads", True, "environment.threads: expected a whole number, not true"),
    ("environment.seeds", [0], "environment.seeds: expected keys"),
    ("code", {}, "code.version is missing"),
    ("cost.wall_seconds", "fast", 'cost.wall_seconds: expected a number, not "fast"'),
    ("cost.wall_seconds", 10**400, "cost.wall_seconds: expected a number"),
    ("cost.steps", 2**64, "cost.steps: expected a whole number"),
    ("metrics", {}, "metrics: expected a list, not {}"),
    ("metrics", None, "metrics: expected a list, not null"),
    ("metrics.0", "f1", "metrics.0: expected keys and values"),
    ("metrics.0.value", "high", "metrics.0.value: expected a number"),
    ("metrics.0.split", ..., "metrics.0.split is missing"),
    ("metrics.0.scorer", ..., "metrics.0.scorer is missing"),
    ("selection", [], "selection: expected keys and values"),
    ("selection.value", "0.5", "selection.value: expected a number"),
    ("method.trainable_parameters", "many", "method.trainable_parameters: expected a whole number"),
    ("history", "long", "history: expected a list"),
    ("history.0.at", "once", "history.0.at: expected a time"),
    ("history.0.event", None, "history.0.event: expected a text, not null"),
    ("history.1.step", ..., "history.1.step is missing"),
    ("history.2.stage", ..., "history.2.stage is missing"),
    ("files.0.path", "/etc/passwd", "files.0.path: expected a path within the run folder"),
    ("files.0.path", "../other/record.json", "files.0.path: expected a path within the run folder"),
    ("files.0.sha256", ..., "files.0.sha256 is missing"),
    ("data.labels", {"a": 1}, "data.labels: expected a list"),
    ("data.labels", [1], "data.labels.0: expected a text"),
    ("data.splits", {"train": 3}, "data.splits.train: expected keys and values, not 3"),
    ("command", "train", "command: expected a list"),
    ("error", "bad luck", "error: expected keys and values"),
    ("error.type", 3, "error.type: expected a text"),
    ("overrides", ..., "overrides is missing"),
]


def test_another_form_is_refused_and_said_where(good, tmp_path):
    for key, value, told in WRONG:
        (tmp_path / "record.json").write_text(changed(good, key, value))
        with pytest.raises(UserError, match=told) as refused:
            RunRecord.load(tmp_path)
        assert str(refused.value).startswith(f"'{tmp_path}/record.json' "), key
        assert len(str(refused.value)) < 400, key


DEEP = 10**5
BROKEN: list[tuple[bytes, str]] = [
    (b'{"schema_version": 1}', "is missing"),
    (b'{"schema_version": 1, "a": ' + b"[" * DEEP + b"]" * DEEP + b"}", "it is nested too deeply"),
    (b'{"schema_version": 1, "a": ' + b"[" * 50 + b"]" * 50 + b"}", "it is nested too deeply"),
    (b'{"schema_version": 1, "schema_version": 1}', "'schema_version' stands there twice"),
    (b'{"schema_version": 1, "cost": NaN}', "NaN is no JSON"),
    (b'{"schema_version": 1, "cost": -Infinity}', "-Infinity is no JSON"),
    (b'{"schema_version": ' + b"9" * 5000 + b"}", "digits"),
    (b"\xef\xbb\xbf{}", "BOM"),
    (b"\x00\x01\x02\xff", "is not a run record"),
    (b"", "Expecting value"),
    (b"null", "it has no schema_version"),
]


@pytest.mark.parametrize(("content", "told"), BROKEN, ids=[told for _, told in BROKEN])
def test_what_is_no_record_at_all_is_refused(tmp_path, content, told):
    (tmp_path / "record.json").write_bytes(content)
    with pytest.raises(UserError, match=told):
        RunRecord.load(tmp_path)


def test_what_is_no_file_or_a_huge_one_is_refused(tmp_path):
    file = tmp_path / "record.json"
    file.touch()
    os.truncate(file, MOST_BYTES + 1)
    with pytest.raises(UserError, match=r"is not a run record: it has 67,108,865 bytes, more than 67,108,864"):
        RunRecord.load(tmp_path)
    file.unlink()
    file.mkdir()
    with pytest.raises(UserError, match=r"is not a run record: .*Is a directory"):
        RunRecord.load(tmp_path)
    file.rmdir()
    os.mkfifo(file)
    with pytest.raises(UserError, match="is a named pipe, and no file of a run"):
        RunRecord.load(tmp_path)
    file.unlink()
    file.symlink_to("/dev/zero")
    with pytest.raises(UserError, match="leads out of the run folder"):
        RunRecord.load(tmp_path)


def test_what_a_later_version_adds_is_borne(good, tmp_path):
    more = {**good, "new": {"a": [1, None]}, "cost": {**good["cost"], "new": "x"}}
    (tmp_path / "record.json").write_text(json.dumps(more))
    assert RunRecord.load(tmp_path).data == more


@pytest.mark.skipif(not COMMITTED.exists(), reason="the repository's experiments are not here")
def test_every_committed_record_has_the_form_and_its_identity():
    with tarfile.open(COMMITTED) as records:
        texts = [records.extractfile(member).read() for member in records if member.name.endswith("record.json")]
    assert len(texts) == 318
    for text in texts:
        record = parsed(text.decode())
        check(record)
        parts = {key: record["identity"][key] for key in ("config_sha256", "data_sha256", "weights_sha256")}
        assert sha256_of(parts) == record["identity"]["sha256"]
        assert run_id_of(record["identity"]) == record["run_id"]


def test_none_of_them_keeps_the_table_of_runs_from_showing_the_others(good, peftlab_runs):
    contents = [changed(good, key, value).encode() for key, value, _ in WRONG] + [content for content, _ in BROKEN]
    for number, content in enumerate([json.dumps(good).encode(), *contents]):
        folder = Path("runs") / "a" / f"{number:03d}"
        folder.mkdir(parents=True)
        (folder / "record.json").write_bytes(content)
    rows = runs_below()
    assert [row["id"] for row in rows if "error" not in row] == ["000"]
    assert all(row.keys() == {"folder", "id", "error"} for row in rows[1:])
    shown = peftlab_runs()
    assert shown.splitlines()[1].startswith("000  a     failed")
    assert shown.count(": broken: ") == len(contents)


@pytest.fixture
def peftlab_runs(capsys):
    """Return what ``peftlab runs`` prints."""
    from peftlab import cli

    def run() -> str:
        assert cli.main(["runs"]) == 0
        return capsys.readouterr().out

    return run
