"""What methods make of guesses, by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from peftlab.semi_supervised import consistency
from peftlab.semi_supervised.adamatch import AdaMatch
from peftlab.semi_supervised.averages import Average, aligned
from peftlab.semi_supervised.companions import Read
from peftlab.semi_supervised.fixmatch import FixMatch
from peftlab.semi_supervised.method import mean_of_companions
from peftlab.semi_supervised.predicted import Predicted, divergence, sharpened
from peftlab.semi_supervised.self_training import SelfTraining
from peftlab.semi_supervised.softmatch import SoftMatch
from peftlab.semi_supervised.tally import Seen, seen_of
from peftlab.semi_supervised.uda import Uda

GUESSES = torch.tensor([[0.97, 0.03], [0.4, 0.6], [0.05, 0.95]])


def begun(method, classes=2, steps=100):
    """Return the method as it is before a run, with so many classes."""
    task = SimpleNamespace(labels=[str(n) for n in range(classes)], name="task", head=SimpleNamespace(outputs="text"))
    task.distributions = None
    method.unsuited = lambda task: None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("peftlab.semi_supervised.method.classes_of", lambda task: task.labels)
        method.begin(SimpleNamespace(task=task), steps)
    return method


def seen(guesses, confidences=None):
    confidences = guesses.max(-1).values if confidences is None else confidences
    owners, ones = torch.zeros(len(guesses), dtype=torch.long), torch.ones(len(guesses))
    return Seen(seen_of(guesses, guesses, ones, confidences, None, owners, 1)[0], guesses.shape[-1])


@pytest.mark.parametrize("method", [FixMatch(), SelfTraining()])
def test_what_is_certain_enough_is_a_label(method):
    judged = method.judge(GUESSES)
    assert judged.targets.tolist() == [[1, 0], [0, 1], [0, 1]]
    assert judged.weights.tolist() == [1, 0, 1]
    assert judged.confidences.tolist() == GUESSES.max(-1).values.tolist()


def test_the_loss_of_fixmatch_is_a_mean_over_all_rows():
    """Of two labelled examples with three texts each, four of which are certain (Sohn et al. 2020, equation 4)."""
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 3.0], [1.0, 0.0], [0.0, 0.0]])
    guesses = torch.tensor([[0.99, 0.01], [0.5, 0.5], [0.02, 0.98], [0.96, 0.04], [0.9, 0.1], [0.05, 0.95]])
    judged = FixMatch().judge(guesses)
    apart = divergence(judged.targets, logits) * judged.weights
    own = mean_of_companions(apart, torch.ones(6), torch.arange(6) // 3, 2)
    entropies = [
        math.log(1 + math.exp(-2)),  # class 0 by 2
        math.log(2),  # class 1 of equal logits
        math.log(1 + math.exp(3)),  # class 0, behind by 3
        math.log(2),
    ]
    assert float(own.mean()) == pytest.approx(sum(entropies) / 6, rel=1e-6)


def test_texts_of_several_words_are_means_over_their_words():
    values, owners = torch.tensor([1.0, 3.0, 5.0]), torch.tensor([0, 0, 2])
    assert mean_of_companions(values, torch.tensor([1.0, 1.0, 2.0]), owners, 3).tolist() == [2, 0, 5]


def test_uda_sharpens_what_is_certain():
    judged = Uda(temperature=0.5, threshold=0.8).judge(GUESSES)
    odds = (0.97 / 0.03) ** 2
    assert float(judged.targets[0, 0]) == pytest.approx(odds / (1 + odds), rel=1e-5)
    assert judged.weights.tolist() == [1, 0, 1]
    assert torch.allclose(sharpened(GUESSES, 1.0), GUESSES)


def test_the_limit_of_training_signal_annealing_rises_to_one():
    """Xie et al. 2020, appendix A.2: alpha * (1 - 1 / K) + 1 / K."""
    for kind, middle in (("linear", 0.5), ("log", 1 - math.exp(-2.5)), ("exp", math.exp(-2.5))):
        method = begun(Uda(tsa=kind), classes=4)
        method.taken = 49
        assert method.limit(4) == pytest.approx(middle * 0.75 + 0.25)
        method.taken = 99
        assert method.limit(4) == pytest.approx(1, abs=0.006)


def test_softmatch_weights_by_a_truncated_gaussian():
    method = begun(SoftMatch(uniform=False, n_sigma=1.0, decay=0.5))
    assert method.judge(GUESSES).weights.tolist() == [1, 1, 1]
    method.learn(seen(GUESSES), {})
    confidences = [0.97, 0.6, 0.95]
    mean = sum(confidences) / 3
    variance = sum((each - mean) ** 2 for each in confidences) / 2
    weights = method.judge(GUESSES).weights.tolist()
    assert weights == pytest.approx([1, math.exp(-((mean - 0.6) ** 2) / (2 * variance)), 1], rel=1e-5)
    narrow = begun(SoftMatch(uniform=False, n_sigma=2.0, decay=0.5))
    narrow.learn(seen(GUESSES), {})
    assert narrow.judge(GUESSES).weights.tolist()[1] == pytest.approx(weights[1] ** 4, rel=1e-5)


def test_uniform_alignment_moves_weights_and_no_labels():
    skewed = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4]])
    method = begun(SoftMatch(n_sigma=1.0))
    method.learn(seen(skewed), {})
    judged = method.judge(skewed)
    assert judged.targets[:, 0].tolist() == [1, 1, 1]
    moved = [0.6 * 0.5 / 0.8, 0.4 * 0.5 / 0.2]
    assert float(judged.confidences[2]) == pytest.approx(moved[1] / sum(moved), rel=1e-5)


def test_adamatch_aligns_guesses_and_takes_a_share_of_the_confidence_in_labelled_examples():
    method = begun(AdaMatch(threshold=0.9, decay=0.5))
    assert method.judge(GUESSES).weights.tolist() == [1, 0, 1]
    # four labelled texts: classes in the shares 0.75 and 0.25, the mean confidence is 0.7
    method.learn(seen(GUESSES), {"labelled": torch.tensor([4, 3.0, 1.0, 2.8], dtype=torch.float64)})
    wanted, average = [0.75, 0.25], GUESSES.mean(0).tolist()
    moved = [0.4 * wanted[0] / average[0], 0.6 * wanted[1] / average[1]]
    judged = method.judge(GUESSES)
    assert float(judged.confidences[1]) == pytest.approx(max(moved) / sum(moved), rel=1e-5)
    assert judged.targets[1].tolist() == [1, 0]  # the label has moved, too
    assert judged.weights.tolist() == [float(each >= 0.9 * 0.7) for each in judged.confidences.tolist()]


def test_what_is_recorded_is_the_label_that_was_learnt(monkeypatch):
    method = begun(AdaMatch(threshold=0, decay=0.5))
    method.learn(seen(GUESSES), {"labelled": torch.tensor([4, 3.0, 1.0, 2.8], dtype=torch.float64)})
    assert method.judge(GUESSES).targets.argmax(-1).tolist() == [0, 0, 1] != GUESSES.argmax(-1).tolist()
    of_three = Predicted(GUESSES.log(), torch.tensor([0, 0, 1]), torch.ones(3), torch.arange(3))
    monkeypatch.setattr(consistency, "predicted", lambda *_: of_three)
    method.guess = method.forward = lambda *_: None
    batch = SimpleNamespace(to=lambda device: None, weights=torch.ones(1), examples=["labelled"], part="part")
    texts = SimpleNamespace(mu=3, drawn_for=list, weak=lambda _: Read([], batch, batch), strong=lambda *_: batch)
    _, (sums,) = method.of_companions(SimpleNamespace(task=None, batch=batch), texts)
    assert sums[:3].tolist() == [3, 3, 3]  # all are used, and right
    assert sums[-2:].tolist() == [2, 1]


def test_an_average_is_right_from_the_first_step_and_forgets():
    average = Average(0.9, 1)
    assert not average.begun
    for value, mean in ((2.0, 2.0), (4.0, (0.9 * 2 + 4) / 1.9)):
        average.add(torch.tensor([value]))
        assert float(average.mean) == pytest.approx(mean)


def test_aligned_distributions_have_the_wanted_mean_when_they_are_alike():
    alike = torch.tensor([[0.8, 0.2], [0.8, 0.2]])
    assert torch.allclose(aligned(alike, torch.tensor([0.5, 0.5]), alike.mean(0)), torch.full([2, 2], 0.5))


def test_divergence_is_zero_between_equals_and_cross_entropy_of_a_label():
    logits = torch.tensor([[1.0, 0.0, -1.0]])
    assert float(divergence(logits.softmax(-1), logits)) == pytest.approx(0, abs=1e-6)
    label = torch.tensor([[0.0, 1.0, 0.0]])
    assert float(divergence(label, logits)) == pytest.approx(float(-logits.log_softmax(-1)[0, 1]))


def test_the_weight_rises_over_steps_or_a_share_of_them():
    for ramp_up, taken, weight in ((10, 5, 1.0), (0.4, 20, 1.0), (0.4, 80, 2.0), (0, 0, 2.0)):
        method = begun(FixMatch(lambda_u=2.0, ramp_up=ramp_up))
        method.taken = taken
        assert method.weight == weight
