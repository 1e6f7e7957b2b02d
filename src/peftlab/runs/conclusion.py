"""What a finished run tells its user."""

from __future__ import annotations

import logging

from peftlab.runs.record import RunRecord
from peftlab.scores.scorer import SCORED, brief
from peftlab.terminal.console import VERBATIM

log = logging.getLogger("peftlab")


def conclude(record: RunRecord) -> None:
    """Log the results: scores, parameters, cost and folder."""
    method, cost, selection = (record.data[section] for section in ("method", "cost", "selection"))
    for split in SCORED:
        for score in record.scores(split, selection["metric"]):
            log.info("%s %s: %.4f (%s)", split, score["name"], score["value"], brief(score["scorer"]), extra=VERBATIM)
    share = method["trainable_parameters"] / method["total_parameters"]
    log.info(
        "parameters: %s trainable of %s (%.2f %%)",
        f"{method['trainable_parameters']:,}",
        f"{method['total_parameters']:,}",
        100 * share,
    )
    foretold, memory = "", cost.get("memory", {})
    if "expected_is" in memory:
        least = "at least " if memory["expected_is"] == "lower bound" else ""
        foretold = f" ({least}{memory['expected_gib']:.2f} expected)"
    trained = f", {cost['train_seconds']:.0f} s of them training at {cost['samples_per_second']:.0f} samples/s"
    log.info(
        "time: %.0f s%s; peak memory %.2f GiB%s",
        cost["wall_seconds"],
        trained if record.derived is None else "",
        cost["peak_memory_gib"],
        foretold,
    )
    log.info("run folder: %s", record.folder, extra=VERBATIM)
