"""The choice of attention, and of its kernels, which is as it was once no context holds it."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import BertConfig, BertModel

from peftlab.speed.attention import attention_kernels, preferred_attention


def test_which_attention_is_preferred():
    assert preferred_attention("gpu", 16) == preferred_attention("cpu", 512) == "sdpa"
    assert preferred_attention("cpu", 128) == "eager"


@pytest.fixture(autouse=True)
def _allowed():
    before = torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(True)
    yield
    torch.backends.cuda.enable_cudnn_sdp(before)


def allowed() -> list[bool]:
    of_cuda = torch.backends.cuda
    return [of_cuda.cudnn_sdp_enabled(), of_cuda.flash_sdp_enabled(), of_cuda.mem_efficient_sdp_enabled()]


def test_cudnn_is_left_out_and_nothing_else():
    with attention_kernels(cudnn=False, one_for_all=True):
        assert allowed() == [False, True, True]
    assert allowed() == [True, True, True]
    with attention_kernels(cudnn=True, one_for_all=True):
        assert allowed() == [True, True, True]


def test_what_the_user_has_turned_off_stays_so():
    torch.backends.cuda.enable_cudnn_sdp(False)
    with attention_kernels(cudnn=False, one_for_all=False):
        pass
    assert allowed() == [False, True, True]


@pytest.fixture
def masks(monkeypatch):
    """Return the masks of all calls of torch's attention."""
    seen = []
    attend = F.scaled_dot_product_attention

    def watched(*args, attn_mask=None, **kwargs):
        seen.append(attn_mask)
        return attend(*args, attn_mask=attn_mask, **kwargs)

    monkeypatch.setattr(F, "scaled_dot_product_attention", watched)
    return seen


@pytest.fixture
def model():
    config = BertConfig(vocab_size=8, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    config._attn_implementation = "sdpa"
    return BertModel(config).eval()


def test_whether_a_batch_has_padding_is_not_looked_at(model, masks):
    full, ids = torch.ones(2, 5, dtype=torch.int64), torch.ones(2, 5, dtype=torch.int64)
    padded = full.clone()
    padded[1, 3:] = 0
    with torch.no_grad(), attention_kernels(cudnn=False, one_for_all=True):
        outputs = [model(ids, attention_mask=mask)[0] for mask in (full, padded)]
        model(ids, attention_mask=None)  # nothing to look at
    assert [mask is None for mask in masks] == [False, False, True]
    assert [mask.shape[-2:] for mask in masks[:2]] == [(5, 5), (5, 5)]
    masks.clear()
    with torch.no_grad(), attention_kernels(cudnn=False, one_for_all=False):
        plain = [model(ids, attention_mask=mask)[0] for mask in (full, padded)]
    assert [mask is None for mask in masks] == [True, False]
    torch.testing.assert_close(outputs, plain)


class Waits(TorchDispatchMode):
    """Counts what reads a number from a tensor, which the host waits for where that is on a device."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_a_forward_pass_waits_for_nothing(model):
    full = torch.ones(2, 5, dtype=torch.int64)
    counts = []
    for one_for_all in (True, False):
        with torch.no_grad(), attention_kernels(cudnn=False, one_for_all=one_for_all), Waits() as waits:
            model(full, attention_mask=full)
        counts.append(waits.count)
    assert counts[0] == 0 < counts[1]


def test_contexts_may_overlap(model, masks):
    """As those of trials that take turns in one process, and do not end in the order in which they have begun."""
    first, second = attention_kernels(False, True), attention_kernels(False, True)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    full = torch.ones(2, 5, dtype=torch.int64)
    assert allowed() == [False, True, True]
    model(full, attention_mask=full)
    second.__exit__(None, None, None)
    assert allowed() == [True, True, True]
    model(full, attention_mask=full)
    assert [mask is None for mask in masks] == [False, True]
    with pytest.raises(ZeroDivisionError), attention_kernels(False, True):
        _ = 1 / 0
    assert allowed() == [True, True, True]
