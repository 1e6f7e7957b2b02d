"""The report of a sweep: there, or a warning."""

from __future__ import annotations

import logging
import os

import pytest
from tests.unit.report.sweeps import planned

from peftlab.report import written
from peftlab.sweep.reporting import page_of, report_on, state_of


def test_a_report_that_fails_is_a_warning(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(logging.getLogger("peftlab"), "propagate", True)
    assert report_on(tmp_path) is None
    assert "no report could be written: no run in" in caplog.text

    folder = planned(methods=("lora",), seeds=(0,)).write(tmp_path / "sweep")
    asked = []

    def write(study, options, out):
        asked.append((len(study), options.price_per_device_hour, out))
        return written.Written(out, (), None)

    monkeypatch.setattr(written, "write", write)
    assert report_on(folder, 2.5) == folder / "report" / "report.html"
    assert asked == [(1, 2.5, folder / "report")]

    def breaks(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(written, "write", breaks)
    assert report_on(folder) is None
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.slow
def test_a_state_is_that_of_the_records_and_the_price(tmp_path):
    folder = planned(methods=("lora",), seeds=(0, 1)).write(tmp_path / "sweep")
    before = state_of(folder, 2.5)
    assert state_of(folder, 2.5) == before
    (folder / "sweep.json").touch()
    assert state_of(folder, 2.5) == before
    assert state_of(folder) != before
    record = next(folder.glob("*/record.json"))
    os.utime(record, (1, 1))
    assert state_of(folder, 2.5) != before


def test_the_page_of_a_report_is_what_is_there(tmp_path):
    assert page_of(tmp_path) is None
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "report.html").touch()
    assert page_of(tmp_path) == tmp_path / "report" / "report.html"
