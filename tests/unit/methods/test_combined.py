from __future__ import annotations

import json

import pytest
import torch
import yaml
from safetensors.torch import load_file

from peftlab.backbone import head_of
from peftlab.config import build
from peftlab.errors import ConfigError, UserError
from peftlab.exits import conf_dir
from peftlab.methods.combined import Combined
from peftlab.methods.method import MethodContext, is_of_head

PAIRS = [
    ("bitfit", "lora"),
    ("top_layers", "ia3"),
    ("houlsby", "lora"),
    ("houlsby", "bitfit"),
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
    return build(yaml.safe_load((conf_dir() / "peft" / f"{name}.yaml").read_text()), "peft")


def combined(first, second):
    return Combined(name=f"{first}+{second}", learning_rate=1e-3, first=of_file(first), second=of_file(second))


@pytest.fixture
def tuned(pretrained, ner):
    def make(method, seed=0):
        torch.manual_seed(3)
        model = pretrained.backbone(ner())
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


@pytest.mark.parametrize(("first", "second"), PAIRS)
class TestPairs:
    def test_what_either_trains_is_trained_and_nothing_else(self, first, second, tuned):
        method = combined(first, second)
        model, context = tuned(method)
        alone = [own(*tuned(of_file(name))) for name in (first, second)]
        assert own(model, context) == sorted(alone[0] + alone[1])
        heads = [name for name in method.trained(model) if is_of_head(name, context.head)]
        assert len(heads) == 2  # once, weight and bias
        before = {name: tensor.detach().clone() for name, tensor in method.trained(model).items()}
        frozen = {name: p.detach().clone() for name, p in model.named_parameters() if not p.requires_grad}
        train(model)
        still = [name for name, tensor in method.trained(model).items() if torch.equal(tensor, before[name])]
        assert not [name for name in still if not name.startswith("rank_schedule.")]
        assert all(torch.equal(model.get_parameter(name), tensor) for name, tensor in frozen.items())

    def test_what_is_saved_makes_a_new_model_the_same(self, first, second, tuned, tmp_path):
        method = combined(first, second)
        model, context = tuned(method)
        train(model)
        size = method.save(model, tmp_path, context)
        assert size == (tmp_path / "adapter_model.safetensors").stat().st_size
        frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
        assert not frozen.intersection(load_file(tmp_path / "adapter_model.safetensors"))
        assert json.loads((tmp_path / "adapter_config.json").read_text())["methods"] == [first, second]
        loaded, _ = tuned(method, seed=5)
        assert not torch.equal(logits(loaded), logits(model))
        method.load(loaded, tmp_path)
        assert torch.equal(logits(loaded), logits(model))

    def test_merged(self, first, second, tuned):
        method = combined(first, second)
        model, _ = tuned(method)
        train(model)
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


def test_adalora_is_driven(tuned):
    model, _ = tuned(combined("bitfit", "adalora"))
    assert combined("bitfit", "adalora").penalty(model) >= 0
    assert combined("bitfit", "lora").penalty(tuned(combined("bitfit", "lora"))[0]) is None


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("lora", "bitfit", r"let it be the second: peft@peft.first=bitfit peft@peft.second=lora"),
        ("lora", "ia3", "one of the two must be peftlab's own"),
        ("bitfit", "bitfit", "both methods are 'bitfit'"),
    ],
)
def test_what_does_not_go_together(first, second, message):
    with pytest.raises(ConfigError, match=message):
        combined(first, second)


def test_two_at_one_place(tuned):
    with pytest.raises(ConfigError, match="another method already has its adapter in a Linear"):
        tuned(combined("houlsby", "compacter"))
