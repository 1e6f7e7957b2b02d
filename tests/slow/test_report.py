"""The command `peftlab report` as a whole: its files, archives, and the same bytes whatever the folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.report.sweeps import planned

from peftlab.report import archive

pytestmark = pytest.mark.slow


def report(*arguments: object, code: int = 0) -> str:
    command = [sys.executable, "-X", "importtime", "-m", "peftlab", "report", *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    assert ended.returncode == code, ended.stderr[-2000:]
    imported = {
        line.rpartition("|")[2].strip() for line in ended.stderr.splitlines() if line.startswith("import time:")
    }
    assert not imported & {"torch", "transformers", "lightning", "peft"}
    return ended.stdout if code == 0 else ended.stderr


def files(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


@pytest.mark.exhaustive
def test_the_files_are_the_same_from_the_folder_and_from_an_archive_of_it_elsewhere(tmp_path):
    sweep = planned(methods=("full", "lora"), trials=3).write(tmp_path / "sweep")
    out = report(sweep, "--price", "2")
    assert out.endswith(f"report: {sweep / 'report' / 'report.html'}\n")
    one = files(sweep / "report")
    assert {"report.html", "report.md", "report.tex", "report.json"} <= set(one)
    assert {Path(name).suffix for name in one if name.startswith("figures/")} == {".svg", ".pdf", ".png"}

    shutil.copytree(sweep, tmp_path / "elsewhere")
    archive.write([tmp_path / "elsewhere"], tmp_path / "sweep.zip")
    printed = json.loads(report(tmp_path / "sweep.zip", "--price", "2", "--out", tmp_path / "two", "--json"))
    assert files(tmp_path / "two") == one
    assert printed["comparisons"] == json.loads(one["report.json"])["comparisons"]


def test_what_is_not_there_is_one_message(tmp_path):
    assert "a run is a folder with a record.json" in report(tmp_path, code=2)
    sweep = planned().write(tmp_path / "sweep")
    assert "no group has that name" in report(sweep, "--baseline", "none", code=2)
    assert not (sweep / "report").exists()
