"""How a sweep stands."""

from __future__ import annotations

import csv
import json

import pytest

from peftlab.errors import UserError
from peftlab.sweep import board as boards
from peftlab.sweep.board import Trial, read
from peftlab.sweep.ledger import SELECTION


@pytest.fixture
def standing(board):
    board.trials = [
        Trial(["lr=0.1"], {}, "a", "s/a", "completed", "f1", 0.5, 0.4, [0.5], 40, 40, seconds=100.0, devices=0.5),
        Trial(["lr=0.2"], {"phase": "search"}, "b", "s/b", "running", "f1", 0.7, None, [], 10, 40, seconds=50.0),
        Trial(["lr=0.3", "peft=head"], {}, "c", "s/c", "failed", error="OutOfMemoryError: a, b"),
    ]
    return board


def test_the_summary_counts_compares_and_adds_up(standing):
    standing.total, standing.price_per_device_hour = 5, 36.0
    found = standing.summary()
    assert found["counts"] == {"completed": 1, "running": 1, "failed": 1}
    assert found["best"] == {"run_id": "a", "value": 0.5, "overrides": ["lr=0.1"]}
    assert found["device_hours"] == pytest.approx(100 / 3600)
    assert found["money"] == pytest.approx(1.0)
    # of five, two are over and a quarter of one; each takes 100 s, and two run at a time
    assert found["eta_seconds"] == pytest.approx(2.75 * 100 / 2)


def test_the_least_is_best_where_less_is_better(standing):
    standing.objectives = {SELECTION: "min"}
    standing.trials.append(Trial([], {}, "d", "s/d", "completed", values=[0.1]))
    assert standing.summary()["best"]["run_id"] == "d"
    standing.objectives = {SELECTION: "max", "cost.wall_seconds": "min"}
    assert standing.summary()["best"] is None  # of two, no single one is the best


def test_the_time_left_is_estimated_before_any_trial_has_ended_and_unknown_without_a_total(standing):
    standing.trials, standing.estimate_seconds = [], 60.0
    assert standing.summary()["eta_seconds"] == pytest.approx(3 * 60 / 2)
    standing.total = None
    assert standing.summary()["eta_seconds"] is None


def test_trials_kept_from_before_say_nothing_of_the_time_left(standing):
    standing.trials[0].kept, standing.estimate_seconds = True, 10.0
    assert standing.summary()["eta_seconds"] == pytest.approx(0.75 * 10 / 2)


def test_the_table_has_a_column_for_every_key(standing):
    standing.write()
    rows = list(csv.DictReader((standing.folder / "trials.csv").open()))
    assert [row["run_id"] for row in rows] == ["a", "b", "c"]
    assert [row["lr"] for row in rows] == ["0.1", "0.2", "0.3"]
    assert [row["peft"] for row in rows] == ["", "", "head"]
    assert [row["phase"] for row in rows] == ["", "search", ""]
    assert rows[2]["error"] == "OutOfMemoryError: a, b"
    assert rows[0]["test"] == "0.4"


def test_no_secret_reaches_a_file(standing):
    standing.trials[0].overrides = ["api_key=verysecret"]
    standing.write()
    for name in ("sweep.json", "trials.csv"):
        assert "verysecret" not in (standing.folder / name).read_text()


def test_a_sweep_whose_controller_has_died_is_told(standing, monkeypatch):
    standing.write()
    monkeypatch.setattr(boards, "is_locked", lambda folder: True)
    assert read(standing.folder)["status"] == "running"
    monkeypatch.setattr(boards, "is_locked", lambda folder: False)
    assert read(standing.folder)["status"] == "gone"
    standing.status = "completed"
    standing.end()
    assert read(standing.folder)["status"] == "completed"


def test_a_sweep_is_found_by_name_or_folder(standing, monkeypatch, tmp_path):
    standing.folder = tmp_path / "sweeps" / "tiny"
    standing.write()
    monkeypatch.chdir(tmp_path)
    assert boards.find("tiny") == boards.find("sweeps/tiny").relative_to(".")
    with pytest.raises(UserError, match="Those below sweeps/: tiny"):
        boards.find("tony")


def test_what_is_no_sweep_is_said_to_be_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="There is none below sweeps/"):
        boards.find("x")
    with pytest.raises(UserError, match="is no sweep"):
        read(tmp_path)
    (tmp_path / "sweep.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        read(tmp_path)


def test_w_and_b_knows_a_sweep_by_the_same_id_when_it_goes_on(standing, tmp_path):
    assert boards.told(tmp_path) == (None, {})
    standing.tracked = "abc"
    standing.write()
    assert boards.told(tmp_path) == ("abc", {})
    assert json.loads((tmp_path / "sweep.json").read_text())["schema_version"] == 1


def with_entry(document: dict, key: str, value: object) -> dict:
    node = document
    *outer, last = key.split(".")
    for part in outer:
        node = node[int(part) if part.isdigit() else part]
    node[last] = value
    return document


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("trials", {}),
        ("trials.0.state", "resting"),
        ("trials.0.overrides", "lr=1"),
        ("trials.0.score", "high"),
        ("trials.0.seconds", None),
        ("summary", []),
        ("summary.counts", 3),
        ("summary.best", {"value": 1}),
        ("summary.device_hours", "1"),
        ("objectives", "max"),
        ("results", [1]),
        ("results", [{"method": "a"}, {"other": "b"}]),
        ("results", [{"f1": "high", "f1 SD": 0.1}]),
        ("status", None),
    ],
)
def test_a_file_of_another_form_is_told_in_one_message(standing, key, value):
    standing.write()
    file = standing.folder / "sweep.json"
    document = json.loads(file.read_text())
    assert read(standing.folder)["name"]
    file.write_text(json.dumps(with_entry(document, key, value)))
    with pytest.raises(
        UserError, match=r"sweep\.json' cannot be read: .*\. The command of the sweep writes it anew\.$"
    ):
        read(standing.folder)


@pytest.mark.parametrize("content", [b"[]", b"{}", b"null", b"[" * 10**5, b"\xff\x00", b'{"a": 1, "a": 2}', b""])
def test_what_is_no_document_is_told_and_keeps_no_sweep_from_going_on(standing, content):
    standing.folder.mkdir(exist_ok=True)
    (standing.folder / "sweep.json").write_bytes(content)
    with pytest.raises(UserError, match=r"sweep\.json' cannot be read: "):
        read(standing.folder)
    assert boards.told(standing.folder) == (None, {})
