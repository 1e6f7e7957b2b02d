"""Abbreviations: entities, or texts, with short forms that their document defines, and with such that it does not."""

from __future__ import annotations

from collections.abc import Iterator

from peftlab.use.slices.short_forms import is_in_capitals, looks_short, pairs
from peftlab.use.slices.subject import Mention, Slice, Subject, UnsuitedError


def slices(subject: Subject) -> Iterator[Slice]:
    """Yield the entities that are short forms, defined or not, and long forms; or the texts that have short forms."""
    defined, spelt_out = _defined(subject)
    if subject.has_entities:
        capitals = [is_in_capitals(texts[0]) for texts in subject.texts]

        def is_short(mention: Mention) -> bool:
            words = subject.words(mention)
            return len(words) == 1 and looks_short(words[0]) and not capitals[mention.answer]

        def is_defined(mention: Mention) -> bool:
            return " ".join(subject.words(mention)).removesuffix("s") in defined[mention.answer]

        def is_long(mention: Mention) -> bool:
            return " ".join(subject.words(mention)).lower() in spelt_out[mention.answer]

        yield subject.of_mentions("short form, defined", lambda one: is_short(one) and is_defined(one))
        yield subject.of_mentions("short form, undefined", lambda one: is_short(one) and not is_defined(one))
        yield subject.of_mentions("long form", is_long)
        return
    short = [_short_forms(texts) for texts in subject.texts]
    if not any(short):
        raise UnsuitedError("no text has a short form")
    known = [bool(own & names) for own, names in zip(short, defined, strict=True)]
    yield subject.of_examples("short form, defined", known)
    undefined = [bool(own - names) for own, names in zip(short, defined, strict=True)]
    yield subject.of_examples("short form, undefined", undefined)


def _short_forms(texts: list[str]) -> set[str]:
    """Return the short forms of texts, without the s of a plural."""
    words = [word.strip(".,;:!?()[]'\"") for text in texts if not is_in_capitals(text) for word in text.split()]
    return {word.removesuffix("s") for word in words if looks_short(word)}


def _defined(subject: Subject) -> tuple[list[set[str]], list[set[str]]]:
    """Return for each answer the short forms that its document defines, and their long forms in lower case."""
    short: list[set[str]] = [set() for _ in subject.answers]
    long: list[set[str]] = [set() for _ in subject.answers]
    for members in subject.documents:
        found = [pair for place in members for text in subject.texts[place] for pair in pairs(text)]
        for place in members:
            short[place] = {pair.short.removesuffix("s") for pair in found}
            long[place] = {pair.long.lower() for pair in found}
    return short, long
