"""Synonyms from WordNet (Miller 1995), read from its index of senses."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Set
from pathlib import Path

from peftlab.errors import DataError

INDEX = "index.sense"
"""The file of WordNet that lists every sense of every word."""

_FUNCTION_WORDS = """
    a about above after again against all also am among an and another any are as at be because been before being
    below between both but by can could did do does doing done down during each either every few for from further get
    had has have having he her here hers herself him himself his how i if in into is it its itself just least less let
    may me might mine more most much must my myself neither no nor not now of off on once one only or other our ours
    out over own per quite rather same shall she should since so some such than that the their theirs them themselves
    then there these they this those though through thus to too under until up upon us very was we were what when where
    whether which while who whom whose why will with within without would yet you your yours yourself
"""
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())
"""English words that carry grammar. WordNet lists many for other senses (``as`` for arsenic, ``in`` for inch)."""


def synonyms(file: Path, words: Set[str], senses: int) -> dict[str, tuple[str, ...]]:
    """Return the synonyms of those `words`, in small letters, that have any.

    They are the other single words of the synsets of a word's most frequent senses, by WordNet's counts in texts.

    Args:
        file: WordNet's file `INDEX`.
        words: words in small letters; inflected forms are not looked up by their base form, so that a synonym is never
            of another number or tense.
        senses: number of senses of a word, the most frequent ones, that are used.

    Raises:
        DataError: the file is not in WordNet's format.
    """
    members: dict[tuple[str, str], list[str]] = defaultdict(list)
    of_word: dict[str, list[tuple[int, int, tuple[str, str]]]] = defaultdict(list)
    with file.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                key, offset, sense, count = line.split()
                lemma, _, lexical = key.partition("%")
                synset = ({"5": "3"}.get(lexical[0], lexical[0]), offset)  # satellites are adjectives too
                order = (-int(count), int(sense))
            except (ValueError, IndexError) as error:
                raise DataError(
                    f"{file}:{number}: expected a sense key, an offset, a number and a count, as in {INDEX} of WordNet"
                ) from error
            if lemma.isalpha():
                members[synset].append(lemma)
            if lemma in words and lemma not in FUNCTION_WORDS:
                of_word[lemma].append((*order, synset))
    table = {}
    for word, listed in of_word.items():
        used = [synset for *_, synset in sorted(listed)[:senses]]
        others = dict.fromkeys(other for synset in used for other in members[synset] if other != word)
        if others:
            table[word] = tuple(others)
    return table
