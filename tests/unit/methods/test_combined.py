from __future__ import annotations

import copy
import dataclasses
import functools
import json
from typing import NamedTuple

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import nn

from peftlab.composing.compose import conf_dir
from peftlab.config import build
from peftlab.errors import ConfigError, UserError
from peftlab.methods.combined import Combined
from peftlab.methods.head import head_of, is_of_head
from peftlab.methods.library import LibraryMethod
from peftlab.methods.method import MethodContext

PAIRS = [
    ("bitfit", "lora"),
    ("top_layers", "ia3"),
    ("houlsby", "lora"),
    ("parallel", "bitfit"),
    ("pfeiffer", "dora"),
    ("compacter", "adalora"),
    ("parallel", "vera"),
    ("loreft", "lora_plus"),
    ("loreft", "pfeiffer"),
    ("prompt_tuning", "lora"),
    ("p_tuning", "houlsby"),
    ("prefix_tuning", "lokr"),
    ("mam", "unilora"),
    ("unipelt", "loreft"),
]


def of_file(name):
    return copy.deepcopy(from_file(name))


@functools.cache
def from_file(name):
    return build(yaml.safe_load((conf_dir() / "peft" / f"{name}.yaml").read_text()), "peft")


def combined(first, second):
    return Combined(name=f"{first}+{second}", learning_rate=1e-3, first=of_file(first), second=of_file(second))


@pytest.fixture(scope="module")
def backbones(pretrained):
    """Return the backbone for a task, which is loaded once."""
    loaded = {}

    def load(task):
        if tuple(task.labels) not in loaded:
            torch.manual_seed(3)
            loaded[tuple(task.labels)] = pretrained.backbone(task)
        return copy.deepcopy(loaded[tuple(task.labels)])

    return load


@pytest.fixture
def tuned(backbones, ner):
    def make(method, seed=0):
        model = backbones(ner())
        context = MethodContext(head_of(model), "TOKEN_CLS", "here")
        torch.manual_seed(seed)
        return method.apply(model, context).eval(), context

    return make


def train(model):
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.0)
    for _ in range(3):
        optimizer.zero_grad()
        logits(model).square().mean().backward()
        optimizer.step()


def logits(model):
    ids = torch.arange(5, 25).reshape(2, 10)
    return model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits


def own(model, context):
    """The shapes of what is trained beside the head."""
    names = [name for name, p in model.named_parameters() if p.requires_grad and not is_of_head(name, context.head)]
    return sorted(tuple(model.get_parameter(name).shape) for name in names)


class Trained(NamedTuple):
    """Two methods after a little training; nothing changes them."""

    method: Combined
    model: nn.Module
    context: MethodContext
    began: nn.Module
    """The model before the training."""


@pytest.fixture(scope="module")
def pairs():
    """What `trained` has made, by the names of the methods."""
    return {}


@pytest.fixture
def trained(first, second, tuned, pairs):
    if (first, second) not in pairs:
        method = combined(first, second)
        began, context = tuned(method)
        model = copy.deepcopy(began)
        train(model)
        pairs[first, second] = Trained(method, model, context, began)
    return pairs[first, second]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pair if pair[0] in ("bitfit", "houlsby", "prompt_tuning") else pytest.param(*pair, marks=pytest.mark.slow)
        for pair in PAIRS
    ],
)
class TestPairs:
    @pytest.mark.slow
    def test_what_either_trains_is_trained_and_nothing_else(self, first, second, trained, tuned):
        method, model, context, began = trained
        alone = [own(*tuned(of_file(name))) for name in (first, second)]
        assert own(began, context) == sorted(alone[0] + alone[1])
        heads = [name for name in method.trained(model) if is_of_head(name, context.head)]
        assert len(heads) == 2  # once, weight and bias
        before = method.trained(began)
        still = [name for name, tensor in method.trained(model).items() if torch.equal(tensor, before[name])]
        assert not [name for name in still if not name.startswith("rank_schedule.")]
        frozen = {name: p for name, p in began.named_parameters() if not p.requires_grad}
        assert frozen
        assert all(torch.equal(model.get_parameter(name), tensor) for name, tensor in frozen.items())

    @pytest.mark.slow
    def test_what_is_saved_makes_a_new_model_the_same(self, first, second, trained, tuned, tmp_path):
        method, model, context, _ = trained
        size = method.save(model, tmp_path, context)
        assert size == (tmp_path / "adapter_model.safetensors").stat().st_size
        frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
        assert not frozen.intersection(load_file(tmp_path / "adapter_model.safetensors"))
        assert json.loads((tmp_path / "adapter_config.json").read_text())["methods"] == [first, second]
        loaded, _ = tuned(method, seed=5)
        assert not torch.equal(logits(loaded), logits(model))
        method.load(loaded, tmp_path)
        assert torch.equal(logits(loaded), logits(model))

    def test_merged(self, first, second, trained):
        method, model = trained.method, copy.deepcopy(trained.model)
        expected = logits(model)
        if not (of_file(first).mergeable and of_file(second).mergeable):
            with pytest.raises(UserError, match=f"{first}.{second}: this method cannot be merged"):
                method.merge(model)
            return
        merged = method.merge(model)
        assert not any("lora" in name or "ia3" in name for name, _ in merged.named_parameters())
        torch.testing.assert_close(logits(merged), expected, atol=1e-5, rtol=1e-4)


def test_both_have_a_say_in_what_they_drive():
    method = combined("prompt_tuning", "lora_plus")
    assert method.virtual_tokens == 20
    assert method.learning_rate_factor("layer.lora_B.default.weight") == 16
    assert method.learning_rate_factor("layer.lora_A.default.weight") == 1


@pytest.mark.slow
def test_adalora_is_driven(tuned):
    method = combined("bitfit", "adalora")
    model, context = tuned(method)
    context = dataclasses.replace(context, steps=20)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    train(model)
    whole = rank_of(model)
    for step in range(1, 21):
        (logits(model).square().mean() + method.penalty(model)).backward()
        optimizer.step()
        method.after_step(model, step, context)
        optimizer.zero_grad()
    assert 0 < rank_of(model) < whole
    assert combined("bitfit", "lora").penalty(tuned(combined("bitfit", "lora"))[0]) is None


def rank_of(model):
    """How many of AdaLoRA's singular values are not zero."""
    return sum(int((p != 0).sum()) for name, p in model.named_parameters() if "lora_E" in name)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("lora", "bitfit", r"let it be the second: peft@peft.first=bitfit peft@peft.second=lora"),
        ("bitfit", "o_lora", r"'o_lora' goes on from an earlier run, .* use peft=o_lora"),
        ("bitfit", "inflora", r"'inflora' goes on from an earlier run, .* use peft=inflora"),
        ("lora", "ia3", "one of the two must be peftlab's own"),
        ("bitfit", "bitfit", "both methods are 'bitfit'"),
    ],
)
def test_what_does_not_go_together(first, second, message):
    with pytest.raises(ConfigError, match=message):
        combined(first, second)


@pytest.mark.one_in(4, "slow")
@pytest.mark.parametrize(
    ("first", "second"),
    [
        *(("houlsby", second) for second in ("frod", "glora", "hra", "shira", "supertuning")),
        ("compacter", "hra"),
        ("parallel", "glora"),
        ("mam", "shira"),
        ("unipelt", "supertuning"),
        ("full", "hra"),
        ("top_layers", "shira"),
        ("bitfit", "ln_tuning"),
        ("prompt_tuning", "p_tuning"),
        ("p_tuning", "prompt_tuning"),
        ("prefix_tuning", "prompt_tuning"),
        ("mam", "prefix_tuning"),
        ("unipelt", "mam"),
        ("prompt_tuning", "prefix_tuning"),
    ],
)
def test_methods_that_undo_each_other_are_refused(first, second, tuned):
    with pytest.raises(ConfigError):
        tuned(combined(first, second))


def test_an_adapter_with_other_options_of_either_is_not_begun_with(tuned, tmp_path):
    method = combined("bitfit", "lora")
    model, context = tuned(method)
    method.save(model, tmp_path, context)
    method.second.lora_alpha = 3
    with pytest.raises(ConfigError, match=r"set peft\.second\.lora_alpha="):
        method.adopt(tuned(method)[0], tmp_path, context)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_is_applied_where_no_gradients_are_wanted(mode, tuned):
    with mode():
        model, context = tuned(combined("bitfit", "lora"))
    assert own(model, context)


def test_two_at_one_place(tuned):
    with pytest.raises(ConfigError, match="another method already has its adapter in a Linear"):
        tuned(combined("houlsby", "compacter"))


ALL = sorted(path.stem for path in (conf_dir() / "peft").glob("*.yaml") if path.stem != "combined")
OWN = [name for name in ALL if not isinstance(of_file(name), LibraryMethod)]


@pytest.mark.exhaustive
@pytest.mark.parametrize("first", OWN)
def test_either_all_that_is_trained_has_an_effect_or_the_pair_is_refused(first, tuned):
    dead, together = {}, 0
    for second in set(ALL) - {first}:
        try:
            model, _ = tuned(combined(first, second))
        except ConfigError:
            continue
        together += 1
        torch.manual_seed(1)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad and parameter.is_floating_point():  # not as it begins, where zeros hide much
                    parameter.add_(0.02 * torch.randn_like(parameter))
        logits(model).square().mean().backward()
        without = [
            name
            for name, parameter in model.named_parameters()
            if parameter.requires_grad and (parameter.grad is None or not parameter.grad.any())
        ]
        # the softmax does not see the bias of keys, nor does what scales a bias of zero change anything
        if without := [name for name in without if "key.bias" not in name and "glora_" not in name]:
            dead[second] = without[:3]
    assert not dead
    assert together
