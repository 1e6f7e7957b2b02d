"""Archives: what goes in, the same bytes from the same folders, what is doubtful."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from pathlib import Path

import pytest
from tests.unit.report.small_runs import make_run, make_sweep

from peftlab.errors import UserError
from peftlab.report.archive import MANIFEST, Fault, write
from peftlab.runs.find import runs_below
from peftlab.runs.record import RunRecord


def names(archive: str | Path) -> list[str]:
    with zipfile.ZipFile(archive) as opened:
        return opened.namelist()


def test_all_that_confirms_the_records_goes_in_and_nothing_else():
    sweep = make_sweep(runs=2)
    half_written = [f"report/.report.html.{2**120}", f"report/figures/.f.pdf.{2**121}"]
    for file in (*half_written, *(f"run0/{file}" for file in ("log.txt", "secrets.env", ".lock", "tracking/wandb/a"))):
        path = sweep / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    for file in ("chain.json", "stream.json"):
        (sweep / file).write_text("{}")
    written = write([sweep], "a.zip")
    run = ["adapter/labels.json", "audit.json", "compression.json", "config.yaml", "explanation.json", "fairness.json"]
    run += ["metrics.csv", "packages.txt", "predictions/test.jsonl", "record.json"]
    run += ["reproduction.json", "robustness.json", "tables/test/confusion.csv", "trail.jsonl"]
    beside = ["chain.json", "report/figures/f.svg", "report/report.html"]
    runs = [f"run{n}/{file}" for n in (0, 1) for file in run]
    expected = [*beside, *runs, "stream.json", "sweep.json", "trials.csv"]
    assert names("a.zip") == [*(f"tiny/{name}" for name in expected), MANIFEST]
    assert (written.runs, written.files, written.doubts) == (2, len(expected), ())
    assert written.bytes == Path("a.zip").stat().st_size


def test_weights_only_where_they_are_asked_for():
    make_run(Path("runs/tiny/run0"))
    write(["runs/tiny/run0"], "without.zip")
    write(["runs/tiny/run0"], "with.zip", weights=True)
    weights = {"run0/adapter/adapter_model.safetensors", "run0/checkpoints/best.safetensors"}
    assert set(names("with.zip")) - set(names("without.zip")) == weights
    with zipfile.ZipFile("with.zip") as archive:
        assert json.loads(archive.read(MANIFEST))["weights"] is True


def test_the_same_folders_give_the_same_bytes_wherever_and_whenever():
    sweep = make_sweep(runs=2)
    write([sweep], "one.zip")
    shutil.copytree(sweep, "elsewhere/sweeps/tiny")  # with other times
    for file in Path("elsewhere").rglob("*.json"):
        file.touch()
    write(["elsewhere/sweeps/tiny"], "two.zip")
    assert Path("one.zip").read_bytes() == Path("two.zip").read_bytes()


def test_several_paths_keep_their_names_and_a_run_named_twice_goes_in_once():
    make_sweep(runs=1)
    make_run(Path("runs/tiny/run0"))
    write(["sweeps/tiny", "runs/tiny", "runs/tiny/run0"], "a.zip")
    folders = {name.rpartition("/")[0] for name in names("a.zip") if name.endswith("record.json")}
    assert folders == {"sweeps/tiny/run0", "runs/tiny/run0"}
    assert len(set(names("a.zip"))) == len(names("a.zip"))


def test_a_report_that_lies_elsewhere_goes_in_when_it_is_named():
    make_sweep(runs=1)
    for file in ("report.html", "report.json", "figures/one.svg", "notes.txt"):
        Path("mine", file).parent.mkdir(parents=True, exist_ok=True)
        Path("mine", file).write_text(file)
    write(["sweeps/tiny", "mine"], "a.zip")
    assert [name for name in names("a.zip") if name.startswith("mine/")] == [
        *("mine/figures/one.svg", "mine/report.html", "mine/report.json")
    ]
    with pytest.raises(UserError, match=r"mine: there is no run in what was named"):
        write(["mine"], "b.zip")


def test_what_is_unpacked_is_found_as_a_run_is():
    write([make_sweep(runs=2)], "a.zip")
    zipfile.ZipFile("a.zip").extractall("out")
    rows = runs_below("out")
    assert sorted(Path(row["folder"]).name for row in rows) == ["run0", "run1"]
    assert not any("error" in row for row in rows)


def test_the_start_of_an_id_names_a_run():
    make_run(Path("runs/tiny/3f9c2a71d0be"))
    write(["3f9c"], "a.zip")
    assert "3f9c2a71d0be/record.json" in names("a.zip")


def test_what_is_not_as_the_record_says_goes_in_with_a_word():
    folder = make_run(Path("runs/tiny/run0"))
    (folder / "predictions/test.jsonl").write_text('{"id": "test:0", "predicted": "better"}\n')
    written = write([folder], "a.zip")
    assert written.doubts == (
        Fault("run0/predictions/test.jsonl", "is not what run0/record.json lists: it was changed after the run"),
    )


def test_what_a_record_lists_and_is_gone_is_told_in_a_line():
    folder = make_run(Path("runs/tiny/run0"))
    for file in ("predictions/test.jsonl", "trail.jsonl", "adapter/adapter_model.safetensors"):
        (folder / file).unlink()
    assert write([folder], "a.zip").doubts == (
        Fault("run0/record.json", "lists files that are gone, 2 of them, such as predictions/test.jsonl"),
    )


def test_damaged_and_unfinished_runs_go_in_with_a_word():
    sweep = make_sweep(runs=1)
    (make_run(sweep / "broken") / "record.json").write_text('{"schema_version": 1, "sta')
    running = RunRecord.load(make_run(sweep / "running"))
    running.resume(step=1)
    written = write([sweep], "a.zip")
    (broken, alive) = written.doubts
    assert broken.member == "tiny/broken/record.json"
    assert "is damaged" in broken.what
    assert alive == Fault("tiny/running/record.json", "says that the run is still running, or it was killed")
    assert {"tiny/broken/record.json", "tiny/broken/predictions/test.jsonl", "tiny/running/config.yaml"} <= set(
        names("a.zip")
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_cannot_be_read_is_named():
    folder = make_run(Path("runs/tiny/run0"))
    (folder / "metrics.csv").chmod(0)
    with pytest.raises(UserError, match=r"metrics\.csv' cannot be read: Permission denied"):
        write([folder], "a.zip")
    assert not Path("a.zip").exists()


def test_nothing_is_read_through_links():
    folder = make_run(Path("runs/tiny/run0"))
    Path("secret").mkdir()
    Path("secret/test.jsonl").write_text("{}")
    shutil.rmtree(folder / "predictions")
    (folder / "predictions").symlink_to(Path("secret").absolute())
    (folder / "metrics.csv").unlink()
    (folder / "metrics.csv").symlink_to(Path("secret/test.jsonl").absolute())
    written = write([folder], "a.zip")
    assert [fault.member for fault in written.doubts] == ["run0/metrics.csv", "run0/predictions/test.jsonl"]
    assert all("left out" in fault.what for fault in written.doubts)
    assert not {fault.member for fault in written.doubts} & set(names("a.zip"))


@pytest.mark.parametrize(
    ("paths", "out", "message"),
    [
        (["empty"], "a.zip", "holds no run: there is no record.json in it"),
        (["zzz"], "a.zip", "'zzz' is neither a run folder nor the start of a run's id"),
        (["runs/tiny/run0"], "a.tar", "an archive is a zip file"),
        (["runs/tiny/run0"], "there.zip", "'there.zip' is there already"),
    ],
)
def test_mistakes_are_one_message_and_leave_nothing(paths, out, message):
    make_run(Path("runs/tiny/run0"))
    Path("empty").mkdir()
    Path("there.zip").write_text("mine")
    with pytest.raises(UserError, match=message):
        write(paths, out)
    assert sorted(path.name for path in Path().iterdir() if not path.name.startswith(".")) == [
        *("empty", "runs", "there.zip")
    ]
    assert Path("there.zip").read_text() == "mine"
