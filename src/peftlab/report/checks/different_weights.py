"""Other pretrained weights behind runs in one table."""

from __future__ import annotations

from collections.abc import Iterator

from peftlab.report.analysis.groups import Comparison
from peftlab.report.document import Finding
from peftlab.report.likeness import by_value, compared_runs, fewest, is_compared, places
from peftlab.report.numbers import plural


def check(comparison: Comparison) -> Iterator[Finding]:
    """Name the runs that began from other weights than most, unless models are what is compared."""
    grouped = by_value(compared_runs(comparison), lambda run: run.record.data["identity"]["weights_sha256"])
    if len(grouped) > 1 and not is_compared(comparison, "model", "adapter"):
        yield Finding(
            "different_weights",
            "error",
            f"Runs in one table began from {plural(len(grouped), 'version')} of the pretrained weights, by their "
            "digests: a difference may be the model's. Compare models as such (--by model), or use one.",
            places(fewest(grouped)),
        )
