"""Where training can start, and that starting there changes nothing."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import peft
import pytest
import torch
import transformers
from torch import nn

from peftlab.speed.border import STATES, NoBorderError, find_border, starting_from, watching
from peftlab.speed.lora import fuse_lora

INPUTS = {
    "input_ids": torch.tensor([[2, 9, 10, 11, 3], [2, 12, 3, 0, 0]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]),
}


@pytest.fixture
def bert(pretrained, ner):
    """Return a maker of the tiny BERT with two layers and only its head trained."""

    def make(dropout=0.0):
        spec = dataclasses.replace(pretrained.spec, dropout=dropout, attention_dropout=0.0)
        torch.manual_seed(0)
        model = dataclasses.replace(pretrained, spec=spec).backbone(ner()).requires_grad_(False)
        model.classifier.requires_grad_(True)
        return model

    return make


def adapted(model, *targets):
    return peft.get_peft_model(model, peft.LoraConfig(target_modules=list(targets), modules_to_save=["classifier"]))


class TestFindBorder:
    def test_of_a_head_it_is_above_every_layer(self, bert):
        model = bert()
        border = find_border(model, INPUTS)
        assert border.below == [model.bert]
        assert (border.layers, border.of_layers, border.hidden, border.dtype) == (2, 2, 32, torch.float32)

    def test_an_encoder_that_pools_as_well_is_not_skipped_as_a_whole(self, bert):
        model = transformers.BertForSequenceClassification(bert().config).requires_grad_(False)
        model.classifier.requires_grad_(True)
        assert find_border(model, INPUTS).below == list(model.bert.encoder.layer)

    def test_of_the_top_layer_it_is_below_that(self, bert):
        model = bert()
        model.bert.encoder.layer[1].output.LayerNorm.bias.requires_grad_(True)
        assert find_border(model, INPUTS).below == [model.bert.encoder.layer[0]]

    def test_images_have_none(self):
        """Their inputs are no rows of tokens of which a mask says which are real."""
        sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
        model = transformers.ViTForImageClassification(transformers.ViTConfig(**sizes, image_size=8, patch_size=4))
        model.vit.requires_grad_(False)
        with pytest.raises(NoBorderError, match="the inputs of ViTForImageClassification are no tokens") as caught:
            find_border(model, {"pixel_values": torch.zeros(2, 3, 8, 8)})
        assert not caught.value.avoidable

    def test_of_an_encoder_decoder_it_is_in_the_encoder(self):
        """A decoder's layers have other tokens than the mask that says which are kept."""
        layers = {f"{half}_{what}": 2 for half in ("encoder", "decoder") for what in ("layers", "attention_heads")}
        sizes = {"d_model": 8, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8, "max_position_embeddings": 16}
        config = transformers.BartConfig(**layers, **sizes, vocab_size=20, dropout=0.0, attention_dropout=0.0)
        model = transformers.BartForConditionalGeneration(config).requires_grad_(False)
        model.model.decoder.layers[1].fc1.requires_grad_(True)
        for tokens in (3, 5):  # as many as the source has, too
            inputs = {**INPUTS, "decoder_input_ids": torch.full((2, tokens), 4)}
            assert find_border(model, inputs).below == list(model.model.encoder.layers)

    @pytest.mark.parametrize("fused", [False, True])
    def test_of_adapters_it_is_below_the_lowest(self, bert, fused):
        model = adapted(bert(), "layer.1.output.dense")
        assert fuse_lora(model) if fused else True
        assert find_border(model, INPUTS).below == [model.base_model.model.bert.encoder.layer[0]]

    @pytest.mark.parametrize(
        "trained", ["bert.embeddings.LayerNorm.bias", "bert.encoder.layer.0.output.dense.weight", "bert"]
    )
    def test_there_is_none_where_the_first_layer_is_trained_or_what_is_below(self, bert, trained):
        model = bert()
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(parameter.requires_grad or name.startswith(trained))
        with pytest.raises(NoBorderError, match="trained from the first layer on") as error:
            find_border(model, INPUTS)
        assert not error.value.avoidable

    def test_dropout_at_the_bottom_leaves_none(self, bert):
        with pytest.raises(NoBorderError, match=r"model\.dropout=0") as error:
            find_border(bert(dropout=0.1), INPUTS)
        assert error.value.avoidable

    def test_dropout_further_up_bounds_it(self, bert):
        model = bert()
        model.bert.encoder.layer[1].output.dropout.p = 0.5
        assert find_border(model, INPUTS).below == [model.bert.encoder.layer[0]]

    def test_dropout_in_the_head_is_above_it(self, bert):
        model = bert()
        model.dropout.p = 0.5
        assert find_border(model, INPUTS).layers == 2

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_it_knows_the_type_under_autocast(self, bert, dtype):
        model = bert()
        border = find_border(model, INPUTS, dtype)
        with watching(border) as seen, torch.autocast("cpu", dtype):
            model(**INPUTS)
        assert border.dtype is seen[0].dtype

    def test_its_digest_is_of_what_is_below(self, bert):
        model = bert()
        digest = find_border(model, INPUTS).sha256
        with torch.no_grad():
            model.classifier.weight.add_(1)
            assert find_border(model, INPUTS).sha256 == digest
            model.bert.encoder.layer[0].output.dense.bias[0] += 1
        assert find_border(model, INPUTS).sha256 != digest

    def test_looking_for_it_leaves_no_trace(self, bert):
        model = bert(dropout=0.1).train()
        model.bert.encoder.layer[0].register_forward_hook(lambda *_: None)
        state = torch.get_rng_state()
        with pytest.raises(NoBorderError):
            find_border(model, INPUTS)
        assert torch.equal(torch.get_rng_state(), state)
        assert model.training
        assert sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()) == 1

    @pytest.mark.parametrize(("gain", "allowed"), [(0.0, True), (1.0, False)])
    def test_layers_that_hand_on_more_than_states_have_none(self, gain, allowed):
        model = Biased(gain)
        if allowed:
            assert find_border(model, INPUTS).layers == 2
        else:
            with pytest.raises(NoBorderError, match="hand on more"):
                find_border(model, INPUTS)

    def test_a_weight_that_is_used_without_a_call_counts_from_the_start(self):
        model = Biased(0.0)
        model.scale.requires_grad_(True)
        with pytest.raises(NoBorderError, match="trained from the first layer on"):
            find_border(model, INPUTS)


class Biased(nn.Module):
    """Its layers also change a bias that the head adds, like the positions' in T5; `gain` times."""

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, states, bias):
            bias += states.detach().mean()
            return self.linear(states), None

    def __init__(self, gain):
        super().__init__()
        self.gain, self.scale = gain, nn.Parameter(torch.ones(()))
        self.words = nn.Embedding(20, 4)
        self.layers = nn.ModuleList([self.Layer(), self.Layer()])
        self.requires_grad_(False)
        self.head = nn.Linear(4, 2)

    def forward(self, input_ids, attention_mask):
        states, bias = self.words(input_ids) * self.scale, torch.zeros(())
        for layer in self.layers:
            states, _ = layer(states, bias)
        return (self.head(states) + self.gain * bias,)


class TestStartingFrom:
    @pytest.mark.parametrize("top", [False, True])
    def test_the_same_logits_and_gradients_without_the_layers_below(self, bert, top):
        model = bert()
        if top:
            model.bert.encoder.layer[1].requires_grad_(True)
        border = find_border(model, INPUTS)
        with watching(border) as seen:
            expected = self.logits_and_gradients(model, INPUTS)
        calls = SimpleNamespace(below=0)
        below = model.bert.encoder.layer[: border.layers]
        for block in below:
            block.output.dense.register_forward_hook(lambda *_: setattr(calls, "below", calls.below + 1))
        states = seen[0] * INPUTS["attention_mask"].unsqueeze(-1)
        with starting_from(border, model):
            found = self.logits_and_gradients(model, {**INPUTS, STATES: states})
            assert calls.below == 0
            again = self.logits_and_gradients(model, INPUTS)
            assert calls.below == len(below)
        outside = self.logits_and_gradients(model, INPUTS)
        assert len(expected) == 1 + sum(p.requires_grad for p in model.parameters())
        for other in (found, again, outside):
            assert all(torch.equal(one, two) for one, two in zip(expected, other, strict=True))

    def logits_and_gradients(self, model, inputs):
        model.zero_grad()
        real = inputs["attention_mask"].bool()
        logits = model(**inputs).logits[real]
        logits.logsumexp(-1).sum().backward()
        return [logits.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]

    def test_a_pass_of_an_inner_module_skips_nothing(self, bert):
        """As in `generate`, which asks the model within an adapted one, or an encoder by itself."""
        model = bert()
        border = find_border(model, INPUTS)
        expected = model.bert(**INPUTS)[0]
        with starting_from(border, model):
            model(**INPUTS, **{STATES: torch.zeros(2, 5, 32)})
            assert torch.equal(model.bert(**INPUTS)[0], expected)
            model.classifier.register_forward_hook(lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                model(**INPUTS, **{STATES: torch.zeros(2, 5, 32)})
            assert torch.equal(model.bert(**INPUTS)[0], expected)

    def test_names_stay_as_they_are(self, bert):
        model = bert()
        names = list(model.state_dict())
        with starting_from(find_border(model, INPUTS), model):
            assert list(model.state_dict()) == names
