"""Demonstrations: labelled examples that stand before a text, as what is asked (Brown et al. 2020)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from typing_extensions import TypedDict

from peftlab.errors import ConfigError, did_you_mean
from peftlab.tasks.inputs.texts import Text


class Shown(TypedDict):
    """An example that is shown."""

    text: str
    pair: str | None
    label: str


def drawn(examples: Sequence[Text], labels: Sequence[str], count: int, seed: int) -> list[Shown]:
    """Return `count` of the labelled `examples`, balanced over the labels, in an order that is drawn too.

    A larger count contains the smaller ones of the same seed, as long as the examples of each label last.

    Args:
        examples: the training examples, of whatever budget.
        labels: the task's labels.
        count: the number of examples, if there are as many.
        seed: fixes which are drawn, and their order.
    """
    random = np.random.default_rng([seed, len(labels)])
    order = random.permutation(len(examples)).tolist()
    of_label = {label: [place for place in order if examples[place].label == label] for label in labels}
    turns = random.permutation(len(labels)).tolist()
    longest = max(map(len, of_label.values()))
    in_turn = [of_label[labels[n]][k] for k in range(longest) for n in turns if k < len(of_label[labels[n]])][:count]
    return [as_shown(examples[in_turn[place]]) for place in random.permutation(len(in_turn)).tolist()]


def check_shown(shown: Sequence[Shown], count: int, labels: Sequence[str]) -> None:
    """Check demonstrations that may have been written by hand.

    Raises:
        ConfigError: they are not `count`, or one has another label than the task's.
    """
    if len(shown) != count:
        raise ConfigError(f"task.shown lists {len(shown)} examples: set task.demonstrations={len(shown)}, or remove it")
    if odd := [one["label"] for one in shown if one["label"] not in labels]:
        raise ConfigError(f"task.shown: '{odd[0]}' is no label.{did_you_mean(odd[0], labels)}")


def as_shown(example: Text) -> Shown:
    """Return a labelled example as it is shown."""
    assert example.label is not None
    return Shown(text=example.text, pair=example.pair, label=example.label)


def others(shown: Sequence[Shown], example: Text) -> list[Shown]:
    """Return those of the demonstrations that are not `example` itself, whose label they would tell."""
    return [one for one in shown if (one["text"], one["pair"]) != (example.text, example.pair)]
