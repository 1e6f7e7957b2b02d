from __future__ import annotations

import functools

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from peftlab.errors import ConfigError
from peftlab.training.optimizers import OptimizerSpec


def spec(algorithm=torch.optim.SGD, lr=0.1, weight_decay=0.5, head_lr=None, **options) -> OptimizerSpec:
    return OptimizerSpec(
        lr=lr, weight_decay=weight_decay, head_lr=head_lr, algorithm=functools.partial(algorithm, **options)
    )


def model() -> nn.Module:
    """An encoder with an embedding, a linear layer and a norm; a head; and a frozen layer."""
    torch.manual_seed(0)
    parts = nn.ModuleDict(
        {
            "encoder": nn.ModuleDict(
                {"embedding": nn.Embedding(5, 4), "linear": nn.Linear(4, 4), "norm": nn.LayerNorm(4)}
            ),
            "classifier": nn.Linear(4, 3),
            "frozen": nn.Linear(4, 4),
        }
    )
    parts["frozen"].requires_grad_(False)
    return parts


def settings_of(spec: OptimizerSpec, model: nn.Module, head=("classifier",)) -> dict[str, tuple[float, float]]:
    """The (learning rate, weight decay) of each parameter."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {}
    for group in spec.attach(model, head).param_groups:
        for parameter in group["params"]:
            assert names[id(parameter)] not in found
            found[names[id(parameter)]] = (group["lr"], group["weight_decay"])
    return found


def test_matrices_are_decayed_and_vectors_are_not():
    assert settings_of(spec(), model()) == {
        "encoder.embedding.weight": (0.1, 0.5),
        "encoder.linear.weight": (0.1, 0.5),
        "encoder.linear.bias": (0.1, 0.0),
        "encoder.norm.weight": (0.1, 0.0),
        "encoder.norm.bias": (0.1, 0.0),
        "classifier.weight": (0.1, 0.5),
        "classifier.bias": (0.1, 0.0),
    }


def test_the_head_has_its_own_rate():
    found = settings_of(spec(head_lr=0.7), model())
    assert {name: lr for name, (lr, _) in found.items() if lr != 0.1} == {
        "classifier.weight": 0.7,
        "classifier.bias": 0.7,
    }
    assert found["classifier.weight"] == (0.7, 0.5)
    assert found["classifier.bias"] == (0.7, 0.0)


def test_a_head_may_be_a_part_of_the_encoder():
    found = settings_of(spec(head_lr=0.7), model(), ("encoder.norm", "classifier"))
    assert {name for name, (lr, _) in found.items() if lr == 0.7} == {
        name for name in found if name.startswith(("encoder.norm.", "classifier."))
    }
    assert any(name.startswith("encoder.norm.") for name in found)


def test_the_head_is_found_inside_a_wrapper():
    """A library wraps the model and the head: ``base_model.model.classifier.modules_to_save.default.weight``."""
    wrapped = nn.ModuleDict({"base_model": nn.ModuleDict({"model": model()})})
    found = settings_of(spec(head_lr=0.7), wrapped)
    assert {name.removeprefix("base_model.model.") for name, (lr, _) in found.items() if lr == 0.7} == {
        "classifier.weight",
        "classifier.bias",
    }


def test_a_name_that_only_begins_like_the_head_is_not_the_head():
    parts = nn.ModuleDict({"classifier_norm": nn.Linear(2, 2), "classifier": nn.Linear(2, 2)})
    rates = {name: lr for name, (lr, _) in settings_of(spec(head_lr=0.7), parts).items()}
    assert rates["classifier_norm.weight"] == 0.1
    assert rates["classifier.weight"] == 0.7


def test_there_are_few_groups():
    assert len(spec(head_lr=0.7).param_groups(model(), ["classifier"])) == 4
    assert len(spec().param_groups(model(), ["classifier"])) == 2
    assert len(spec(weight_decay=0.0).param_groups(model(), ["classifier"])) == 1


def test_one_step_by_hand():
    """SGD's decay is added to the gradient: matrices shrink by lr * decay, vectors stay, for a gradient of zero."""
    built = model()
    before = {name: parameter.clone() for name, parameter in built.named_parameters()}
    optimizer = spec().attach(built, ["classifier"])
    for parameter in built.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in built.named_parameters():
        decayed = parameter.ndim > 1 and not name.startswith("frozen")
        torch.testing.assert_close(parameter, before[name] * (1 - 0.1 * 0.5) if decayed else before[name])


def test_options_reach_the_optimizer():
    optimizer = spec(torch.optim.AdamW, betas=(0.8, 0.9), eps=1e-5).attach(model(), ["classifier"])
    assert isinstance(optimizer, torch.optim.AdamW)
    assert all(group["betas"] == (0.8, 0.9) and group["eps"] == 1e-5 for group in optimizer.param_groups)


@pytest.mark.parametrize(
    ("algorithm", "options"),
    [
        (torch.optim.AdamW, {"eps": -1.0}),
        (torch.optim.SGD, {"nesterov": True}),
        (torch.optim.SGD, {"momentun": 0.9}),
    ],
)
def test_what_the_optimizer_refuses_is_found_early(algorithm, options):
    with pytest.raises(ConfigError, match=r"^optimizer\.algorithm: "):
        spec(algorithm, **options)


@pytest.mark.parametrize("values", [{"lr": 0.0}, {"lr": -1.0}, {"head_lr": 0.0}, {"weight_decay": -0.1}])
def test_values_that_mean_nothing_are_refused(values):
    with pytest.raises(ValidationError):
        spec(**values)


@pytest.mark.parametrize("option", ["lr", "weight_decay"])
def test_an_option_that_every_optimizer_has_is_not_one_of_the_algorithm(option):
    algorithm = functools.partial(torch.optim.SGD, **{option: 0.3})
    with pytest.raises(ConfigError, match=rf"^optimizer\.algorithm\.{option}=0\.3: .* Set optimizer\.{option}"):
        OptimizerSpec(lr=0.1, algorithm=algorithm)


@pytest.mark.parametrize(
    ("algorithm", "options", "share"),
    [
        (torch.optim.AdamW, {}, 2.0),
        (torch.optim.SGD, {}, 0.0),
        (torch.optim.SGD, {"momentum": 0.9}, 1.0),
        (torch.optim.Adafactor, {}, 2 / 256),  # a row and a column of a matrix
    ],
)
def test_the_memory_of_its_state_is_known_beforehand(algorithm, options, share):
    assert spec(algorithm, **options).state_share(torch.device("cpu")) == pytest.approx(share, abs=1e-3)
