"""Finding runs, and the table of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from peftlab.errors import UserError
from peftlab.runs.find import find, runs_below
from peftlab.runs.record import RunRecord


@pytest.fixture
def make():
    """Make the folder of a run with a record."""

    def run(folder: str, started: str = "2026-01-01T00:00:00.000+00:00", score: float = 0.5) -> Path:
        path = Path(folder)
        path.mkdir(parents=True)
        record = RunRecord.start(path, run_id="x", name=path.parent.name, command=[], overrides=[], identity={})
        record.update(
            selection={"metric": "entity_f1"}, method={"trainable_parameters": 1234}, cost={"wall_seconds": 7}
        )
        record.add_metric("entity_f1", "validation", score, "best", "a scorer")
        record.add_metric("entity_f1/PER", "test", 1.0, "best", "a scorer")
        record.data["started_at"] = started
        record.finish("completed")
        return path

    return run


class TestFind:
    @pytest.fixture(autouse=True)
    def _runs(self, make):
        for folder in ("runs/ner_lora/3f9c2a71d0be", "runs/ner_lora/3f9c2a71d0be-2", "sweeps/lr/41aa00000000"):
            make(folder)
        make("elsewhere/mine")

    @pytest.mark.parametrize(
        ("run", "folder"),
        [
            ("elsewhere/mine", "elsewhere/mine"),
            ("runs/ner_lora/3f9c2a71d0be", "runs/ner_lora/3f9c2a71d0be"),
            ("3f9c2a71d0be", "runs/ner_lora/3f9c2a71d0be"),
            ("3f9c2a71d0be-", "runs/ner_lora/3f9c2a71d0be-2"),
            ("41", "sweeps/lr/41aa00000000"),
        ],
    )
    def test_a_folder_or_the_start_of_an_id(self, run, folder):
        assert find(run) == Path(folder)

    @pytest.mark.parametrize(
        ("run", "message"),
        [
            ("3f9", "could be 2 runs: runs/ner_lora/3f9c2a71d0be, runs/ner_lora/3f9c2a71d0be-2"),
            ("42aa00000000", "neither a run folder nor the start of a run's id.*Did you mean '41aa00000000'"),
            ("zzz", "There are: runs/ner_lora/3f9c2a71d0be, "),
            ("runs/ner_lora", "has no record.json. Runs in it: runs/ner_lora/3f9c2a71d0be, "),
        ],
    )
    def test_none_or_several_is_an_error_that_lists_what_is_near(self, run, message):
        with pytest.raises(UserError, match=message) as error:
            find(run)
        assert "\n" not in str(error.value)


def test_without_any_run():
    with pytest.raises(UserError, match="hold no run"):
        find("3f9c")
    assert runs_below() == []


class TestTable:
    def test_the_newest_comes_first(self, make):
        make("runs/a/111", "2026-01-01T00:00:00.000+00:00", 0.25)
        make("sweeps/b/222", "2026-01-03T00:00:00.000+00:00")
        make("runs/c/333", "2026-01-02T00:00:00.000+00:00")
        rows = runs_below()
        assert [row["id"] for row in rows] == ["222", "333", "111"]
        assert rows[2] == {
            "folder": "runs/a/111",
            "id": "111",
            "name": "a",
            "status": "completed",
            "metric": "entity_f1",
            "validation": 0.25,
            "test": None,
            "trainable_parameters": 1234,
            "wall_seconds": 7,
            "started_at": "2026-01-01T00:00:00.000+00:00",
        }

    def test_every_id_is_one_that_is_found(self, make):
        make("runs/a/111")
        make("elsewhere/deep/down/222")
        rows = [*runs_below(), *runs_below("elsewhere")]
        assert len(rows) == 2
        assert all(find(row["id"]) == Path(row["folder"]) for row in rows)

    @pytest.mark.parametrize(
        "text",
        ["{", "[]", '{"schema_version": 99}', '{"schema_version": 1}', '{"schema_version": 1, "selection": null}'],
    )
    def test_a_broken_record_is_a_row_that_says_so(self, make, text):
        make("runs/a/111")
        Path("runs/a/222").mkdir()
        Path("runs/a/222/record.json").write_text(text)
        good, broken = runs_below()
        assert good["id"] == "111"
        assert broken.keys() == {"folder", "id", "error"}
        assert "222/record.json" in broken["error"]

    def test_a_run_that_has_just_begun_is_listed(self):
        Path("runs/a/111").mkdir(parents=True)
        RunRecord.start(Path("runs/a/111"), run_id="x", name="a", command=[], overrides=[], identity={})
        (row,) = runs_below()
        assert (row["status"], row["metric"], row["validation"]) == ("running", None, None)
        json.dumps(row)

    def test_a_folder_that_is_not_there(self):
        with pytest.raises(UserError, match="'nowhere' is no folder"):
            runs_below("nowhere")
