"""The group of each example of a data set: by a column of its file, or by terms in its texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from peftlab.data.attributes import attribute
from peftlab.data.identities.terms import identities
from peftlab.tasks.task import Task


def groups_of(task: Task, examples: Sequence[Any], terms: str, column: str | None, format: Any) -> list[str]:
    """Return the group of each of `examples`, one for each.

    Args:
        task: the task of the examples.
        examples: the examples, as read from their files.
        terms: a theme of the package or a file, see `identities`. The group of an example is that whose terms its texts
            have; ``female+male`` of several, ``none`` of none.
        column: the column of the data with the groups, in place of `terms`; None: there is none.
        format: what has read the examples, of the section ``data.format``.

    Raises:
        ConfigError: the task does not say which texts an example has, or the format reads no columns.
        DataError: there is no such column or file of terms, or it is malformed.
    """
    if column is not None:
        return attribute(examples, column, format)
    found = identities(terms)
    return [found.label(word for text in task.editable(one) for word in text.words) for one in examples]
