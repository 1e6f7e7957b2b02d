"""metrics.csv of a resumed run."""

from __future__ import annotations

import pytest

from peftlab.loggers.metrics_csv import MetricsCsv


def logger_of(folder, steps=()):
    logger = MetricsCsv(folder)
    for step in steps:
        logger.log_metrics({"train/loss": 0.5 + step, **({"f1": 0.25} if step == 2 else {})}, step)
    return logger


def test_later_rows_are_logged_again(tmp_path):
    whole = logger_of(tmp_path, range(4)).path.read_bytes()
    resumed = logger_of(tmp_path)
    resumed.load_state_dict({"rows": 3})
    resumed.log_metrics({"train/loss": 3.5}, 3)
    assert resumed.path.read_bytes() == whole


@pytest.mark.parametrize(("left", "rows"), [(-4, 3), (30, 1), (5, 0), (None, 0)], ids=["row", "rows", "header", "gone"])
def test_a_file_that_was_cut_is_told_of_and_goes_on_after_what_is_left(tmp_path, left, rows):
    path = logger_of(tmp_path, range(4)).path
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(path.read_bytes()[:left]) if left else path.unlink()
    resumed = logger_of(tmp_path)
    with pytest.raises(ValueError, match=f"has {rows} of the 4 rows that the run had logged"):
        resumed.load_state_dict({"rows": 4})
    assert resumed.state_dict() == {"rows": rows}
    resumed.log_metrics({"train/loss": 4.5}, 4)
    assert path.read_bytes().splitlines()[-1].endswith(b"4.5")
    assert path.read_bytes().startswith(b"".join(lines[: rows + 1]) if rows else b"")
