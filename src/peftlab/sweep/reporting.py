"""The report that a finished sweep ends with, and whether it shows what the records say now."""

from __future__ import annotations

import logging
from pathlib import Path

from peftlab.runs.environment import code_state
from peftlab.runs.record import FILE_NAME
from peftlab.storage.digests import sha256_of

log = logging.getLogger("peftlab")

ENSEMBLE = "ensemble"
"""The folder, in that of a sweep, of ensembles of its runs."""


def state_of(sweep: Path, price_per_device_hour: float | None = None) -> str:
    """Return a digest of what a report of the sweep depends on: the code, the price, and the files of the runs.

    These are the records and what was found out later and lies beside them, such as verdicts and robustness.

    A file counts by its size and the time of its last change.
    """
    places = (f"*/{FILE_NAME}", f"{ENSEMBLE}/*/{FILE_NAME}")
    runs = sorted(file.parent for place in places for file in sweep.glob(place))
    files = [(f"{run.name}/{file.name}", file.stat()) for run in runs for file in sorted(run.glob("*.json"))]
    records = [[name, state.st_size, state.st_mtime_ns] for name, state in files]
    return sha256_of([code_state(), price_per_device_hour, records])


def page_of(sweep: Path) -> Path | None:
    """Return the page of the sweep's report; None if it has none."""
    from peftlab.report.written import FILES, REPORT

    page = sweep / REPORT / FILES[0]
    return page if page.is_file() else None


def report_on(sweep: Path, price_per_device_hour: float | None = None) -> Path | None:
    """Write the report of the runs in the folder of a sweep, and return its page; None if that fails.

    The sweep is worth more than its report: what goes wrong is a warning.
    """
    try:
        from peftlab.report.analysis.options import Options
        from peftlab.report.study import reading
        from peftlab.report.written import REPORT, write

        with reading([sweep]) as study:
            written = write(study, Options(price_per_device_hour=price_per_device_hour), sweep / REPORT)
    except Exception as error:  # noqa: BLE001  # whatever it is
        message = str(error).strip().splitlines() or [type(error).__name__]
        log.warning("no report could be written: %s; try peftlab report %s", message[0], sweep)
        return None
    return written.page
