"""Short forms and what they stand for, as a text defines them: the algorithm of Schwartz & Hearst 2003.

"A simple algorithm for identifying abbreviation definitions in biomedical text", Pacific Symposium on Biocomputing 8,
https://psb.stanford.edu/psb-online/proceedings/psb03/schwartz.pdf
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_IN_PARENTHESES = re.compile(r"[(\[]([^()\[\]]+)[)\]]")
_SENTENCE_END = re.compile(r"[.!?;:]\s+(?=[A-Z(])|\n")
_SHORTEST, _LONGEST = 2, 10
_OF_NUMBERS = frozenset("=<>%\u2264\u2265\u00b1")
_LETTER, _WORD = re.compile(r"[^\W\d_]"), re.compile(r"[^\W_]+")


class Pair(NamedTuple):
    """A short form and the long form that a text defines it by."""

    short: str
    long: str


def pairs(text: str) -> list[Pair]:
    """Return the short forms that `text` defines, in order: *long form (short form)*, or the other way round.

    A short form has 2 to 10 characters in at most two words, begins with a letter or a digit, and has no sign of
    numbers (=, <, %) and, as the paper does not ask, a capital. Its characters must occur in the long form in their
    order, found from the right; the first one begins a word of it. A long form has at most min(n + 5, 2n) words, for n
    characters of the short form, no parentheses, and stands in the same sentence.
    """
    return list(_pairs(text))


def _pairs(text: str) -> Iterator[Pair]:
    for match in _IN_PARENTHESES.finditer(text):
        before = _SENTENCE_END.split(text[: match.start()])[-1].rstrip()
        inside = re.split(r"[,;]", match[1])[0].strip()
        if is_candidate(inside):
            short, long = inside, _last_words(before, min(len(inside) + 5, 2 * len(inside)))
        else:  # the long form stands in the parentheses
            short, long = before.rpartition(" ")[2], match[1].strip()
            if not is_candidate(short) or len(long.split()) > min(len(short) + 5, 2 * len(short)):
                continue
        start = long_form(short, long)
        if start is not None and (short is inside or start == 0):
            yield Pair(short, long[start:])


def is_candidate(text: str) -> bool:
    """Return whether `text` could be a short form."""
    return (
        _SHORTEST <= len(text) <= _LONGEST
        and len(text.split()) <= 2
        and text[0].isalnum()
        and any(character.isupper() for character in text)
        and not _OF_NUMBERS.intersection(text)
    )


def long_form(short: str, text: str) -> int | None:
    """Return where the long form of `short` begins in `text`, whose end it reaches; None if `text` has none."""
    place = len(text)
    for n in range(len(short) - 1, -1, -1):
        if not short[n].isalnum():
            continue
        wanted, place = short[n].lower(), place - 1
        while place >= 0 and (text[place].lower() != wanted or (n == 0 and place > 0 and text[place - 1].isalnum())):
            place -= 1
        if place < 0:
            return None
    start = text.rfind(" ", 0, place) + 1
    start += len(text[start:place]) - len(text[start:place].lstrip("([\"'"))
    long = text[start:]
    if len(long) <= len(short) or short in long.split() or re.search(r"[()\[\]]", long):
        return None
    return start


def looks_short(word: str) -> bool:
    """Return whether a word of a text looks like a short form: two capitals, or one and a digit, as *mRNA* and *T4*."""
    if not is_candidate(word) or " " in word:
        return False
    capitals = sum(character.isupper() for character in word)
    return capitals >= 2 or (capitals == 1 and any(character.isdigit() for character in word))


def is_in_capitals(text: str) -> bool:
    """Return whether a text is written in capitals, such as a headline: its words are no short forms."""
    words = [word for word in _WORD.findall(text) if _LETTER.search(word)]
    return len(words) > 1 and 4 * sum(word.isupper() for word in words) >= 3 * len(words)


def _last_words(text: str, number: int) -> str:
    """Return the end of `text` with its last `number` words."""
    starts = [match.start() for match in re.finditer(r"\S+", text)]
    return text[starts[max(len(starts) - number, 0)] :] if starts else ""
