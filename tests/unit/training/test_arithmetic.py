from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModel

from peftlab.training.arithmetic import Arithmetic


def test_it_counts_what_torchs_own_counter_does(tiny_model):
    """Forwards, backwards, without gradients, and of what reaches it whole, as all does under inference mode."""
    model = AutoModel.from_pretrained(tiny_model)
    ids = torch.randint(5, 20, (3, 7), generator=torch.Generator().manual_seed(0))

    def passes():
        model(input_ids=ids).last_hidden_state.sum().backward()
        for without_gradients in (torch.no_grad, torch.inference_mode):
            with without_gradients():
                model(input_ids=ids, attention_mask=torch.ones_like(ids))

    with Arithmetic() as ours:
        passes()
    with FlopCounterMode(display=False) as theirs:
        passes()
    assert ours.operations == theirs.get_total_flops() > 0


def test_the_result_is_that_of_the_operations():
    x = torch.randn(4, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    layer = torch.nn.Linear(8, 3)
    expected = layer(x)
    with Arithmetic():
        assert torch.equal(layer(x), expected)
