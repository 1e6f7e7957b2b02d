"""The report of a sweep: there, or a warning."""

from __future__ import annotations

import logging

from tests.unit.report.sweeps import planned

from peftlab.report import written
from peftlab.sweep.reporting import report_on


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
