"""What a model says of examples, as arrays: all that a query may know. No gold label is in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Observed:
    """Of some examples: the distributions that a model gives them, and what it reads of them.

    An example has one or several distributions: a text one over its labels; a text with several labels one over no and
    yes for each label; a sentence one over the tags for each word.
    """

    starts: np.ndarray
    """Where the distributions of each example start, and behind them the number of all, shape (examples + 1,)."""
    distributions: np.ndarray
    """Shape (distributions, classes); empty where the model gives none."""
    samples: np.ndarray | None = None
    """The same with dropout, drawn several times, shape (draws, distributions, classes)."""
    embeddings: np.ndarray | None = None
    """What the last layer of the head reads, shape (examples, hidden); of a sentence, the mean over its words."""

    def __len__(self) -> int:
        return len(self.starts) - 1

    def mean(self, of_each: np.ndarray) -> np.ndarray:
        """Return the mean over each example's distributions, shape (examples,); 0 for one without any.

        Args:
            of_each: a value for each distribution, shape (distributions,).
        """
        sums = np.concatenate([[0.0], np.cumsum(of_each, dtype=np.float64)])[self.starts]
        return np.diff(sums) / np.maximum(np.diff(self.starts), 1)

    def whole(self) -> np.ndarray:
        """Return the distributions by example, shape (examples, distributions of each, classes).

        Raises:
            ValueError: examples differ in the number of theirs, as sentences do.
        """
        return self.distributions.reshape(len(self), -1, self.distributions.shape[-1])

    def of(self, places: Sequence[int] | np.ndarray) -> Observed:
        """Return what is known of the examples at `places`, in that order."""
        places = np.asarray(places, dtype=np.int64)
        numbers = np.diff(self.starts)[places]
        rows = np.concatenate([np.arange(self.starts[place], self.starts[place + 1]) for place in places] or [places])
        return replace(
            self,
            starts=np.concatenate([[0], np.cumsum(numbers)]),
            distributions=self.distributions[rows] if len(self.distributions) else self.distributions,
            samples=None if self.samples is None else self.samples[:, rows],
            embeddings=None if self.embeddings is None else self.embeddings[places],
        )
