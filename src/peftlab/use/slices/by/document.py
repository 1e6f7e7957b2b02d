"""Position: which third of its document an example is in; of questions, which third of the text the answer is in."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from peftlab.use.slices.subject import Slice, Subject, UnsuitedError

_THIRDS = ("first third", "second third", "last third")


def slices(subject: Subject) -> Iterator[Slice]:
    """Yield the thirds of the documents with three examples or more, in the order of the file."""
    third = np.full(len(subject.answers), -1)
    if subject.asks_questions:
        for place, answer in enumerate(subject.answers):
            text = subject.texts[place][1]
            starts = [text.find(gold) for gold in answer["gold"] if gold]
            if starts and starts[0] >= 0:
                third[place] = 3 * starts[0] // max(len(text), 1)
    else:
        for members in subject.documents:
            if len(members) >= len(_THIRDS):
                third[members] = 3 * np.arange(len(members)) // len(members)
    if (third < 0).all():
        raise UnsuitedError("no example belongs to a document of several, or the data does not say so")
    yield from (subject.of_examples(name, third == n) for n, name in enumerate(_THIRDS))
