"""QERA's correction of quantised layers, against its closed form and the model before it was rounded."""

from __future__ import annotations

import pytest
import torch
import yaml

from peftlab.composing.compose import conf_dir
from peftlab.config import build
from peftlab.errors import ConfigError
from peftlab.methods import qera
from peftlab.methods.combined import Combined
from peftlab.methods.continued import lora_layers
from peftlab.methods.head import head_of
from peftlab.methods.layer_inputs import sums_of_products
from peftlab.methods.method import MethodContext
from peftlab.methods.qera import Qera, correction
from peftlab.methods.targets import linear_layers
from peftlab.models.quantizing import quantize

OPTIONS = {"name": "qera", "learning_rate": 1e-3, "peft_type": "LORA", "batches": 2}


def from_file(name):
    return build(yaml.safe_load((conf_dir() / "peft" / f"{name}.yaml").read_text()), "peft")


@pytest.fixture
def logits(pretrained, ner):
    """Return a function from options to the logits of the plain, the rounded and the corrected model on one batch."""
    torch.manual_seed(0)
    ids = torch.randint(5, 20, (6, 10))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    def compute(beside=None, **options):
        plain, model = pretrained.backbone(ner()).eval(), pretrained.backbone(ner())
        quantize(model, "nf4", linear_layers(model, head_of(model)))
        model.classifier.load_state_dict(plain.classifier.state_dict())
        context = MethodContext(head_of(model), "TOKEN_CLS", "here", unrounded=lambda: plain)
        method = Qera(**OPTIONS, **options)
        if beside is not None:
            method = Combined(name="both", learning_rate=1e-3, first=from_file(beside), second=method)
        tuned = method.apply(model, context).eval()
        with torch.no_grad():
            before = tuned(**batch).logits
            with torch.autocast("cpu", torch.bfloat16):  # a run calibrates in its own precision
                method.calibrate(tuned, [batch] * 2)
            return plain(**batch).logits, before, tuned(**batch).logits

    return compute


def test_with_every_direction_nothing_of_the_rounding_is_left(logits):
    plain, rounded, corrected = logits(r=64)
    assert (rounded - plain).abs().max() > 1e-3
    torch.testing.assert_close(corrected, plain, atol=2e-5, rtol=0)


@pytest.mark.parametrize("first", ["houlsby", "bitfit"])
def test_beside_another_method_that_begins_with_the_model_as_it_is(logits, first):
    plain, rounded, corrected = logits(first, r=64)
    assert (rounded - plain).abs().max() > 1e-3
    torch.testing.assert_close(corrected, plain, atol=2e-5, rtol=0)


@pytest.mark.parametrize("options", [{}, {"use_rslora": True}, {"lora_alpha": 16}, {"correlated": False}], ids=str)
def test_few_directions_bring_the_outputs_nearer_to_those_before_the_rounding(logits, options):
    plain, rounded, corrected = logits(r=8, **options)
    assert (corrected - plain).square().mean() < 0.8 * (rounded - plain).square().mean()


def of_inputs(correlated):
    """Return the inputs of a layer of 12, and their moments."""
    inputs = torch.randn(200, 12) @ torch.randn(12, 12) * torch.rand(12)
    whole = inputs.T @ inputs / len(inputs)
    return inputs, whole if correlated else whole.diagonal()


@pytest.mark.parametrize("correlated", [True, False])
def test_a_correction_is_the_best_of_its_rank(correlated, monkeypatch):
    """Against the closed form of the paper, whose root is the symmetric one."""
    monkeypatch.setattr(qera, "_LEAST", 1e-9)
    torch.manual_seed(0)
    error, (inputs, moments) = torch.randn(20, 12), of_inputs(correlated)
    down, up = correction(error, moments, 4)
    values, vectors = torch.linalg.eigh(moments.double() if correlated else moments.double().diag())
    root = vectors * values.sqrt() @ vectors.T
    left, lengths, right = torch.linalg.svd(error.double() @ root)
    best = (left[:, :4] * lengths[:4]) @ right[:4] @ torch.linalg.inv(root)
    torch.testing.assert_close(up @ down, best.float(), atol=2e-3, rtol=0)
    torch.testing.assert_close(up.norm(dim=0), lengths[:4].sqrt().float(), atol=1e-3, rtol=0)
    if correlated:
        lost = ((error - up @ down) @ inputs.T).square().mean()
        assert float(lost) == pytest.approx(float(lengths[4:].square().sum()) / len(error), rel=1e-3)


@pytest.mark.parametrize("correlated", [True, False])
def test_a_correction_has_no_more_directions_than_the_error_and_no_silent_input_counts(correlated):
    moments = torch.tensor([0.0] + [1.0] * 11)
    moments = moments.diag() if correlated else moments
    for each in (moments, moments * 0):
        down, up = correction(torch.randn(3, 12), each, 8)
        assert (len(down), up.shape[1]) == (3, 3)
        assert down.isfinite().all()
    down, up = correction(torch.zeros(3, 12), moments, 2)
    assert (len(down), up.shape[1]) == (0, 0)


def test_directions_that_the_error_has_not_begin_as_those_of_lora(pretrained, ner):
    model = pretrained.backbone(ner())
    quantize(model, "nf4", linear_layers(model, head_of(model)))
    plain = pretrained.backbone(ner())
    method = Qera(**OPTIONS, r=100)
    tuned = method.apply(model, MethodContext(head_of(model), "TOKEN_CLS", "here", unrounded=lambda: plain))
    ids = torch.ones(2, 7).long()
    method.calibrate(tuned, [{"input_ids": ids, "attention_mask": ids}])
    for _, layer in lora_layers(tuned):
        down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        assert (down.norm(dim=1) > 0).all()  # else a direction that B does not use either would never learn
        assert not up[:, min(up.shape[0], down.shape[1]) :].any()


def test_padding_is_no_input_and_layers_that_read_the_same_share_their_moments(pretrained, ner):
    model = pretrained.backbone(ner()).eval()
    block = "bert.encoder.layer.0"
    names = [f"{block}.attention.self.query", f"{block}.attention.self.key", f"{block}.intermediate.dense"]
    ids, mask = torch.tensor([[5, 6, 7, 0], [8, 9, 10, 11]]), torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])
    batch = {"input_ids": ids, "attention_mask": mask}
    layers = {name: model.get_submodule(name) for name in names}
    (whole, counts), (diagonal, _) = (sums_of_products(model, layers, [batch] * 2, each) for each in (True, False))
    with torch.no_grad():
        states = model.bert.embeddings(ids)[mask.bool()]
    assert counts == dict.fromkeys(names, 2 * len(states))
    torch.testing.assert_close(whole[names[0]] / counts[names[0]], states.T @ states / len(states))
    assert whole[names[1]] is whole[names[0]]
    assert not torch.equal(whole[names[2]], whole[names[0]])
    for name in names:
        torch.testing.assert_close(diagonal[name], whole[name].diagonal())


def test_it_is_lora_on_weights_that_are_not_quantised_and_draws_no_random_number(pretrained, ner):
    model = pretrained.backbone(ner())
    method = Qera(**OPTIONS, r=2)
    tuned = method.apply(model, MethodContext(head_of(model), "TOKEN_CLS", "here"))
    before, state = {n: p.clone() for n, p in tuned.named_parameters()}, torch.get_rng_state()
    method.calibrate(tuned, [])
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], parameter) for name, parameter in tuned.named_parameters())


def test_dora_has_a_beginning_of_its_own():
    with pytest.raises(ConfigError, match=r"peft\.use_dora is no option: DoRA begins"):
        Qera(**OPTIONS, use_dora=True)
