from __future__ import annotations

import pytest
import torch

from peftlab.errors import ConfigError
from peftlab.methods.head import head_of
from peftlab.methods.lora_plus import LoraPlus
from peftlab.methods.method import MethodContext
from peftlab.training.optimizers import OptimizerSpec


@pytest.mark.parametrize("options", [{}, {"use_dora": True}, {"init_lora_weights": "orthogonal"}])
def test_the_matrices_b_learn_faster_whatever_lora_it_is(options, pretrained, ner):
    method = LoraPlus(name="x", learning_rate=1e-3, peft_type="LORA", r=4, lr_ratio=8.0, **options)
    backbone = pretrained.backbone(ner())
    context = MethodContext(head_of(backbone), "TOKEN_CLS", "here")
    model = method.apply(backbone, context)
    optimizer = OptimizerSpec(lr=0.5, head_lr=0.25, algorithm=torch.optim.AdamW)
    groups = optimizer.param_groups(model, context.head, method.learning_rate_factor)
    rates = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    trained = {name: rates[id(p)] for name, p in model.named_parameters() if p.requires_grad}
    assert {rate for name, rate in trained.items() if "lora_B" in name} == {4.0}
    assert {rate for name, rate in trained.items() if "classifier" in name} == {0.25}
    assert {rate for name, rate in trained.items() if "lora_B" not in name and "classifier" not in name} == {0.5}


def test_there_must_be_matrices_a_and_b():
    with pytest.raises(ConfigError, match=r"peft\.peft_type = 'VERA': peft=x gives the matrices A and B"):
        LoraPlus(name="x", learning_rate=1e-3, peft_type="VERA")
