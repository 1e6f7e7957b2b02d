"""Collates augmented training examples into batches."""

from __future__ import annotations

from peftlab.data.augmentation.augmenter import Augmenter
from peftlab.data.batches import Batches
from peftlab.tasks.batch import Batch, Part


class AugmentedBatches(Batches):
    """Augments and encodes the examples of a training step when it is collated.

    A step is divided by the sum of the weights of its examples, which may change with their words, so every part
    augments the whole step. Evaluation batches are not augmented.
    """

    def __init__(self, plain: Batches, augmenter: Augmenter) -> None:
        assert plain.recall is None, "activations of unchanged texts are no use for changed ones"
        super().__init__(
            plain.task,
            plain.examples,
            plain.encoded,
            plain.split,
            plain.seed,
            None,
            plain.factors,
            static=plain.static,
        )
        self.augmenter = augmenter
        self._last: tuple[int, list[int], Batches] | None = None

    def __getitem__(self, part: Part) -> Batch:
        """Return the batch of a part of a step."""
        if part.epoch is None:
            return super().__getitem__(part)
        place = {example: n for n, example in enumerate(part.batch)}
        own = [place[example] for example in part.examples]
        batch = self._step(part.epoch, part.batch)[part._replace(examples=own, batch=list(place.values()))]
        batch.part = part
        return batch

    def _step(self, epoch: int, members: list[int]) -> Batches:
        """Return the batches of one step; its parts are asked for one after another."""
        if self._last is None or self._last[:2] != (epoch, members):
            examples = [self.augmenter.example(self.examples[i], epoch) for i in members]
            encoded = self.augmenter.encode(examples)
            factors = None if self.factors is None else self.factors[members]
            step = Batches(self.task, examples, encoded, self.split, self.seed, None, factors, members, self.static)
            self._last = (epoch, members, step)
        return self._last[2]
