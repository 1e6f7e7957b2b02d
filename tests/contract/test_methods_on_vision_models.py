"""Every method of ``conf/peft/`` on vision models: it trains what it should, or says why it cannot."""

from __future__ import annotations

import copy
import functools

import pytest
import torch
from tests.method_files import FILES
from tests.vision_models import CONFIGS, SIZE
from transformers import AutoModelForImageClassification

from peftlab.errors import ConfigError
from peftlab.methods.head import head_of, is_of_head
from peftlab.methods.method import MethodContext


def inputs():
    return {"pixel_values": torch.linspace(-1, 1, 3 * 3 * SIZE * SIZE).reshape(3, 3, SIZE, SIZE).sin()}


def logits(model):
    return model(**inputs()).logits


@functools.cache
def backbone(family):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = AutoModelForImageClassification.from_config(CONFIGS[family](), attn_implementation="eager")
        for key, parameter in model.named_parameters():
            if key.endswith("bias"):  # which begin as zero, unlike pretrained ones
                torch.nn.init.normal_(parameter, std=0.1)
    return model


def tuned(method, family, seed=0):
    model = copy.deepcopy(backbone(family))
    torch.manual_seed(seed)
    context = MethodContext(head_of(model), None, "made here", "text")
    return method.apply(model, context).eval(), context


NEEDS_PAST = dict.fromkeys(("prefix_tuning", "mam", "unipelt"), "takes no earlier keys and values")
REFUSED = {(name, family): reason for name, reason in NEEDS_PAST.items() for family in CONFIGS}
REFUSED |= {(name, "convnext"): "is a convolutional network" for name in ("frod", "gralora", "oft", "sliced")}
REFUSED |= {(name, "convnext"): "has no tokens" for name in ("prompt_tuning", "p_tuning")}
REFUSED |= {
    (name, "convnext"): "attention matches nothing"
    for name in ("beft", "compacter", "houlsby", "loreft", "parallel", "pfeiffer")
}
"""What cannot work, and what it says."""
UNUSED = ("embeddings.mask_token", "vision_model.head.")
"""Parts of pretrained models that a classifier does not use."""
OFTEN = ["combined", "eva", "full", "houlsby", "lora", "prompt_tuning"]
"""One for each way in which a method meets a model."""
ALL = [(name, family) for family in CONFIGS for name in FILES if (name, family) not in REFUSED]


def method_of(name, spec):
    return spec(f"peft={name}", *(["peft.init=random"] if name == "prompt_tuning" else [])).peft


@pytest.mark.slow
def test_what_cannot_work_says_why(spec):
    for (name, family), reason in REFUSED.items():
        with pytest.raises(ConfigError, match=reason):
            tuned(method_of(name, spec), family)
    with pytest.raises(ConfigError, match=r"set peft\.init=random"):
        tuned(spec("peft=prompt_tuning").peft, "vit")


@pytest.mark.one_in(4, "exhaustive")
@pytest.mark.parametrize(
    ("name", "family"),
    [
        one
        if one[1] == "vit" and one[0] in OFTEN
        else pytest.param(*one, marks=pytest.mark.slow if one[1] == "vit" else pytest.mark.exhaustive)
        for one in ALL
    ],
)
def test_it_trains_what_it_should(name, family, spec, tmp_path):
    method = method_of(name, spec)
    model, context = tuned(method, family)
    method.calibrate(model, [inputs()])
    before = {key: parameter.detach().clone() for key, parameter in model.named_parameters()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.0)
    for _ in range(3):
        optimizer.zero_grad()
        logits(model).square().mean().backward()
        optimizer.step()
    trainable = {key for key, parameter in model.named_parameters() if parameter.requires_grad}
    changed = {key for key, parameter in model.named_parameters() if not torch.equal(parameter, before[key])}
    assert changed <= trainable
    still = {key for key in trainable - changed if not any(part in key for part in UNUSED)}
    if name == "glora":  # a bias of the keys shifts all weights of a query alike
        still = {key for key in still if "k_proj.glora_C" not in key}
    assert not still, sorted(still)
    assert name == "head" or any(not is_of_head(key, context.head) for key in changed)
    method.save(model, tmp_path, context)
    loaded, _ = tuned(method, family, seed=5)
    method.load(loaded, tmp_path)
    assert torch.equal(logits(loaded), logits(model))


def test_virtual_tokens_stand_before_the_patches_and_the_head_never_sees_them(spec):
    for family in ("vit", "dinov2", "siglip"):
        model, _ = tuned(method_of("prompt_tuning", spec), family)
        plain = copy.deepcopy(backbone(family)).eval()
        tokens, seen = [], []
        for each in (plain, model):
            for name, module in each.named_modules():
                if name.endswith((".embeddings", "encoder.layers", "encoder.layer", "vit.layers")):
                    first = module if name.endswith(".embeddings") else module[0]
                    record = tokens if name.endswith(".embeddings") else seen
                    hook = record.append
                    first.register_forward_hook(lambda _, __, out, hook=hook: hook(out.shape[1]))
            logits(each)
        count = spec("peft=prompt_tuning").peft.num_virtual_tokens
        assert seen == [tokens[0], tokens[0] + count]
        assert not torch.allclose(logits(model), logits(plain))
