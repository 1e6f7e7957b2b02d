"""What every method must hold in a pack of runs: its models run as one, as each does alone, or not at all."""

from __future__ import annotations

import pytest
import torch
from tests.method_files import METHODS, tiers
from torch import nn

from peftlab.data.splits import split_files
from peftlab.methods.head import head_of
from peftlab.methods.method import MethodContext
from peftlab.packing.joint_model import JointModel
from peftlab.packing.rows import NotJoinableError
from peftlab.packing.run_context import RandomStates
from peftlab.speed.dropout import cheapen
from peftlab.speed.lora import fuse_lora

JOINED = {
    *("lora", "lora_plus", "rslora", "eva", "pissa", "olora"),
    *("head", "bitfit", "beft", "ia3", "ln_tuning", "loreft", "combined"),
    *("houlsby", "pfeiffer", "parallel", "compacter"),
}
"""The methods that packs are made for."""


OFTEN = {"lora", "houlsby", "bitfit", "prefix_tuning"}
"""Three that are joined, each in its way, and one that is not."""


@pytest.fixture(scope="module")
def task(spec):
    whole = spec("task=ner")
    files, fetched = split_files(whole.data.splits, whole.data.source.fetch(), folders=False), whole.data.source.fetch()
    examples = whole.data.format.read({"train": fetched.file(files["train"])})["train"]
    whole.task.learn_labels({"train": examples}, None)
    return whole.task


@pytest.fixture
def models(spec, backbones, pretrained, task):
    """Return a maker of models with dropout that have learnt something, each from another seed."""

    def make(name, *options):
        made = []
        for seed in range(3):
            model = backbones(seed, task)
            for module in model.modules():
                if isinstance(module, nn.Dropout):
                    module.p = 0.2
            context = MethodContext(head_of(model), task.head.task_type, pretrained.origin, task.head.outputs)
            model = spec(f"peft={name}", *options[seed : seed + 1]).peft.apply(model, context)
            fuse_lora(model)
            cheapen(model)
            with torch.no_grad():
                for parameter in model.parameters():
                    if parameter.requires_grad:
                        parameter.add_(0.05 * torch.randn_like(parameter))
            made.append(model.train())
        share(made)
        return made

    return make


def share(models):
    frozen = dict(models[0].named_parameters())
    for other in models[1:]:
        for name, parameter in other.named_parameters():
            if not parameter.requires_grad and torch.equal(parameter, frozen[name]):
                parameter.data = frozen[name].data


def inputs(rows, tokens):
    ids = torch.randint(5, 60, (rows, tokens), generator=torch.Generator().manual_seed(rows))
    mask = (torch.arange(tokens) < torch.arange(tokens, tokens - rows, -1)[:, None]).long()
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}


BATCHES = [inputs(3, 8), inputs(2, 11), inputs(3, 8)]


def states():
    return [torch.Generator().manual_seed(seed).get_state() for seed in range(len(BATCHES))]


def outcome(model, outputs):
    """Return the logits of a model and the gradients of its parameters, and take these from it."""
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
    model.zero_grad(set_to_none=True)
    return outputs.logits.detach(), torch.cat([gradient.flatten() for gradient in gradients])


def alone(models):
    outcomes = []
    for model, batch, state in zip(models, BATCHES, states(), strict=True):
        torch.set_rng_state(state)
        outputs = model(**batch)
        outputs.logits.square().sum().backward()
        outcomes.append(outcome(model, outputs))
    return outcomes


def together(models):
    outputs = JointModel(models, [RandomStates(cpu=state) for state in states()])(BATCHES)
    torch.autograd.backward([each.logits.square().sum() for each in outputs])
    return [outcome(*both) for both in zip(models, outputs, strict=True)]


@pytest.mark.one_in(3, "exhaustive")
@pytest.mark.parametrize("name", tiers(METHODS, default=OFTEN, slow=JOINED))
def test_models_run_as_one_or_not_at_all(models, name):
    three = models(name)
    expected = alone(three)
    try:
        joint = together(three)
    except NotJoinableError:
        assert name not in JOINED
        return
    except RuntimeError:  # of shapes, which a pack takes as a refusal
        assert name not in JOINED
        return
    for (logits, gradient), (own_logits, own_gradient) in zip(joint, expected, strict=True):
        torch.testing.assert_close(logits, own_logits, atol=1e-5, rtol=1e-5)
        assert (gradient - own_gradient).norm() < 1e-5 * own_gradient.norm()


@pytest.mark.slow
def test_ranks_and_scalings_may_differ(models):
    three = models("lora", "peft.r=2", "peft.r=8", "peft.lora_alpha=5")
    for joint, own in zip(together(three), alone(three), strict=True):
        torch.testing.assert_close(joint, own, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_weights_that_differ_are_not_taken_for_one_another(models):
    three = models("lora")
    word_embeddings = three[1].get_input_embeddings()
    word_embeddings.weight.data = word_embeddings.weight.data + 0.1
    for joint, own in zip(together(three), alone(three), strict=True):
        torch.testing.assert_close(joint, own, atol=1e-4, rtol=1e-4)
