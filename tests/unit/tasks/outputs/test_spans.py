"""The best spans of rows."""

from __future__ import annotations

import torch

from peftlab.tasks.outputs.spans import OUTSIDE, best_spans


def test_they_are_those_of_trying_each():
    generator = torch.Generator().manual_seed(0)
    for tokens, longest, number in ((7, 3, 4), (5, 30, 50), (1, 1, 1), (6, 1, 3)):
        starts, ends = (torch.randn(3, tokens, generator=generator) for _ in range(2))
        starts[:, tokens // 2] = OUTSIDE
        spans = best_spans(starts, ends, longest, number)
        for row in range(3):
            every = {
                (first, last): float(starts[row, first] + ends[row, last])
                for first in range(tokens)
                for last in range(first, min(first + longest, tokens))
                if first != tokens // 2
            }
            best = sorted(every.items(), key=lambda item: -item[1])[:number]
            lists = (each[row].tolist() for each in spans)
            found = [((first, last), score) for first, last, score in zip(*lists, strict=True)]
            assert [one for one in found if one[1] > OUTSIDE / 2][: len(best)] == best
