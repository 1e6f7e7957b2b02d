"""Columns: the values of another column of the data, as in `peftlab fairness`; `--by column:NAME`."""

from __future__ import annotations

from collections.abc import Iterator

from peftlab.use.fairness.groups import of_column
from peftlab.use.slices.subject import Slice, Subject, UnsuitedError

_MOST = 50
"""More values than anybody reads."""


def slices(subject: Subject, name: str) -> Iterator[Slice]:
    """Yield the examples of each value of the column `name`."""
    values = of_column(f"column={name}", name, subject.folder, subject.answers).values
    if len(distinct := sorted({value for value in values if value is not None})) > _MOST:
        raise UnsuitedError(f"it has {len(distinct):,} values, more than {_MOST}")
    yield from (subject.of_examples(value, [one == value for one in values]) for value in distinct)
