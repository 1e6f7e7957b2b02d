"""What a finished run's model needs least is cut out of it, and a smaller run remains."""

from __future__ import annotations

import copy
import re

import pytest
import torch

from peftlab.errors import ConfigError, UserError
from peftlab.methods.sliced import Sliced
from peftlab.methods.slices import keep_layers, layers_of, units
from peftlab.use.compression.importance import importances, least_needed_layers, mean_loss, sample
from peftlab.use.compression.slicing import best, cut, scale, whole
from peftlab.use.derive import derive
from peftlab.use.finished import load

TEXTS = ["Anna works for Acme in Rome .", "nothing"]


@pytest.fixture
def parent(finished):
    return load(finished.folder)


@pytest.fixture
def merged(parent):
    """The merged model of the run, its task, some of its training examples and the names of its head."""
    model, head = whole(parent)
    return model, parent.spec.task, sample(parent, 20), head


def smaller(parent, **options):
    made = cut(parent, examples=30, **options)
    return derive([parent], by="compress", how=options, peft=made.peft, fill=made.fill), made


@pytest.mark.slow
def test_importances_are_the_gradients_of_each_example_by_itself(merged, parent):
    model, task, batches, head = merged
    every = [units(block, kind) for kind in ("heads", "ffn") for block in layers_of(model, head).values()]
    found = {by: importances(model, task, batches, every, by) for by in ("fisher", "first_order")}
    sums = {by: [torch.zeros(one.count, dtype=torch.float64) for one in every] for by in found}
    examples = [example for batch in batches for example in batch.examples]
    encoded = task.encode(examples, parent.processor, parent.spec.data.limits)
    model.requires_grad_(True)
    for index in range(len(examples)):
        model.zero_grad()
        batch = task.collate(examples, encoded, [index])
        task.losses(model(**batch.inputs), batch).sum().backward()
        for number, one in enumerate(every):
            gradient = (one.out.weight.grad * one.out.weight).sum(0).view(one.count, -1).sum(1).detach().double()
            sums["fisher"][number] += gradient**2
            sums["first_order"][number] += gradient.abs()
    for by, scores in found.items():
        for score, total in zip(scores, sums[by], strict=True):
            torch.testing.assert_close(score, total / len(examples), rtol=1e-3, atol=1e-9)


def test_best():
    scores = [torch.tensor([5.0, 1.0, 4.0]), torch.tensor([0.1, 0.2, 0.3])]
    assert best(scores, 0) == [[0, 1, 2], [0, 1, 2]]
    assert best(scores, 0.5) == [[0, 2], [2]]
    assert best(scores, 0.99) == [[0], [2]]


@pytest.mark.slow
def test_the_layer_that_is_left_out_is_the_one_whose_absence_costs_least(merged):
    model, task, batches, head = merged
    losses = {}
    for number in range(2):
        without = copy.deepcopy(model)
        keep_layers(without, [1 - number], head)
        losses[number] = mean_loss(without, task, batches)
        skipped = mean_loss(model, task, batches, [[layers_of(model, head)[number]]])
        assert losses[number] == pytest.approx(skipped, rel=1e-6)
    assert losses[0] != losses[1]
    assert least_needed_layers(model, task, batches, head, 1) == [min(losses, key=losses.get)]
    with pytest.raises(ConfigError, match="the model has 2 layers, and one at least is kept"):
        least_needed_layers(model, task, batches, head, 2)


@pytest.mark.slow
def test_scaled_units_are_nearer_to_the_whole_model(merged):
    model, task, batches, head = merged
    pruned = copy.deepcopy(model)
    left = units(layers_of(pruned, head)[0], "ffn")
    left.keep(range(20, 64))
    left = units(layers_of(pruned, head)[0], "ffn")
    before = left.out.weight.detach().clone()
    distance = [apart(pruned, model, head, batches)]
    scale(pruned, model, [(left, units(layers_of(model, head)[0], "ffn"))], task, batches)
    distance.append(apart(pruned, model, head, batches))
    assert distance[1] < 0.8 * distance[0]
    factors = (left.out.weight / before).detach()
    torch.testing.assert_close(factors, factors[:1].expand_as(factors), rtol=1e-3, atol=1e-3)


@torch.no_grad()
def apart(model, other, head, batches):
    """The squared distance of what the feed-forward layers of the first block give, over the real tokens."""
    kept = {}
    outs = [units(layers_of(each, head)[0], "ffn").out for each in (model, other)]
    hooks = [out.register_forward_hook(lambda m, a, o, n=n: kept.update({n: o})) for n, out in enumerate(outs)]
    total = 0.0
    for batch in batches:
        model(**batch.inputs), other(**batch.inputs)
        total += float((kept[0] - kept[1])[batch.real.bool()].square().sum())
    for hook in hooks:
        hook.remove()
    return total


@pytest.mark.slow
def test_without_anything_to_cut_it_is_the_merged_model_bit_for_bit(parent):
    run, made = smaller(parent)
    assert made.peft["layers"] is None
    assert made.chosen == {}
    own, merged = run.model.state_dict(), parent.parts.peft.merge(parent.adapted()).state_dict()
    assert own.keys() == merged.keys()
    assert all(torch.equal(own[key], merged[key]) for key in own)


@pytest.mark.slow
@pytest.mark.parametrize(("share", "told"), [(0.1, "that is 0"), (0.9, "that is 4")])
def test_a_share_of_no_head_or_of_more_than_can_go_is_refused(parent, share, told):
    message = (
        rf"prune_heads={share}: of 4 heads {told}, .* at least 1 and at most 2 can go: give a share from 0.25 to 0.5"
    )
    with pytest.raises(ConfigError, match=message):
        cut(parent, prune_heads=share, examples=4)


@pytest.mark.slow
def test_what_is_cut_is_gone_and_cuts_add_up(parent):
    pruned, first = smaller(parent, prune_heads=0.4, prune_ffn=0.5)
    sizes = [sum(p.numel() for p in run.model.parameters()) for run in (parent, pruned)]
    assert sizes[1] < sizes[0]
    assert sum(len(heads) for heads in first.chosen["heads"].values()) == round(0.4 * 4)
    assert all(first.peft["heads"].values())
    assert sum(first.chosen["ffn"].values()) == 64
    assert run_method(pruned) == first.peft
    assert pruned.evaluate().equal is True
    assert pruned.export("plain").largest_difference < 1e-4

    shorter, second = smaller(pruned, drop_layers=1)
    (kept,) = second.peft["layers"]
    assert second.chosen["layers"] == [1 - kept]
    for kind in ("heads", "ffn"):
        assert second.peft[kind] == {n: value for n, value in first.peft[kind].items() if int(n) == kept}
    assert shorter.model.config.num_hidden_layers == 1
    thinner, third = smaller(shorter, prune_ffn=0.5)
    assert third.peft["layers"] == [kept]
    before = first.peft["ffn"].get(str(kept), 64)
    assert third.peft["ffn"] == {str(kept): before - round(before / 2)}
    assert len(thinner.predict(TEXTS)) == 2
    assert thinner.export("thin").largest_difference < 1e-4


def run_method(run):
    method = run.parts.peft
    assert isinstance(method, Sliced)
    section = run.config["peft"]
    return {key: section[key] for key in ("_target_", "name", "learning_rate", "layers", "heads", "ffn")}


@pytest.mark.slow
def test_a_decoder_loses_groups_of_heads_and_writes(finished_writer):
    parent = load(finished_writer.folder)
    run, made = smaller(parent, drop_layers=1, prune_heads=0.5)
    (kept,) = made.peft["layers"]
    assert len(made.peft["heads"][str(kept)]) == 1
    attention = run.model.model.layers[0].self_attn
    assert (attention.q_proj.out_features, attention.k_proj.out_features) == (16, 8)
    assert run.evaluate().equal is True


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prune_heads": 1.0}, "prune_heads=1: a share of all"),
        ({"prune_ffn": -0.1}, "prune_ffn=-0.1: a share of all"),
        ({"drop_layers": -1}, "drop_layers=-1: a number of layers"),
    ],
)
def test_what_cannot_be_cut(parent, options, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        cut(parent, **options)


@pytest.mark.slow
def test_a_method_that_cannot_be_merged_is_refused(run_once):
    run = load(run_once("houlsby", "peft=houlsby", "budget.max_steps=2").folder)
    with pytest.raises(UserError, match="peft=houlsby: this method cannot be merged"):
        cut(run, drop_layers=1)
