"""Length: the words of an example, in thirds of the split; and of entities, how many words they have."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from peftlab.use.slices.subject import Slice, Subject


def slices(subject: Subject) -> Iterator[Slice]:
    """Yield the short, the middle and the long examples, and entities of one, two, and more words."""
    lengths = np.array([len(words) for words in subject.text_words])
    third, two = (int(limit) for limit in np.quantile(lengths, [1 / 3, 2 / 3], method="lower"))
    named = (
        (f"up to {third:,} words", lengths <= third),
        (f"{third + 1:,} to {two:,} words", (lengths > third) & (lengths <= two)),
        (f"over {two:,} words", lengths > two),
    )
    yield from (subject.of_examples(name, inside) for name, inside in named if inside.any())
    if subject.has_entities:
        yield subject.of_mentions("entity of 1 word", lambda one: one.end - one.start == 1)
        yield subject.of_mentions("entity of 2 words", lambda one: one.end - one.start == 2)
        yield subject.of_mentions("entity of 3 words or more", lambda one: one.end - one.start > 2)
