"""Methods that go on from the frozen updates of an earlier adapter, on a tiny BERT."""

from __future__ import annotations

import copy

import peft
import pytest
import torch
from safetensors.torch import load_file
from transformers import BertConfig, BertForSequenceClassification

from peftlab.errors import ConfigError
from peftlab.methods.continued import lora_layers, resolved_previous
from peftlab.methods.inflora import SUBSPACES, InfLora, grown, outside
from peftlab.methods.labels import save_labels
from peftlab.methods.method import MethodContext
from peftlab.methods.o_lora import OLora, share_in, spanned

OPTIONS = {"name": "x", "learning_rate": 1e-3, "peft_type": "LORA", "r": 3, "lora_alpha": 6}
HEAD = ("bert.pooler", "classifier")


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 32}
    dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return BertForSequenceClassification(BertConfig(vocab_size=50, num_labels=3, **sizes, **dropout)).eval()


def texts(seed, tokens=5, rows=1):
    ids = torch.randint(1, 50, (rows, tokens), generator=torch.Generator().manual_seed(seed))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


@pytest.fixture
def stage(backbone, tmp_path):
    """Return the function that makes a model of a method as if it were trained, and saves it: method, model, folder."""

    def make(kind, name, previous=None, batch=None, labels=("a", "b", "c"), move=0.3, **options):
        before = None if previous is None else resolved_previous(str(previous))
        method = kind(**OPTIONS | options, previous=before)
        context = MethodContext(HEAD, "SEQ_CLS", "made here", labels=labels, output="classifier")
        torch.manual_seed(1)
        model = method.apply(copy.deepcopy(backbone), context)
        method.begin(model, context)
        if batch is not None:
            method.calibrate(model, [batch])
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(move * torch.randn(parameter.shape))
        if batch is not None:
            method.conclude(model, [batch])
        folder = tmp_path / name
        folder.mkdir()
        method.save(model.eval(), folder, context)
        save_labels(labels, folder)
        return method, model, folder

    return make


@torch.no_grad()
def logits(model, batch=None):
    return model.eval()(**(batch or texts(9))).logits


def with_head_of(first, second):
    """Give the second model the head of the first."""
    for name, parameter in first.named_parameters():
        if "modules_to_save" in name:
            second.get_parameter(name).data.copy_(parameter.data)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [OLora, InfLora])
def test_a_chain_is_complete_in_its_last_folder(stage, backbone, kind):
    batches = [texts(n) if kind is InfLora else None for n in range(3)]
    _, first, folder = stage(kind, "a", batch=batches[0])
    _, _, folder = stage(kind, "b", folder, batch=batches[1])
    method, model, folder = stage(kind, "c", folder, batch=batches[2])
    out = logits(model)

    fresh = method.apply(copy.deepcopy(backbone), MethodContext(HEAD, "SEQ_CLS", "made here"))
    method.load(fresh, folder)  # the folders before are not read
    assert torch.equal(logits(fresh), out)

    theirs = peft.PeftModel.from_pretrained(copy.deepcopy(backbone), folder)  # a plain LoRA of nine ranks
    assert theirs.peft_config["default"].r == 9
    torch.testing.assert_close(logits(theirs), out)
    torch.testing.assert_close(logits(method.merge(copy.deepcopy(model))), out, atol=1e-5, rtol=1e-4)

    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert not any(name.endswith(".past") for name in trainable)
    assert any(name.endswith(".lora_B.default.new") for name in trainable)
    sizes = [sum(p.numel() for p in each.parameters() if p.requires_grad) for each in (first, model)]
    assert sizes[0] == sizes[1]


def test_it_begins_as_the_earlier_model_and_its_factors_do_not_matter(stage):
    _, first, folder = stage(OLora, "a")
    _, second, _ = stage(OLora, "b", folder, move=0, r=2, lora_alpha=8, use_rslora=True)
    torch.testing.assert_close(logits(second), logits(first))
    found = {name: p for name, p in second.named_parameters() if name.endswith(".new")}
    assert {parameter.shape[0 if ".lora_A." in name else 1] for name, parameter in found.items()} == {2}


def test_ranks_that_are_orthogonal_together_begin_as_the_earlier_model_too(stage):
    """Of which only the new ones are trained, whose own product would not be 0."""
    options = {"r": 2, "init_lora_weights": "orthogonal"}
    _, first, folder = stage(OLora, "a", **options)
    _, second, _ = stage(OLora, "b", folder, move=0, **options)
    torch.testing.assert_close(logits(second), logits(first))
    assert all(layer.lora_A["default"].new.any() for _, layer in lora_layers(second))


@pytest.mark.parametrize("value", ["gaussian", "orthogonal"])
def test_inflora_designs_its_beginning(value):
    with pytest.raises(ConfigError, match=r"init_lora_weights = .*: allowed with peft=x are true$"):
        InfLora(**OPTIONS, init_lora_weights=value)


def test_rows_of_the_head_are_taken_by_label(stage):
    _, first, folder = stage(OLora, "a")
    _, second, _ = stage(OLora, "b", folder, move=0, labels=("new", "c", "a"))
    old, new = (
        next(p for name, p in m.named_parameters() if "classifier.modules_to_save" in name) for m in (first, second)
    )
    assert torch.equal(new[1:], old[[2, 0]])
    assert not torch.equal(new[0], old[1])


def test_the_overlap_does_not_shrink_with_the_rows():
    earlier = torch.tensor([[2.0, 0.0, 0.0], [1.0, 1.0, 0.0]])
    basis = spanned(earlier)
    assert basis.shape == (2, 3)
    rows = torch.tensor([[3.0, 0.0, 0.0], [0.0, 0.0, 5.0], [0.0, 1.0, 1.0]])
    for size in (1.0, 1e-3):
        torch.testing.assert_close(share_in(size * rows, basis), torch.tensor((1 + 0 + 0.5) / 3))
    assert share_in(rows[1:2], basis) == 0


@pytest.mark.slow
def test_the_penalty_makes_the_new_rows_orthogonal(stage):
    _, _, folder = stage(OLora, "a")
    method, model, _ = stage(OLora, "b", folder, move=0)
    matrices = [layer.lora_A["default"] for _, layer in lora_layers(model)]
    optimizer = torch.optim.Adam([matrix.new for matrix in matrices], lr=0.05)
    start = method.penalty(model).item()
    shares = [share_in(matrix.new, matrix.basis) for matrix in matrices]
    assert start == pytest.approx(0.5 * sum(share.item() for share in shares))
    past = [matrix.past.clone() for matrix in matrices]
    for _ in range(60):
        optimizer.zero_grad()
        method.penalty(model).backward()
        optimizer.step()
    assert method.penalty(model).item() < 0.01 * start
    assert all(matrix.new.norm(dim=1).min() > 0.05 for matrix in matrices)
    assert all(torch.equal(matrix.past, before) for matrix, before in zip(matrices, past, strict=True))
    assert stage(OLora, "c", folder, move=0, orthogonal=0.0)[0].penalty(model) is None
    assert OLora(**OPTIONS).penalty(model) is None


@pytest.mark.slow
def test_inflora_changes_nothing_on_earlier_inputs(stage):
    """With all their directions kept out, whatever B becomes: not layer by layer, nor in the logits."""
    old = [texts(1), texts(2, 4)]
    _, first, folder = stage(InfLora, "a", batch=old[0], energy=1.0)
    _, second, folder = stage(InfLora, "b", folder, batch=old[1], energy=1.0)
    _, third, _ = stage(InfLora, "c", folder, batch=texts(3), energy=1.0, move=1.0)
    with_head_of(first, second)
    with_head_of(first, third)
    torch.testing.assert_close(logits(second, old[0]), logits(first, old[0]), atol=3e-4, rtol=0)
    for batch in old:
        torch.testing.assert_close(logits(third, batch), logits(second, batch), atol=3e-4, rtol=0)
    assert (logits(third, texts(3)) - logits(second, texts(3))).abs().max() > 0.05
    own = [layer.lora_A["default"].new for _, layer in lora_layers(third)]
    torch.testing.assert_close(own[0].norm(dim=1), torch.full((3,), 3**-0.5))


def test_plain_lora_does_change_them(stage):
    _, first, folder = stage(OLora, "a")
    _, second, _ = stage(OLora, "b", folder)
    with_head_of(first, second)
    assert (logits(second) - logits(first)).abs().max() > 0.01


def test_subspaces_grow_until_they_hold_the_energy():
    inputs = torch.diag(torch.tensor([4.0, 3.0, 2.0, 1.0, 0.0])) ** 2  # of 30
    one = grown(None, inputs, 0.5)
    torch.testing.assert_close(one.abs(), torch.eye(5)[:1])
    two = grown(one, inputs, 0.8)
    torch.testing.assert_close(two.abs(), torch.eye(5)[:2])
    assert grown(two, inputs, 0.8).shape == (2, 5)
    assert grown(two, inputs, 1.0).shape == (4, 5)
    directions, shares = outside(inputs, two)
    torch.testing.assert_close(directions[:2].abs(), torch.eye(5, dtype=torch.float64)[2:4])
    torch.testing.assert_close(shares, torch.tensor([4, 1, 0, 0, 0], dtype=torch.float64) / 30)


def test_where_no_direction_is_left_nothing_is_trained_silently(stage):
    full = texts(1, tokens=40, rows=4)
    _, _, folder = stage(InfLora, "a", batch=full, energy=1.0)
    with pytest.raises(ConfigError, match="so that nothing could be learnt"):
        stage(InfLora, "b", folder, batch=full, energy=1.0)


@pytest.mark.slow
def test_what_cannot_be_gone_on_from(stage, tmp_path):
    _, _, folder = stage(OLora, "a")
    with pytest.raises(ConfigError, match=f"it has no {SUBSPACES}"):
        stage(InfLora, "b", folder)
    with pytest.raises(ConfigError, match=r"it adapts .*attention.output.dense.*, and this run does not"):
        stage(OLora, "c", folder, target=["query"])
    with pytest.raises(ConfigError, match=r"it has no .*lora_A of the shape"):
        stage(OLora, "d", stage(OLora, "only", target=["query"])[2])
    with pytest.raises(ConfigError, match=r"peft\.r=22: the earlier updates read 3 of the 24 directions"):
        stage(OLora, "e", folder, r=22)
    resolved = resolved_previous(str(folder))
    assert resolved_previous(resolved) == resolved
    with pytest.raises(ConfigError, match="it has changed since this run began with it"):
        resolved_previous(resolved | {"sha256": "another"})
    with pytest.raises(ConfigError, match="expected one run or the folder of an adapter"):
        resolved_previous([str(folder)])
    with pytest.raises(ConfigError, match=r"peft\.use_dora: with it the update is no plain product"):
        OLora(**OPTIONS, use_dora=True)
    assert {name for name in load_file(folder / "adapter_model.safetensors") if "past" in name} == set()
