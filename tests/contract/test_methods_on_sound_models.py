"""Every method of ``conf/peft/`` on models for sounds: it trains what it should, or says why it cannot."""

from __future__ import annotations

import copy
import functools

import pytest
import torch
from tests.method_files import FILES
from tests.sound_models import make_sound_model
from transformers import AutoModelForAudioClassification, AutoModelForSpeechSeq2Seq

from peftlab.audio.features import end_positions
from peftlab.errors import ConfigError
from peftlab.methods.head import head_of, is_of_head
from peftlab.methods.method import MethodContext

INPUTS = {
    "whisper": {"input_features": (3, 16, 60)},
    "whisper_writes": {"input_features": (3, 16, 60)},
    "wav2vec2_group": {"input_values": (3, 6400)},
    "wav2vec2_layer": {"input_values": (3, 6400)},
    "ast": {"input_values": (3, 64, 16)},
}
"""The shape of the input of each family."""


def inputs(family):
    made = {}
    for name, shape in INPUTS[family].items():
        made[name] = torch.linspace(-40, 40, int(torch.tensor(shape).prod())).reshape(shape).sin()
    if family == "whisper_writes":
        made["decoder_input_ids"] = torch.arange(24).reshape(3, 8) + 40
    if family == "wav2vec2_layer":
        made["attention_mask"] = (torch.arange(6400) < torch.tensor([[6400], [5000], [3000]])).long()
    return made


def logits(model, family):
    return model(**inputs(family)).logits


@functools.cache
def backbone(family, folder):
    auto = AutoModelForSpeechSeq2Seq if family == "whisper_writes" else AutoModelForAudioClassification
    made = make_sound_model(family.removesuffix("_writes"), folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = auto.from_pretrained(made, attn_implementation="eager")
        model.config.apply_spec_augment, model.config.layerdrop = False, 0.0
        for key, parameter in model.named_parameters():
            if key.endswith("bias"):  # which begin as zero, unlike pretrained ones
                torch.nn.init.normal_(parameter, std=0.1)
    end_positions(model, 0.6, "clip")
    return model


@pytest.fixture
def tuned(tmp_path_factory):
    def make(method, family, seed=0):
        model = copy.deepcopy(backbone(family, tmp_path_factory.getbasetemp() / family))
        torch.manual_seed(seed)
        writes = family == "whisper_writes"
        head = () if writes else head_of(model)
        context = MethodContext(head, None, "made here", "vocabulary" if writes else "text")
        return method.apply(model, context).eval(), context

    return make


REFUSED = {
    (name, family): reason
    for family in INPUTS
    for name, reason in (
        *((name, "neither words nor patches") for name in ("prompt_tuning", "p_tuning")),
        *((name, "takes no earlier keys and values") for name in ("prefix_tuning", "mam", "unipelt")),
    )
}
REFUSED |= {("head", "whisper_writes"): "is pretrained"}
REFUSED = {
    key: reason
    for key, reason in REFUSED.items()
    if key not in {(name, "whisper_writes") for name in ("prefix_tuning", "mam", "unipelt")}
}
"""What cannot work, and what it says."""
UNUSED = ("masked_spec_embed",)
"""Parts of pretrained models that are not used: what is masked is drawn by the task."""
OFTEN = ["combined", "full", "houlsby", "inflora", "lora"]
"""One for each way in which a method meets a model."""
ALL = [(name, family) for family in INPUTS for name in FILES if (name, family) not in REFUSED]


def method_of(name, spec):
    return spec(f"peft={name}", *(["peft.init=random"] if name == "prompt_tuning" else [])).peft


@pytest.mark.slow
def test_what_cannot_work_says_why(spec, tuned):
    for (name, family), reason in REFUSED.items():
        with pytest.raises(ConfigError, match=reason):
            tuned(method_of(name, spec), family)


@pytest.mark.one_in(5, "exhaustive")
@pytest.mark.parametrize(
    ("name", "family"),
    [
        one
        if one[0] in OFTEN and one[1].startswith("whisper")
        else pytest.param(*one, marks=pytest.mark.slow if one[0] in OFTEN else pytest.mark.exhaustive)
        for one in ALL
    ],
)
def test_it_trains_what_it_should(name, family, spec, tuned, tmp_path):
    method = method_of(name, spec)
    model, context = tuned(method, family)
    method.calibrate(model, [inputs(family)])
    before = {key: parameter.detach().clone() for key, parameter in model.named_parameters()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.0)
    for _ in range(3):
        optimizer.zero_grad()
        logits(model, family).square().mean().backward()
        optimizer.step()
    trainable = {key for key, parameter in model.named_parameters() if parameter.requires_grad}
    changed = {key for key, parameter in model.named_parameters() if not torch.equal(parameter, before[key])}
    assert changed <= trainable
    still = {key for key in trainable - changed if not any(part in key for part in UNUSED)}
    if name == "glora":  # a bias of the keys shifts all weights of a query alike, and Whisper's have none
        still = {key for key in still if "k_proj.glora_" not in key}
    assert not still, sorted(still)
    assert name == "head" or any(not is_of_head(key, context.head) for key in changed)
    method.save(model, tmp_path, context)
    loaded, _ = tuned(method, family, seed=5)
    method.load(loaded, tmp_path)
    assert torch.equal(logits(loaded, family), logits(model, family))
