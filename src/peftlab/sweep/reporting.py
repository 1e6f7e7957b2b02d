"""The report that a finished sweep ends with."""

from __future__ import annotations

import logging
from pathlib import Path

log = logging.getLogger("peftlab")


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
