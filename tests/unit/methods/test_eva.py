from __future__ import annotations

import pytest
import torch

from peftlab.errors import ConfigError
from peftlab.methods.eva import Eva
from peftlab.methods.head import head_of
from peftlab.methods.layer_inputs import Real, real_tokens, rows_of
from peftlab.methods.method import MethodContext


def test_it_begins_with_the_directions_in_which_the_inputs_vary(pretrained, ner):
    model = pretrained.backbone(ner()).eval()
    context = MethodContext(head_of(model), "TOKEN_CLS", "here")
    options = {"peft_type": "LORA", "r": 3, "init_lora_weights": "eva", "target": "query"}
    method = Eva(name="x", learning_rate=1e-3, batches=1, **options)
    torch.manual_seed(0)
    tuned = method.apply(model, context).eval()
    ids = torch.randint(5, 20, (6, 10))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    seen = []
    layer = tuned.base_model.model.bert.encoder.layer[1].attention.self.query
    hook = layer.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach().flatten(0, 1)))
    before = tuned(**batch).logits
    hook.remove()

    def batches():
        yield batch
        raise AssertionError("it was to take one batch only")

    method.calibrate(tuned, batches())
    centred = seen[0] - seen[0].mean(0)
    expected = torch.linalg.svd(centred)[2][:3]
    found = layer.lora_A["default"].weight
    torch.testing.assert_close((found @ expected.T).abs(), torch.eye(3), atol=1e-3, rtol=0)
    torch.testing.assert_close(tuned(**batch).logits, before)


def test_batches_that_are_too_small_do_not_make_it_search_for_ever(pretrained, ner):
    model = pretrained.backbone(ner())
    method = Eva(name="x", learning_rate=1e-3, batches=2, peft_type="LORA", r=8, init_lora_weights="eva")
    tuned = method.apply(model, MethodContext(head_of(model), "TOKEN_CLS", "here"))
    ids = torch.ones(1, 7).long()
    with pytest.raises(ConfigError, match=r"the largest has 7\. Set peft\.r=7"):
        method.calibrate(tuned, [{"input_ids": ids, "attention_mask": ids}] * 2)


def test_its_settings_are_not_the_librarys():
    with pytest.raises(ConfigError, match=r"peft\.eva_config is no option"):
        Eva(name="x", learning_rate=1e-3, peft_type="LORA", init_lora_weights="eva", eva_config={"rho": 2.0})


def test_it_does_not_look_at_virtual_tokens():
    real = torch.tensor([[True, True, False], [True, True, True]])
    states = torch.arange(2 * 5 * 4.0).reshape(2, 5, 4)  # the first two are virtual
    rows = rows_of((states,), Real(real, None), "layer")
    assert torch.equal(rows, torch.stack([states[0, 2], states[0, 3], states[1, 2], states[1, 3], states[1, 4]]))


def test_of_rows_of_several_texts_it_leaves_out_what_follows_the_last():
    numbers = torch.tensor([[0, 1, 2, 0, 1, 0, 0], [0, 1, 0, 1, 0, 1, 2]])
    real = real_tokens(0, {"input_ids": numbers + 5, "position_ids": numbers}, None)
    assert real.targets is None
    assert real.tokens.int().tolist() == [[1, 1, 1, 1, 1, 0, 0], [1] * 7]


def test_a_decoder_has_padding_of_its_own():
    source, target = torch.tensor([[1, 1, 1], [1, 0, 0]]), torch.tensor([[0, 7, 8, 0], [0, 9, 0, 0]])
    real = real_tokens(0, {"input_ids": source, "attention_mask": source, "decoder_input_ids": target}, None)
    encoded, written = torch.rand(2, 3, 4), torch.rand(2, 4, 4)
    for name, states, tokens in (
        ("encoder.block.0.layer.0.SelfAttention.k", encoded, 4),
        ("decoder.block.0.layer.0.SelfAttention.k", written, 5),
        ("decoder.block.0.layer.1.EncDecAttention.q", written, 5),
        ("decoder.block.0.layer.1.EncDecAttention.k", encoded, 4),
        ("model.decoder.layers.1.encoder_attn.v_proj", encoded, 4),
        ("model.decoder.layers.1.encoder_attn.out_proj", written, 5),
    ):
        rows = rows_of((states,), real, name)
        assert len(rows) == tokens, name
        assert torch.equal(rows[-1], states[1, 1] if states is written else states[1, 0]), name
