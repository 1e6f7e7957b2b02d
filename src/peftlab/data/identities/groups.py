"""The group of each example of a data set: by a column of its file, or by terms in its texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from peftlab.data.attributes import attribute
from peftlab.data.identities.terms import THEMES, identities
from peftlab.errors import ConfigError
from peftlab.tasks.task import Task


def groups_of(by: str, task: Task, examples: Sequence[Any], format: Any) -> list[str]:
    """Return the group of each of `examples`, one for each.

    By terms, that is the group whose terms its texts have; ``female+male`` of several, ``none`` of none.

    Args:
        by: ``column=NAME``, or ``terms=THEME`` with a theme of the package or a file, see `identities`.
        task: the task of the examples.
        examples: the examples, as read from their files.
        format: what has read them, of the section ``data.format``.

    Raises:
        ConfigError: `by` is neither, or the task does not say which texts an example has.
        DataError: there is no such column or file of terms, or it is malformed.
    """
    kind, _, name = by.partition("=")
    if kind == "column" and name:
        return attribute(examples, name, format)
    if kind == "terms" and name:
        terms = identities(name)
        return [terms.label(word for text in task.editable(one) for word in text.words) for one in examples]
    raise ConfigError(
        f"groups: '{by}' is not a way to find groups. Allowed: column=NAME, a column of the data; terms=FILE, a file "
        f"of terms; terms=THEME, of {', '.join(THEMES)}"
    )
