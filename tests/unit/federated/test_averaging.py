"""The mean of weights is one of products where weights are products, and projected to the nearest of their rank."""

from __future__ import annotations

import pytest
import torch

from peftlab.federated.averaging import Average, projected
from peftlab.methods.factors import Factors


def products(number, rank, outputs=12, inputs=20, seed=0):
    random = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(outputs, rank, generator=random), torch.randn(rank, inputs, generator=random))
        for _ in range(number)
    ]


def averaged(sets, shares, *factors):
    average = Average(factors)
    for tensors, share in zip(sets, shares, strict=True):
        average.add(tensors, share)
    return average.result()


def test_a_plain_tensor_becomes_the_weighted_mean_and_one_of_whole_numbers_stays():
    sets = [{"w": torch.full((2, 3), float(n)), "places": torch.tensor([4, 5])} for n in (1, 2, 6)]
    mean, lost = averaged(sets, [0.5, 0.25, 0.25])
    assert torch.equal(mean["w"], torch.full((2, 3), 2.5))
    assert torch.equal(mean["places"], torch.tensor([4, 5]))
    assert lost == 0


def test_the_mean_of_one_is_that_one_bit_for_bit():
    ((up, down),) = products(1, 3)
    mean, lost = averaged([{"b": up, "a": down, "w": up * 0.1}], [1.0], Factors("b", "a"))
    assert torch.equal(mean["b"], up)
    assert torch.equal(mean["a"], down)
    assert torch.equal(mean["w"], up * 0.1)
    assert lost == 0


def test_products_whose_mean_has_their_rank_lose_nothing_where_the_product_of_means_would():
    random = torch.Generator().manual_seed(1)
    (up, down), *_ = products(1, 4)
    turns = [torch.linalg.qr(torch.randn(4, 4, generator=random))[0] for _ in range(3)]
    sets = [{"b": up @ turn * n, "a": turn.T @ down} for n, turn in enumerate(turns, 1)]
    mean, lost = averaged(sets, [1 / 3] * 3, Factors("b", "a"))
    torch.testing.assert_close(mean["b"] @ mean["a"], 2 * up @ down, rtol=1e-4, atol=1e-4)
    assert lost < 1e-6
    of_means = sum(each["b"] for each in sets) / 3 @ (sum(each["a"] for each in sets) / 3)
    assert (of_means - 2 * up @ down).norm() > 0.1 * up.norm()


@pytest.mark.parametrize(("outputs", "inputs"), [(12, 20), (20, 12), (3, 40)], ids=str)
def test_what_is_lost_is_what_no_matrix_of_the_rank_has(outputs, inputs):
    parts = [(share, *pair) for share, pair in zip((0.2, 0.3, 0.5), products(3, 4, outputs, inputs), strict=True)]
    exact = sum(share * up.double() @ down.double() for share, up, down in parts)
    norms = torch.linalg.svdvals(exact)
    up, down, found = projected(parts)
    assert (up.shape, down.shape) == ((outputs, 4), (4, inputs))
    torch.testing.assert_close(found[: len(norms)], norms[: len(found)], atol=1e-9, rtol=1e-9)
    torch.testing.assert_close((exact - up @ down).norm(), norms[4:].norm(), atol=1e-9, rtol=1e-9)
    sets = [{"b": up, "a": down} for _, up, down in parts]
    if outputs > 4:
        mean, lost = averaged(sets, [0.2, 0.3, 0.5], Factors("b", "a"))
        assert lost == pytest.approx(float(norms[4:].norm() / norms.norm()))
        assert mean["a"].dtype == torch.float32


def test_a_stays_as_large_as_it_was_while_b_is_small():
    """As after a LoRA's first steps: the next round must not train B through an A that has vanished."""
    random = torch.Generator().manual_seed(0)
    start = torch.randn(4, 64, generator=random)
    sets = [
        {"b": 1e-4 * torch.randn(32, 4, generator=random), "a": start + 0.01 * torch.randn(4, 64, generator=random)}
        for _ in range(3)
    ]
    mean, _ = averaged(sets, [1 / 3] * 3, Factors("b", "a"))
    assert mean["a"].norm() == pytest.approx(float(start.norm()), rel=0.02)
    assert torch.nn.functional.cosine_similarity(mean["a"].flatten(), start.flatten(), dim=0) > 0.9
    nothing = [{"b": torch.zeros(32, 4), "a": each["a"]} for each in sets]
    mean, lost = averaged(nothing, [1 / 3] * 3, Factors("b", "a"))
    assert not mean["b"].any()
    assert mean["a"].norm() == pytest.approx(float(start.norm()), rel=0.02)
    assert lost == 0
