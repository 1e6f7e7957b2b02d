"""The names of targets: a target that is named again is the same."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from peftlab.errors import UserError
from peftlab.use.explanation.targets import target_of

CONTEXT = "In Rome, not Rome"
PLACES = torch.tensor([[-1, -1], [0, 2], [3, 7], [9, 12], [13, 17]])


def asked(answer, wanted):
    """Return the target in `CONTEXT` of which the model answers a part."""
    task = SimpleNamespace(
        head=SimpleNamespace(outputs="span", of_words=False),
        no_answer=True,
        answers=lambda *_: [dict(zip(("start", "end"), answer, strict=True))],
    )
    batch = SimpleNamespace(
        examples=[SimpleNamespace(context=CONTEXT)],
        targets={"null": torch.tensor([0])},
        host={"characters": [PLACES]},
    )
    logits = torch.zeros(1, len(PLACES))
    return target_of(task, None, batch, SimpleNamespace(start_logits=logits, end_logits=logits), wanted)


@pytest.mark.parametrize(
    ("answer", "name", "positions"),
    [
        ((3, 7), "Rome", (2, 2)),
        ((13, 17), "Rome@13", (4, 4)),
        ((9, 17), "not Rome", (3, 4)),
        ((None, None), "no answer", (0, 0)),
    ],
)
def test_an_answer_that_is_named_again_is_the_same(answer, name, positions):
    predicted = asked(answer, None)
    named = asked((0, 2), predicted.name)
    assert (predicted.name, predicted.positions) == (named.name, named.positions) == (name, positions)


@pytest.mark.parametrize("wanted", ["Paris", "Rome@4", "@3", ""])
def test_what_is_no_part_of_the_text_is_refused(wanted):
    with pytest.raises(UserError, match="the text does not have this one"):
        asked((0, 2), wanted)
