"""The form of a run record, checked when it is read."""

from __future__ import annotations

from typing import Any, Literal, get_args

from peftlab.reading import json_form
from peftlab.reading.json_form import Form

Status = Literal["running", "completed", "failed", "interrupted", "pruned"]
"""The status of a run."""

_COUNTS: Form = {"*": "count?"}
_SPLIT: Form = {"file?": "text?", "rows?": "count?", "dropped?": _COUNTS}

_PARENT: Form = {"identity": "text", "method": "text", "device_seconds?": "number?"}

FORM: dict[str, Form] = {
    "schema_version": "count",
    "run_id": "text?",
    "name": "text?",
    "status": "text",
    "started_at": "time?",
    "ended_at": "time?",
    "command": ["text"],
    "overrides": ["text"],
    "identity": {
        "sha256": "text?",
        "config_sha256": "text?",
        "data_sha256": {"*": "text?"},
        "weights_sha256": "text?",
    },
    "code": {"version": "text?", "commit": "text?", "dirty": "flag?", "diff_sha256": "text?"},
    "environment": {
        "python": "text?",
        "packages_sha256": "text?",
        "platform": "text?",
        "cpu": "text?",
        "isa": "text?",
        "threads": "count?",
        "openmp_wait?": "text?",
        "accelerators": ["text"],
        "devices?": "count?",
        "num_nodes?": "count?",
        "world_size?": "count?",
        "strategy?": "text?",
        "effective_batch_size?": "count?",
        "precision": "text?",
        "deterministic": "flag?",
        "nondeterministic_parts": ["text"],
        "seeds": _COUNTS,
    },
    "data": {
        "name": "text?",
        "splits": {"*": _SPLIT},
        "labels": ["text"],
        "train_test_overlap": "count?",
        "licence": "text?",
    },
    "method": {
        "name": "text?",
        "trainable_parameters": "count?",
        "total_parameters": "count?",
        "adapter_bytes": "count?",
    },
    "selection": {
        "metric": "text?",
        "split": "text?",
        "mode": "text?",
        "value": "number?",
        "epoch": "count?",
        "step": "count?",
        "sha256?": "text?",
    },
    "metrics": [{"name": "text", "split": "text", "value": "number?", "checkpoint": "text", "scorer": "text"}],
    "cost": {
        "wall_seconds": "number?",
        "train_seconds": "number?",
        "steps": "count?",
        "epochs": "number?",
        "samples_per_second": "number?",
        "tokens_per_second": "number?",
        "peak_memory_gib": "number?",
        "train_flops": "number?",
        "token_share?": "number",
        "shapes?": "count",
        "energy_joules?": "number?",
        "energy_counted?": ["text"],
    },
    "history": [{"at?": "time?", "event": "text", "step?": "count?", "of?": "count?"}],
    "files": [{"path": "path", "bytes": "count", "sha256": "text"}],
    "error": "anything?",
    "derived?": {"by": "text", "how": {"*": "anything?"}, "parents": [_PARENT]},
}
_ERROR: Form = {"type": "text", "message": "text"}
_EVENTS: dict[str, Form] = {
    "validated": {"step": "count", "of?": "count?"},
    "out of memory": {"stage": "text", "positions": "count"},
}
"""Further entries of the events of these names."""


def check(record: dict[str, Any]) -> None:
    """Check that `record`, parsed JSON, has the form of a run record.

    Raises:
        ValueError: it differs; says where, what is expected and the value there.
    """
    json_form.check(record, FORM)
    if record["status"] not in get_args(Status):
        raise ValueError(f"status: expected one of {', '.join(get_args(Status))}, not '{record['status']}'")
    if record["error"] is not None:
        json_form.check(record["error"], _ERROR, "error")
    for number, event in enumerate(record["history"]):
        json_form.check(event, _EVENTS.get(event["event"], {}), f"history.{number}")
