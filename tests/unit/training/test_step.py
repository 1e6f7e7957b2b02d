"""The gradient of a step: of any parts and pieces that of the whole, as often as it is asked for."""

from __future__ import annotations

import gc
import math
from collections.abc import Iterable
from contextlib import nullcontext
from functools import partial

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.checkpoint import checkpoint
from transformers import BertConfig, BertForSequenceClassification
from transformers.modeling_layers import GradientCheckpointingLayer

from peftlab.regularizers.sam import Sam
from peftlab.speed.lora import fuse_lora
from peftlab.tasks.batch import Batch
from peftlab.training.arithmetic import Arithmetic
from peftlab.training.micro_batches import MicroBatches
from peftlab.training.objective import Losses
from peftlab.training.step import Step

ROWS = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))


def batch(indices: list[int], scale: float) -> Batch:
    count = len(indices)
    return Batch({"x": ROWS[indices]}, {}, torch.ones(count), torch.arange(count), indices, count, scale=scale)


def halves(whole: Batch) -> list[Batch]:
    middle = (len(whole.examples) + 1) // 2
    cut = (whole.examples[:middle], whole.examples[middle:])
    return [batch(half, whole.scale * len(half) / len(whole.examples)) for half in cut]


class Model(nn.Linear):
    """Runs out of memory, in the forward or the backward pass, on more than so many rows."""

    most, where = 99, "forward"

    def losses(self, of: Batch) -> Losses:
        loss = self(of.inputs["x"]).pow(2).mean()
        if len(of.examples) > self.most:
            if self.where == "forward":
                raise MemoryError
            loss.register_hook(self.refuse)
        return Losses(loss, loss)

    def refuse(self, _):
        raise MemoryError


@pytest.fixture
def model(monkeypatch):
    # of memory that there is enough of, no garbage need be searched for, which takes a second each time
    monkeypatch.setattr("peftlab.training.micro_batches.garbage_collection_cuda", lambda: None)
    torch.manual_seed(0)
    return Model(3, 2)


def step_of(model, *parts):
    weights = list(model.parameters())
    return Step(parts, weights, MicroBatches("training", halves, lambda *_, **__: None), nullcontext)


def gradient(model, *parts, **options):
    step = step_of(model, *parts)
    loss = step.gradient(model.losses, **options)
    return [loss, *(weight.grad.clone() for weight in model.parameters())]


def test_parts_and_pieces_make_the_gradient_of_the_whole(model):
    whole = gradient(model, batch(list(range(7)), 1.0))
    parts = [batch([0, 3, 6], 3 / 7), batch([1, 4], 2 / 7), batch([2, 5], 2 / 7)]
    torch.testing.assert_close(gradient(model, *parts), whole)
    for model.most in (6, 3, 2, 1):
        for model.where in ("forward", "backward"):
            torch.testing.assert_close(gradient(model, batch(list(range(7)), 1.0)), whole)
            torch.testing.assert_close(gradient(model, *parts), whole)


def test_it_may_be_asked_for_again(model):
    step = step_of(model, batch([0, 1, 2], 0.5), batch([3, 4, 5], 0.5))
    first = [step.gradient(model.losses), model.weight.grad.clone()]
    with torch.no_grad():
        model.weight.mul_(2)
    step.gradient(model.losses)
    assert not torch.equal(model.weight.grad, first[1])
    with torch.no_grad():
        model.weight.div_(2)
    assert all(map(torch.equal, [step.gradient(model.losses), model.weight.grad], first))


def test_a_filler_counts_for_nothing(model):
    filler = batch([6], 0.0)
    filler.examples = []
    alone = gradient(model, batch([0, 1], 1.0))
    beside = gradient(model, batch([0, 1], 1.0), filler)
    torch.testing.assert_close(beside, alone)


def test_a_scale_is_that_of_the_gradient_and_not_of_the_loss(model):
    plain = gradient(model, batch([0, 1], 1.0))
    scaled = gradient(model, batch([0, 1], 1.0), scale=torch.tensor(8.0))
    assert torch.equal(scaled[0], plain[0])
    assert all(torch.equal(mine, 8 * own) for mine, own in zip(scaled[1:], plain[1:], strict=True))


def test_a_loss_that_is_not_finite_is_seen_in_every_gradient(model):
    spoilt = batch([0, 1], 0.0)  # even where it counts for nothing
    spoilt.inputs["x"] = torch.full((2, 3), torch.inf)
    found = gradient(model, batch([2, 3], 1.0), spoilt)
    assert not any(torch.isfinite(tensor).all() for tensor in found)


def test_where_nothing_may_be_cut_the_error_is_told(model):
    from peftlab.errors import OutOfMemoryError

    model.most = 1
    weights = list(model.parameters())
    step = Step([batch([0, 1], 1.0)], weights, MicroBatches("training", None, lambda *_, **__: None), nullcontext)
    with pytest.raises(OutOfMemoryError):
        step.gradient(model.losses)


def test_under_a_step_rule_loss_and_terms_are_of_the_same_weights():
    weight = nn.Parameter(torch.tensor([3.0, 4.0]))

    def losses_of(_):
        task, term = weight.pow(2).sum(), weight.sum()
        return Losses(task + term, task, None, {"term": term})

    step = Step([batch([0], 1.0)], [weight], MicroBatches("training", None, lambda *_, **__: None), nullcontext)
    step.take(Sam(radius=0.5), losses_of)
    assert (step.loss.item(), step.terms["term"].item()) == (32, 7)
    assert not torch.equal(weight.grad, torch.tensor([7.0, 9.0]))  # it was asked for elsewhere too


class Refusing(TorchDispatchMode):
    """Refuses memory at one operation, and knows which storages made so far are alive, but for scalars."""

    def __init__(self, at: float, known: Iterable[torch.Tensor]) -> None:
        super().__init__()
        self.at, self.count = at, 0
        self.known = {tensor.untyped_storage()._cdata for tensor in known}
        self.made: list[StorageWeakRef] = []
        self.left: list[StorageWeakRef] | None = None

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += 1
        if self.count == self.at:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate more")
        output = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(output):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self.known and storage.nbytes() > 8:
                    self.made.append(StorageWeakRef(storage))
        return output

    def look(self) -> None:
        self.left = [storage for storage in self.made if not storage.expired()]


@pytest.fixture(scope="module")
def lora():
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    bert = BertForSequenceClassification(BertConfig(vocab_size=16, max_position_embeddings=8, **sizes))
    model = get_peft_model(bert, LoraConfig("SEQ_CLS", r=2, target_modules=["query", "dense"]))
    fuse_lora(model)
    return model.train()


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "checkpointed"), [(torch.float32, False), (torch.bfloat16, True)])
def test_nothing_of_a_refused_attempt_is_alive_in_the_next(monkeypatch, lora, precision, checkpointed):
    """Wherever it is refused, while its operations are counted, and before any garbage is collected."""
    memories: list[Refusing] = []
    returned = "peftlab.training.micro_batches.garbage_collection_cuda"  # by then all is let go
    for module in lora.modules():
        if isinstance(module, GradientCheckpointingLayer):
            module.gradient_checkpointing = checkpointed
            module._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)
    weights = [weight for weight in lora.parameters() if weight.requires_grad]
    whole = batch([0, 1, 2, 3], 1.0)

    def losses_of(of: Batch) -> Losses:
        rows = len(of.examples)
        outputs = lora(input_ids=torch.ones(rows, 5, dtype=torch.long), labels=torch.zeros(rows, dtype=torch.long))
        return Losses(outputs.loss, outputs.loss)

    def refused(at: float) -> Refusing:
        pieces = MicroBatches("training", halves, lambda *_, **__: None)
        step = Step([whole], weights, pieces, lambda: torch.autocast("cpu", precision, precision != torch.float32))
        memories.append(Refusing(at, [*lora.parameters(), *lora.buffers()]))
        monkeypatch.setattr(returned, memories[-1].look)
        with memories[-1], Arithmetic():
            step.gradient(losses_of)
        return memories[-1]

    gc.disable()
    try:
        operations = refused(math.inf).count
        for at in range(20, operations, operations // 10):
            assert refused(at).left == [], f"at operation {at} of {operations}"
    finally:
        gc.enable()
