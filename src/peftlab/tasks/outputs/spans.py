"""The most probable spans in rows of tokens, from scores of their first and last tokens."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

OUTSIDE = -1e4
"""The logit of a token that no span may begin or end with: its probability is 0 in fp32, and nothing is infinite."""


class Spans(NamedTuple):
    """The best spans of each row, the best first; each of shape (rows, number)."""

    first: Tensor
    """The position of the first token."""
    last: Tensor
    score: Tensor
    """The sum of the logits of both, at most `OUTSIDE` / 2 if the row has no other span."""


def best_spans(starts: Tensor, ends: Tensor, longest: int, number: int) -> Spans:
    """Return the best spans of 1 to `longest` tokens.

    All spans are scored at once, and none that is backwards or too long.

    Args:
        starts: logits of the first tokens, shape (rows, tokens), `OUTSIDE` where no span may begin.
        ends: the same of the last tokens.
        longest: the most tokens of a span.
        number: how many spans a row has; as many as are possible, if they are fewer.
    """
    longest = min(longest, starts.shape[1])
    following = F.pad(ends, (0, longest - 1), value=OUTSIDE).unfold(1, longest, 1)  # (rows, tokens, longest)
    scores = (starts[:, :, None] + following).flatten(1)
    best = torch.topk(scores, min(number, scores.shape[1]), dim=1)
    first = best.indices.div(longest, rounding_mode="floor")
    return Spans(first, first + best.indices % longest, best.values)
