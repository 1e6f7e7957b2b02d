from __future__ import annotations

import copy

import pytest
import torch

from peftlab.errors import ConfigError
from peftlab.methods.adalora import AdaLora, ranks
from peftlab.methods.head import head_of
from peftlab.methods.method import MethodContext
from peftlab.tasks.ner import Ner
from peftlab.tasks.task import Selection

STEPS = 20
LAYERS = 12
GIVEN = {"name": "adalora", "learning_rate": 1e-3, "peft_type": "ADALORA"}


def method(**options):
    return AdaLora(**(GIVEN | {"init_r": 6, "target_r": 2, "initial_share": 0.1, "final_share": 0.3} | options))


@pytest.fixture(scope="module")
def begun(pretrained):
    task = Ner(name="ner", selection=Selection(metric="entity_f1"))
    task.learn_labels({"train": []}, ["LOC", "PER"])
    model = pretrained.backbone(task)
    context = MethodContext(head_of(model), "TOKEN_CLS", "here", steps=STEPS)
    torch.manual_seed(0)
    return method().apply(model, context), context


@pytest.fixture
def tuned(begun):
    model, context = begun
    return lambda: (copy.deepcopy(model), context)


@pytest.fixture(scope="module")
def whole(begun):
    """A model that has been trained to the end, and how many singular values were in use after each step."""
    model, context = copy.deepcopy(begun[0]), begun[1]
    return model, train(model, context, range(1, STEPS + 1))[0]


def train(model, context, steps, state=None):
    """Take `steps` of a training; return how many singular values are in use after each, and the optimiser's state."""
    spec, found = method(), []
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    if state:
        optimizer.load_state_dict(state)
    torch.manual_seed(1)
    ids = torch.randint(5, 20, (4, 9))
    labels = ids % 3
    for step in steps:
        optimizer.zero_grad()
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        (torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten()) + spec.penalty(model)).backward()
        optimizer.step()
        spec.after_step(model, step, context)
        found.append(sum(ranks(model).values()))
    return found, optimizer.state_dict()


@pytest.mark.slow
def test_ranks_fall_to_the_budget_and_stay_there(whole):
    """By the cubic schedule of equation 4, between the first and the last share of the steps."""
    model, found = whole
    first, last = 2, STEPS - 6
    expected = [6 * LAYERS] * first
    expected += [int(4 * LAYERS * (1 - (t - first) / (last - first)) ** 3 + 2 * LAYERS) for t in range(3, last + 1)]
    assert found == expected + [2 * LAYERS] * (STEPS - last)
    assert len(set(ranks(model).values())) > 1  # some layers have more than others


@pytest.mark.slow
def test_an_average_over_steps_has_the_ranks_of_its_last(tuned, whole):
    model, _ = tuned()
    trained, last = method().trained(model), method().trained(whole[0])
    for name, tensor in trained.items():  # as `Rules.use_average` does; what is no number is not averaged
        tensor.data.copy_((tensor + last[name]) / 2 + 1 if tensor.is_floating_point() else last[name])
    before = trained["base_model.model." + model.rank_schedule.names[0]].clone()
    assert sum(ranks(model).values()) == 6 * LAYERS
    method().after_average(model)
    assert ranks(model) == ranks(whole[0])
    assert torch.equal(trained["base_model.model." + model.rank_schedule.names[0]], before)


@pytest.mark.slow
@pytest.mark.parametrize("stop", [1, 8, 17])
def test_it_goes_on_from_what_a_checkpoint_holds(stop, tuned, whole):
    begun, context = tuned()
    _, state = train(begun, context, range(1, stop + 1))
    again, _ = tuned()
    held = method().trained(begun)
    for name, tensor in method().trained(again).items():
        tensor.data.copy_(held[name])
    train(again, context, range(stop + 1, STEPS + 1), state)
    expected = method().trained(whole[0])
    assert all(torch.equal(tensor, expected[name]) for name, tensor in method().trained(again).items())


@pytest.mark.slow
def test_the_penalty_is_nothing_for_orthonormal_vectors(tuned):
    model, _ = tuned()
    assert method().penalty(model) > 0.1
    for name, parameter in model.named_parameters():
        if ".lora_A." in name or ".lora_B." in name:
            torch.nn.init.orthogonal_(parameter)
    assert method().penalty(model) < 1e-4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"initial_share": 0.5, "final_share": 0.5}, "leave no steps to prune in"),
        ({"init_r": 4, "target_r": 4}, "peft.init_r must be larger than peft.target_r"),
        ({"tinit": 3}, r"peft\.tinit is no option: it follows from peft\.initial_share"),
        ({"r": 3}, r"peft\.r is no option: ranks are peft\.init_r at the start"),
    ],
)
def test_schedules_that_cannot_be(options, message):
    with pytest.raises(ConfigError, match=message):
        method(**options)


def test_a_block_without_gradient_is_of_no_importance(tuned):
    """As where a regulariser leaves a block out of a step."""
    model, context = tuned()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and ".layer.0." not in name:
            parameter.grad = torch.ones_like(parameter)
    method().after_step(model, 1, context)
    importance = model.base_model.rankallocator.ipt
    assert {bool(value.any()) for name, value in importance.items() if ".layer.0." in name} == {False}
    assert any(value.any() for value in importance.values())
