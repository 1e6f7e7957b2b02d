"""Labels and other values in a configuration, as they are written in the data."""

from __future__ import annotations

import json
from typing import Any


def as_written(labels: Any) -> Any:
    """Return labels as strings, as in the data: Hydra and YAML turn 0, true and null into other types."""
    if not isinstance(labels, list):
        return labels
    if numbers := [label for label in labels if isinstance(label, float)]:
        raise ValueError(
            f"{numbers[0]} is a number that may be written otherwise in the data: put each label in quotes, as in "
            f"\"data.labels=['{numbers[0]}','b']\""
        )
    return [json.dumps(label) if isinstance(label, int | None) else label for label in labels]
