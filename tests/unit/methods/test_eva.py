from __future__ import annotations

import torch

from peftlab.backbone import head_of
from peftlab.methods.eva import Eva, _rows
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


def test_it_does_not_look_at_virtual_tokens():
    real = torch.tensor([[True, True, False], [True, True, True]])
    states = torch.arange(2 * 5 * 4.0).reshape(2, 5, 4)  # the first two are virtual
    rows = _rows((states,), real, "layer")
    assert torch.equal(rows, torch.stack([states[0, 2], states[0, 3], states[1, 2], states[1, 3], states[1, 4]]))
