"""Which words of an English text are negated: triggers and their scopes, after NegEx.

Chapman et al. 2001, "A simple algorithm for identifying negated findings and diseases in discharge summaries", Journal
of Biomedical Informatics 34. As in its later versions, a scope reaches to a word that ends it, or to the end of the
sentence; the first version cut it after five words. The lists are this project's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

BEFORE = (
    *("no", "not", "n't", "without", "never", "none of", "neither", "cannot", "denies", "denied", "denying", "lacks"),
    *("absence of", "absent", "lack of", "lacking", "negative for", "free of", "fails to", "failed to", "free from"),
    *("no evidence of", "no sign of", "no signs of", "no history of", "not have", "ruled out for", "rules out"),
    *("rule out", "ruling out", "excludes", "excluded", "did not", "does not", "do not", "was not", "were not"),
    *("is not", "are not", "unable to", "declined", "without any", "rather than", "instead of", "nor"),
)
"""Triggers that negate what follows."""
AFTER = (
    *("was ruled out", "were ruled out", "is ruled out", "are ruled out", "has been ruled out", "have been ruled out"),
    *("ruled out", "was excluded", "were excluded", "unlikely", "was negative", "were negative", "is negative"),
    *("not found", "not seen", "not detected", "not observed", "not present", "was absent", "were absent"),
)
"""Triggers that negate what precedes."""
NO_TRIGGER = (
    *("not only", "no increase", "no change", "no significant change", "not necessarily", "no further", "not just"),
    *("gram negative", "without difficulty", "not rule out", "not ruled out", "not cause", "no doubt", "not merely"),
    *("no longer than", "not certain whether", "not certain if", "no less than", "no more than", "not exclude"),
)
"""Phrases that hold a trigger and negate nothing."""
ENDS = (
    *("but", "however", "although", "though", "except", "yet", "whereas", "nevertheless", "still", "aside from"),
    *("apart from", "other than", "secondary to", "because", "since", "due to", "which", "who", "presenting with"),
)
"""Words that end a scope."""
_SENTENCE_ENDS = frozenset(".!?;:")

_KINDS = {
    tuple(phrase.split()): kind
    for kind, phrases in (("before", BEFORE), ("after", AFTER), ("none", NO_TRIGGER), ("end", ENDS))
    for phrase in phrases
}
_LONGEST = max(map(len, _KINDS))


def negated(words: Sequence[str]) -> list[bool]:
    """Return for each of `words` whether it is in the scope of a negation; triggers themselves are not.

    Of phrases that begin at the same word, the longest counts. A phrase that is a trigger of both kinds, such as *ruled
    out*, acts on what precedes it.
    """
    marked = [False] * len(words)
    start, active = 0, False
    for place, length, kind in _phrases(words):
        if kind == "after":
            marked[start:place] = [one is None for one in _kinds(words, start, place)]
        elif kind == "before":
            active = True
        elif kind == "end":
            active, start = False, place + length
        elif kind is None and active:
            marked[place] = True
    return marked


def has_negation(words: Sequence[str]) -> bool:
    """Return whether there is a trigger among `words`."""
    return any(kind in ("before", "after") for _, _, kind in _phrases(words))


def _phrases(words: Sequence[str]) -> Iterator[tuple[int, int, str | None]]:
    """Yield the place, the length and the kind of each phrase, and of each word that is in none."""
    lower, place = [word.lower().replace("\u2019", "'") for word in words], 0
    while place < len(lower):
        length, kind = _phrase(lower, place)
        yield place, length, kind
        place += length


def _phrase(words: Sequence[str], place: int) -> tuple[int, str | None]:
    """Return the length and the kind of the longest phrase that begins at `place`; (1, None) if there is none."""
    if words[place] in _SENTENCE_ENDS:
        return 1, "end"
    for length in range(min(_LONGEST, len(words) - place), 0, -1):
        if (kind := _KINDS.get(tuple(words[place : place + length]))) is not None:
            return length, kind
    return 1, None


def _kinds(words: Sequence[str], start: int, end: int) -> list[str | None]:
    """Return the kind of each word from `start` to `end`."""
    return [kind for _, length, kind in _phrases(words[start:end]) for _ in range(length)]
