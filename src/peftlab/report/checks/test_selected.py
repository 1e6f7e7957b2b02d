"""Test scores used for a choice: of a checkpoint, of hyperparameters, or of which runs to keep."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from peftlab.reading.json_form import parsed
from peftlab.report.analysis.groups import Comparison
from peftlab.report.document import Finding
from peftlab.report.likeness import listed, places
from peftlab.report.study import Run
from peftlab.storage.entries import is_plain_file

_SWEEP = "sweep.json"
_MOST_BYTES = 2**26


def check(comparison: Comparison) -> Iterator[Finding]:
    """Name the runs whose checkpoint, and the sweeps whose trials, were chosen by test scores."""
    by_test = [run for run in comparison.everything if run.record.data["selection"]["split"] == "test"]
    if by_test:
        yield Finding(
            "test_selected",
            "error",
            "The best checkpoint was selected on the test split, so its test scores are too good. Select on the "
            "validation split, and run again.",
            places(by_test),
        )
    same = [run for run in comparison.runs if _validates_on_test(run)]
    if same:
        yield Finding(
            "test_selected",
            "error",
            "The validation split is the test split, byte for byte: the checkpoint was selected by what the test "
            "measures, so the test scores are too good. Hold a part of the training data out: "
            "data.splits.validation=0.1.",
            places(same),
        )
    for folder in sorted({run.record.folder.parent for run in comparison.everything}):
        if by := [key for key in _objectives(folder / _SWEEP) if "test" in key.split(".")]:
            yield Finding(
                "test_selected",
                "error",
                f"The sweep was steered by test scores ({listed(by)}): the hyperparameters fit the test split, and the "
                "test scores of the chosen ones are too good. Search by selection.value, the validation score.",
                (str(folder),),
            )


def _validates_on_test(run: Run) -> bool:
    """Return whether both splits are one file.

    Shares that are held out of one file have no example in common, nor have the splits of interactions, which their
    protocol makes out of one folder.
    """
    digests = run.record.data["identity"]["data_sha256"]
    divided = any(isinstance(run.value(f"data.splits.{split}"), float) for split in ("validation", "test"))
    if divided or run.value("data.format.protocol") is not None:
        return False
    return digests.get("test") is not None and digests.get("validation") == digests["test"]


def _objectives(file: Path) -> list[str]:
    """Return the keys by which the trials of a sweep are ranked; none if its description cannot be read."""
    try:
        if not is_plain_file(file) or file.stat().st_size > _MOST_BYTES:
            return []
        description = parsed(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, json.JSONDecodeError):
        return []
    objectives = description.get("objectives") if isinstance(description, dict) else None
    return [str(key) for key in objectives] if isinstance(objectives, dict) else []
