"""The rules that merge weights, on a few numbers: closed forms, and TIES written a second time in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from peftlab.errors import ConfigError
from peftlab.use.ensembles.rules import RULES, Arithmetic, Dare, GreedySoup, Soup, Ties, generator, rule_of

ORIGINAL = torch.tensor([1.0, -2.0, 0.5, 0.0, 3.0])


def merged(rule, *changes, original=ORIGINAL):
    """Return what `rule` makes of runs with these changes, in fp32."""
    changes = torch.stack([torch.as_tensor(change, dtype=torch.float32) for change in changes])
    random = [generator(getattr(rule, "seed", 0), run, "w") for run in range(len(changes))]
    cuts = [rule.cut(change.split(2)) for change in changes]
    return rule.merged(original, original + changes, cuts, random).float()


@pytest.mark.parametrize("rule", [Soup(), Soup(weights=[7]), GreedySoup()])
def test_the_soup_of_one_run_is_that_run_bit_for_bit(rule):
    original = torch.tensor([1.0, 1e-30, -3e4, 1e8, 0.1])
    weights = torch.tensor([[1e-9, 0.3, -3e4, 1.0000001, 1 / 3]])
    assert torch.equal(rule.merged(original, weights, [0.0], []).float(), weights[0])


def test_a_soup_is_the_weighted_mean():
    torch.testing.assert_close(merged(Soup(), [1, 2, 3, 4, 5], [3, 2, 1, 0, -1]), ORIGINAL + torch.full((5,), 2.0))
    of_three = merged(Soup(weights=[1, 0, 3]), [4] * 5, [99] * 5, [8] * 5)
    torch.testing.assert_close(of_three, ORIGINAL + 7)


def test_on_a_linear_model_a_soup_answers_as_the_mean_of_the_answers():
    torch.manual_seed(0)
    runs, inputs, shares = torch.randn(3, 4, 6), torch.randn(8, 6), torch.tensor([0.2, 0.3, 0.5])
    soup = Soup(weights=shares.tolist()).merged(torch.zeros(24), runs.flatten(1), [0.0] * 3, [])
    answers = torch.einsum("r,bi,roi->bo", shares, inputs, runs)
    torch.testing.assert_close(inputs @ soup.float().view(4, 6).T, answers)


def test_of_low_rank_updates_the_products_are_averaged_and_not_the_factors():
    torch.manual_seed(0)
    a, b = torch.randn(2, 2, 6), torch.randn(2, 5, 2)
    a[1], b[1] = -a[0] + 0.1 * a[1], -b[0]  # nearly the same update, by factors of the other sign
    products = torch.stack([b[n] @ a[n] for n in range(2)])
    soup = merged(Soup(), *products.flatten(1), original=torch.zeros(30)).view(5, 6)
    torch.testing.assert_close(soup, products.mean(0))
    assert (b.mean(0) @ a.mean(0) - soup).norm() > 0.9 * soup.norm()


def test_arithmetic_adds_the_scaled_sum_and_takes_away_below_zero():
    torch.testing.assert_close(merged(Arithmetic(scale=0.5), [2] * 5, [4] * 5), ORIGINAL + 3)
    torch.testing.assert_close(merged(Arithmetic(scale=-1), [2] * 5), ORIGINAL - 2)
    torch.testing.assert_close(merged(Arithmetic(), [1] * 5, [1] * 5), ORIGINAL + 0.8)


def test_ties_by_hand():
    """Three of five are kept; a sign is elected by mass, not by count; where none prevails, nothing changes."""
    changes = [5, -1, 2, 0.5, -4], [-2, -3, 0.1, 0.3, 0.2], [-2.5, 1, 0.1, 0.2, 4]
    # kept:    5   .  2   .   -4    -2  -3   .   0.3   .    -2.5  1   .    .   4
    found = merged(Ties(density=0.6, scale=2), *changes)
    torch.testing.assert_close(found, ORIGINAL + 2 * torch.tensor([5, -3, 2, 0.3, 0]))


def ties(changes, density):
    """Yadav et al. 2023, algorithm 1, run by run and number by number."""
    trimmed = []
    for change in changes:
        order = sorted((abs(value), place) for place, value in enumerate(change) if value != 0)
        kept = {place for _, place in order[len(order) - max(1, round(density * len(order))) :]}
        trimmed.append([value if place in kept else 0.0 for place, value in enumerate(change)])
    merged = []
    for values in zip(*trimmed, strict=True):
        positive, negative = sum(v for v in values if v > 0), -sum(v for v in values if v < 0)
        winners = [v for v in values if (v > 0 if positive > negative else v < 0)] if positive != negative else []
        merged.append(sum(winners) / len(winners) if winners else 0.0)
    return merged


def test_ties_as_it_is_written_in_the_paper():
    random = np.random.default_rng(0)
    for number in range(50):
        changes = random.normal(size=(number % 4 + 1, 40)) * random.integers(0, 2, size=40)
        changes = (changes + random.normal(size=changes.shape) * random.integers(0, 2, size=changes.shape)).astype("f4")
        density = random.choice([0.1, 0.2, 0.5, 1.0])
        found = merged(Ties(density=density), *changes, original=torch.zeros(40))
        np.testing.assert_allclose(found, ties(changes.tolist(), density), atol=1e-6)


@pytest.mark.slow
def test_dare_keeps_a_share_and_the_mean():
    change = torch.full((200_000,), 2.0)
    found = merged(Dare(density=0.25), change, original=torch.zeros(len(change)))
    assert set(found.unique().tolist()) == {0.0, 8.0}
    assert float((found != 0).float().mean()) == pytest.approx(0.25, abs=0.005)
    assert torch.equal(found, merged(Dare(density=0.25), change, original=torch.zeros(len(change))))
    other = merged(Dare(density=0.25, seed=1), change, original=torch.zeros(len(change)))
    assert float((found != other).float().mean()) == pytest.approx(2 * 0.25 * 0.75, abs=0.01)
    two = merged(Dare(density=0.25), change, change, original=torch.zeros(len(change)))
    assert set(two.unique().tolist()) == {0.0, 4.0, 8.0}  # each run has masks of its own
    assert merged(Dare(density=1), [1] * 5, [3] * 5).tolist() == (ORIGINAL + 2).tolist()
    assert merged(Dare(density=1, then="ties"), [1] * 5, [-3] * 5).tolist() == (ORIGINAL - 3).tolist()


@pytest.mark.parametrize("how", RULES)
def test_what_no_run_has_changed_stays(how):
    assert torch.equal(merged(rule_of(how, {}), [0] * 5, [0] * 5), ORIGINAL)


@pytest.mark.parametrize(
    ("how", "options", "message"),
    [
        ("tie", {}, "how = 'tie': no such rule. Did you mean 'ties'?"),
        ("ties", {"densty": 0.2}, "there is no key 'ties.densty'. Did you mean 'density'?"),
        ("ties", {"density": 0}, "ties.density = 0: should be greater than 0"),
        ("dare", {"then": "sum"}, "dare.then = 'sum': should be one of mean, ties"),
        ("soup", {"scale": 2}, "there is no key 'soup.scale'"),
        ("arithmetic", {"scale": float("nan")}, "arithmetic.scale = nan: should be a finite number"),
    ],
)
def test_options_that_do_not_exist(how, options, message):
    with pytest.raises(ConfigError) as error:
        rule_of(how, options)
    assert message in str(error.value)


def test_weights_have_to_fit_the_runs():
    for weights in ([1, 2], [0, 0, 0]):
        with pytest.raises(ConfigError, match="give each of the 3 runs a weight"):
            Soup(weights=weights).check(3)
