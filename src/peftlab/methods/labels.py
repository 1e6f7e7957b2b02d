"""Matches the rows of a stored head to a run's labels, which may be in another order."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from torch import Tensor

from peftlab.errors import ConfigError

LABELS = "labels.json"
"""The labels of an adapter, in the order of its head's rows. They have their own file because the peft library warns
about unknown keys in its configuration."""
_RECORD = "record.json"
_MODEL_CONFIG = "config.json"
_SHOWN = 10


@dataclass(frozen=True)
class Matched:
    """How the rows of a stored output layer map to those of a run."""

    rows: Mapping[int, int]
    """The stored row for each row of the run that has one."""
    new: Sequence[str]
    """Labels of the run without a stored row."""
    left_out: Sequence[str]
    """Stored labels that the run lacks."""

    @property
    def in_order(self) -> bool:
        """Whether all rows stay in place."""
        return not self.new and not self.left_out and all(row == stored for row, stored in self.rows.items())

    def fill(self, layer: Tensor, stored: Tensor) -> None:
        """Copy the matching rows into `layer`, the weight or the bias of the run's output layer."""
        layer.data[list(self.rows)] = stored.to(layer)[list(self.rows.values())]


def match(labels: Sequence[str], stored: Sequence[str] | None, count: int) -> tuple[Matched, list[str]]:
    """Match the labels of a run with those of a stored output layer, by name.

    Args:
        labels: of the run; empty where unknown.
        stored: one label for each stored row; None where nothing names them.
        count: the number of stored rows.

    Returns:
        the rows, and notes for the user, one sentence each: none where both have the same labels in any order.
    """
    if stored is None or not labels:
        if labels and count != len(labels):
            return Matched({}, labels, ()), [f"its head has {count} rows for labels that it does not name; not taken"]
        trusted = f"it does not name the labels of its head; they are taken for these, in this order: {shown(labels)}"
        return Matched({row: row for row in range(count)}, (), ()), [trusted] if labels else []
    rows = {row: stored.index(label) for row, label in enumerate(labels) if label in stored}
    new, left_out = (
        [label for label in labels if label not in stored],
        [label for label in stored if label not in labels],
    )
    if not rows:
        return Matched({}, new, left_out), [f"its head is for other labels, {shown(stored)}; not taken"]
    notes = [f"its head has no rows for these labels, which begin anew: {shown(new)}"] if new else []
    notes += [f"the rows of its head for these labels are left out: {shown(left_out)}"] if left_out else []
    return Matched(rows, new, left_out), notes


def shown(labels: Sequence[str]) -> str:
    """Return labels for a message, only the first of many."""
    rest = len(labels) - _SHOWN
    return ", ".join(labels[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def labels_of_config(config: Mapping[str, Any]) -> list[str] | None:
    """Return the labels in a model's configuration, in order; None where they are placeholders."""
    names = config.get("id2label")
    if not isinstance(names, Mapping) or sorted(map(str, names)) != sorted(map(str, range(len(names)))):
        return None
    labels = [str(label) for _, label in sorted(names.items(), key=lambda item: int(item[0]))]
    placeholders = all(re.fullmatch(r"LABEL_\d+", label) for label in labels)
    return None if placeholders or len(set(labels)) < len(labels) else labels


def save_labels(labels: Sequence[str], folder: Path) -> None:
    """Write the labels of an adapter to its folder."""
    (folder / LABELS).write_text(json.dumps(list(labels), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def adapter_labels(folder: Path) -> list[str] | None:
    """Return the labels of the adapter in `folder`, or None where nothing names them.

    They come from its labels file, the record of its run, or the configuration of the model that was saved with it.

    Raises:
        ConfigError: the labels file is damaged.
    """
    if (folder / LABELS).is_file():
        labels = _json(folder / LABELS)
        if not _are_labels(labels):
            raise ConfigError(f"adapter = '{folder}': {LABELS} is damaged: it is not a list of distinct labels")
        return labels
    record, config = _json(folder.absolute().parent / _RECORD), _json(folder / _MODEL_CONFIG)
    labels = record["data"].get("labels") if isinstance(record, dict) and isinstance(record.get("data"), dict) else None
    if _are_labels(labels):
        return labels
    return labels_of_config(config) if isinstance(config, dict) else None


def _are_labels(value: Any) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(label, str) for label in value) and len(set(value)) == len(value)


def _json(path: Path) -> Any:
    """Return the content of the JSON file at `path`, or None where it cannot be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    except (OSError, ValueError, RecursionError):
        return None
