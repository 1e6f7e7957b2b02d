"""Records whose identity is not that of their configuration: the run is not what it says it is."""

from __future__ import annotations

from collections.abc import Iterator

from peftlab.errors import UserError
from peftlab.masking.mask import masked_in
from peftlab.report.analysis.groups import Comparison
from peftlab.report.document import Finding
from peftlab.report.likeness import by_value, compared_runs, places
from peftlab.report.numbers import plural
from peftlab.report.study import Run
from peftlab.runs.identity import identity, run_id_of


def check(comparison: Comparison) -> Iterator[Finding]:
    """Compute the identity of each compared run again, and hold name, seed and method against the configuration."""
    for faults, runs in by_value(compared_runs(comparison), lambda run: tuple(_faults(run)) or None).items():
        yield Finding(
            "false_identity",
            "error",
            f"{plural(len(runs), 'record')} {'does' if len(runs) == 1 else 'do'} not fit the run's configuration: "
            f"{'; '.join(faults)}. One of them was changed after the run, so it is unknown what was run. Put the files "
            "back, or run it again.",
            places(runs),
        )


def _faults(run: Run) -> Iterator[str]:
    record = run.record.data
    recorded, config = record["identity"], run.config
    if not config or recorded["weights_sha256"] is None:
        return
    try:
        if masked_in(config) is not None:
            return
        own = identity(config, recorded["data_sha256"], recorded["weights_sha256"])
    except (UserError, ValueError, TypeError, AttributeError):
        yield "the configuration has no identity"
        return
    if own["config_sha256"] != recorded["config_sha256"]:
        yield "the digest of the configuration is another"
    elif own["sha256"] != recorded["sha256"]:
        yield "the digest of configuration, data and weights together is another"
    elif run_id_of(own) != record["run_id"]:
        yield f"the run is called {record['run_id']}, and its identity begins with {run_id_of(own)}"
    for what, value, key in (("seed", run.seed, "seed"), ("method", record["method"]["name"], "peft")):
        configured = run.value(key)
        if value is not None and configured is not None and value != configured:
            yield f"its {what} is {value}, and {configured} in the configuration"
