"""Greedy word substitution: changes the words that matter most until the answer is wrong or the budget is spent."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from peftlab.use.robustness.victim import Judged

Make = Callable[[Sequence[str | None]], Any]
"""Returns the example with these words; None: the word is deleted."""

Substitutes = Callable[[str], list[str]]
"""Returns the words that may take the place of a word, the most similar first."""

Search = Generator[list[Any], list[Judged], "Attacked"]
"""Yields examples, is sent their answers, and returns how the attack ended."""

Judge = Callable[[Sequence[Any]], Sequence[Judged]]
"""Answers examples, such as `Victim.judged`."""


@dataclass(frozen=True)
class Attacked:
    """The end of the attack on one example."""

    clean: Judged
    """The answer to the example as it is."""
    worst: Judged
    """The answer to the example as the attack leaves it."""
    queries: int
    """Examples that the model was asked for, the first one included."""
    changed: dict[int, str]
    """The new words, by position; empty if the attack left the example as it is."""

    @property
    def broken(self) -> bool:
        """Whether the answer was right and no longer is."""
        return self.clean.right and not self.worst.right


@dataclass(frozen=True)
class Greedy:
    """A black-box attack that only asks for losses (Jin et al. 2020, TextFooler, without its sentence encoder).

    Words are ranked by the loss without them. In that order each is replaced by the substitute that raises the loss
    most, or by the first one that makes the answer wrong. Answers that are wrong from the start are left alone.
    """

    max_queries: int = 300
    """The largest number of queries for one example. At most half of them rank its words: of a longer text, words at
    even distances are ranked, and only these are replaced."""
    max_changed: float = 1.0
    """The largest share of an example's words that is replaced, at least one word."""

    def search(self, words: Sequence[str], free: Sequence[int], make: Make, options: Substitutes) -> Search:
        """Return the attack on one example.

        Args:
            words: the words of the example.
            free: the positions of those that may be replaced.
            make: makes the example with other words.
            options: the substitutes of a word, the best first.
        """
        (clean,) = yield [make(words)]
        ranked = _spread([place for place in free if options(words[place])], (self.max_queries - 1) // 2)
        if not clean.right or not ranked:
            return Attacked(clean, clean, 1, {})
        queries, importance = 1, {ranked[0]: 0.0}
        if len(ranked) > 1:
            without = yield [make([*words[:place], None, *words[place + 1 :]]) for place in ranked]
            queries += len(ranked)
            importance = {place: judged.loss for place, judged in zip(ranked, without, strict=True)}
        worst, changed = clean, dict[int, str]()
        most = max(1, int(self.max_changed * len(words) + 1e-9))  # .29 of 100 words is a little less than 29
        for place in sorted(ranked, key=lambda place: -importance[place]):
            tried = options(words[place])[: self.max_queries - queries]
            if len(changed) == most or not worst.right or not tried:
                break
            current = [changed.get(n, word) for n, word in enumerate(words)]
            judged = yield [make([*current[:place], option, *current[place + 1 :]]) for option in tried]
            queries += len(tried)
            best = next((n for n, one in enumerate(judged) if not one.right), None)
            if best is None:
                best = max(range(len(tried)), key=lambda n: judged[n].loss)
            if not judged[best].right or judged[best].loss > worst.loss:
                worst, changed[place] = judged[best], tried[best]
        return Attacked(clean, worst, queries, changed)


def run_together(searches: Sequence[Search], judge: Judge, at_once: int = 256) -> Iterator[tuple[int, Attacked]]:
    """Run searches side by side, so that their examples share batches; yield the end of each, as it comes.

    Args:
        searches: one for each example.
        judge: answers the examples of all of them.
        at_once: how many are under way at a time.
    """
    waiting = iter(enumerate(searches))
    asked: dict[int, list[Any]] = {}
    while True:
        while len(asked) < at_once and (new := next(waiting, None)) is not None:
            asked[new[0]] = next(new[1])
        if not asked:
            return
        judged = iter(judge([example for examples in asked.values() for example in examples]))
        for number, examples in list(asked.items()):
            try:
                asked[number] = searches[number].send([next(judged) for _ in examples])
            except StopIteration as end:
                del asked[number]
                yield number, end.value


def _spread(places: Sequence[int], most: int) -> list[int]:
    """Return at most `most` of `places`, at even distances."""
    if len(places) <= most:
        return list(places)
    return [places[n * len(places) // most] for n in range(most)]
