"""Which unlabelled texts accompany a labelled example."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import torch

from peftlab.semi_supervised.companions import Companions
from peftlab.semi_supervised.mixtext import MixText
from peftlab.semi_supervised.unlabelled import Unlabelled
from peftlab.tasks.batch import Part


def companions(texts=7, labelled=5, mu=3, seed=0):
    data = SimpleNamespace(task=None, seed=seed, processor=None, spec=SimpleNamespace(limits=None))
    data.splits = {"train": SimpleNamespace(rows=labelled)}
    return Companions(Unlabelled(list(range(texts)), None, 0), mu, data, None, None)


def part(examples, epoch=0):
    return Part(examples, examples, epoch)


def test_they_are_the_same_however_a_step_is_divided():
    drawn = companions().drawn_for(part([3, 0, 4, 1], epoch=2))
    again = companions()
    assert drawn == [*again.drawn_for(part([3, 0], epoch=2)), *again.drawn_for(part([4, 1], epoch=2))]
    assert drawn != companions(seed=1).drawn_for(part([3, 0, 4, 1], epoch=2))


def test_every_text_is_drawn_once_in_each_turn():
    own = companions()
    drawn = [each for epoch in range(7) for each in own.drawn_for(part([4, 2, 0, 1, 3], epoch))]
    assert len(drawn) == len(set(drawn)) == 7 * 5 * 3
    assert Counter(turn for _, turn in drawn) == dict.fromkeys(range(15), 7)
    first, second = ([place for place, turn in drawn if turn == number] for number in (0, 1))
    assert sorted(first) == sorted(second) == list(range(7))


def test_rows_are_mixed_within_a_group_and_keep_the_larger_share():
    method = MixText(mu=2)
    method.companions = companions(mu=2)
    pairs, shares = method._pairs(1, [4, 0])
    groups = torch.tensor([0, 1, 0, 0, 1, 1, 0, 0, 1, 1])  # two labelled, their companions, these again
    assert torch.equal(groups[pairs], groups)
    assert sorted(pairs.tolist()) == list(range(10))
    assert shares.min() >= 0.5
    assert len({float(share) for share in shares}) == 2
    alone, own = method._pairs(1, [0])
    assert torch.equal(own, shares[groups == 1])
    assert torch.equal((groups == 1).nonzero()[:, 0][alone], pairs[groups == 1])
