"""A sweep handed over as an archive: what is read of it is what was there, and what was changed on the way is named."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from tests.unit.report.sweeps import edited_record, planned

from peftlab.report.archive import write
from peftlab.report.recount import recount
from peftlab.report.study import reading
from peftlab.report.unpacking import verify


@pytest.fixture(scope="module")
def handed_over(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a sweep and its archive."""
    folder = tmp_path_factory.mktemp("archived")
    planned("ner", methods=("full", "lora"), trials=1).write(folder / "sweep")
    write([folder / "sweep"], folder / "a.zip")
    return folder


@pytest.mark.slow
def test_it_is_read_as_the_folder_is(handed_over):
    with reading([handed_over / "sweep"]) as there, reading([handed_over / "a.zip"]) as archived:
        assert archived.left_out == ()
        assert [run.record.data for run in archived.runs] == [run.record.data for run in there.runs]
        assert [run.config for run in archived.runs] == [run.config for run in there.runs]
        for one, other in zip(archived.runs, there.runs, strict=True):
            assert one.answers() == other.answers()
        assert all(run.place.startswith(f"{handed_over / 'a.zip'}: sweep/") for run in archived.runs)
    assert verify(handed_over / "a.zip").holds


@pytest.mark.slow
def test_a_record_that_was_changed_on_the_way_is_named_and_left_out(handed_over, tmp_path):
    with zipfile.ZipFile(handed_over / "a.zip") as old, zipfile.ZipFile(tmp_path / "b.zip", "w") as new:
        name = next(name for name in old.namelist() if name.endswith("record.json"))
        for each in old.namelist():
            content = old.read(each)
            new.writestr(each, content.replace(b'"value": 0.', b'"value": 0.9') if each == name else content)
    with reading([handed_over / "a.zip"]) as whole, reading([tmp_path / "b.zip"]) as study:
        assert len(study) == len(whole) - 1
        (left_out,) = study.left_out
    assert (left_out.place, left_out.reason) == (f"{tmp_path / 'b.zip'}: {name}", "is not what the manifest lists")


def test_a_score_that_was_changed_before_is_not_hidden_by_the_manifest(tmp_path):
    planned("classification", methods=("lora",), seeds=(0,), trials=0).write(tmp_path / "sweep")
    (run,) = (file.parent for file in (tmp_path / "sweep").glob("*/record.json"))

    def better(record: dict) -> None:
        for score in record["metrics"]:
            score["value"] = 0.99 if score["split"] == "test" else score["value"]

    edited_record(run, better)
    write([tmp_path / "sweep"], tmp_path / "a.zip")
    assert verify(tmp_path / "a.zip").holds  # it is what was archived
    with reading([tmp_path / "a.zip"]) as study:
        (one,) = study.runs
        told = recount(one, "test")
    assert told is not None
    assert told.scores["accuracy"] != 0.99
