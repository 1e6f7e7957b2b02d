"""What holds of the gradients of single examples, for every method of ``conf/peft/`` and every task."""

from __future__ import annotations

import copy
from contextlib import nullcontext

import pytest
import torch
from tests.method_files import METHODS, tiers

from peftlab.data.splits import split_files
from peftlab.methods.head import head_of
from peftlab.methods.method import MethodContext
from peftlab.privacy.choice import choose, disagreement
from peftlab.privacy.per_example import Computed, Hooks, Learner, OneByOne, UnfitError, Vmap, Way
from peftlab.tasks.limits import Limits

OFTEN = ["lora", "prefix_tuning", "dora", "houlsby", "vera", "full"]
BY_HOOKS = {"head", "lora", "bitfit", "ln_tuning", "top_layers", "houlsby"}
"""Methods whose parameters all belong to linear layers and norms: the fastest way must do for them."""
ONE_BY_ONE = {"c3a", "frod", "loha", "lokr", "osf", "randlora", "shira", "waveft"}
"""Methods with autograd functions, sparse tensors or decisions on values, which cannot be mapped, or not exactly."""


@pytest.fixture(scope="module")
def material(spec, data_for, pretrained):
    """Return, for a task, itself, some encoded examples, and their batch."""

    def make(name):
        whole = spec(f"task={name}", *data_for(spec(f"task={name}").task))
        files = split_files(whole.data.splits, whole.data.source.fetch(), folders=False)
        read = whole.data.format.read({"train": whole.data.source.fetch().file(files["train"])})["train"]
        task = copy.deepcopy(whole.task)
        task.bind(pretrained.processor("tokenizer"))
        task.learn_labels({"train": read}, None)
        examples = read[:6]
        encoded = task.encode(
            examples, pretrained.processor("tokenizer"), Limits(12, "split" if name == "ner" else "truncate")
        )
        task.settle(examples, encoded)
        return task, examples, encoded

    made = {}
    return lambda name: made.get(name) or made.setdefault(name, make(name))


@pytest.fixture
def learner(material, backbones, pretrained, spec):
    """Return a maker of a learner for a task and a method, whose trained weights are not those it begins with."""

    def make(task_name, method, dropout=0.0):
        task, examples, encoded = material(task_name)
        model = backbones(0, task)
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = dropout
        context = MethodContext(head_of(model), task.head.task_type, pretrained.origin, task.head.outputs)
        model = spec(f"peft={method}").peft.apply(model, context).train()
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        noise = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in trained.values():
                parameter.add_(0.02 * torch.randn(parameter.shape, generator=noise))

        def collated(places):
            return task.collate(examples, encoded, places)

        def forward(batch):
            return model(**batch.inputs)

        def pick(batch, places):
            return collated([examples.index(batch.examples[place]) for place in places])

        own = Learner(model, task, trained, forward, nullcontext, pick, lambda batch: batch.weights)
        return own, collated(range(len(examples)))

    return make


def by_hand(learner, batch):
    """The gradients of single examples, by the loss that a training without privacy would have of each alone."""
    of_examples = []
    for place in range(len(batch.examples)):
        one = learner.pick(batch, [place])
        learner.model.zero_grad()
        learner.task.loss(learner.forward(one), one).backward()
        of_examples.append([torch.zeros_like(p) if p.grad is None else p.grad for p in learner.trained.values()])
    return Computed([torch.stack(each) for each in zip(*of_examples, strict=True)], torch.zeros(len(of_examples)))


@pytest.mark.one_in(3, "exhaustive")
@pytest.mark.one_in(6, "slow")
@pytest.mark.parametrize("task", ["ner", "classification"])
@pytest.mark.parametrize("method", tiers(METHODS, OFTEN))
def test_the_chosen_way_gives_the_gradient_of_each_example(learner, method, task):
    own, batch = learner(task, method)
    choice = choose(own, batch)
    own.model.eval()  # of methods that draw random numbers in training
    assert disagreement(choice.way(batch), by_hand(own, batch)) <= 1e-5
    if method in BY_HOOKS:
        assert choice.way.name == "hooks", choice.others
    elif method not in ONE_BY_ONE:
        assert choice.way.name in ("hooks", "vmap"), choice.others


TASKS = ["ner", "classification", "multilabel", "regression", "choice", "relation", "qa", "joint"]


@pytest.mark.slow
def test_each_way_is_right_for_every_task(learner):
    """Rows are examples in some tasks, parts of one in others, and compared with each other in `choice`."""
    for task in TASKS:
        own, batch = learner(task, "lora")
        own.model.eval()
        expected = by_hand(own, batch)
        for way in (Hooks, Vmap, OneByOne):
            most = 1e-4 if task == "choice" else 1e-5  # of choices that an untrained model finds alike, little is left
            assert disagreement(way(own)(batch), expected) <= most, (task, way.name)


def test_a_shared_place_is_put_back(learner):
    """Unilora's layers share one module with the trained vector, which a swap by names would lose."""
    own, batch = learner("ner", "unilora")
    Vmap(own)(batch)
    own.model.zero_grad()
    own.task.loss(own.forward(batch), batch).backward()
    assert all(parameter.grad.norm() > 0 for parameter in own.trained.values())


def test_dropout_is_drawn_for_each_example(learner):
    """With weights that give every example the same gradient but for dropout, no two gradients are equal."""
    own, batch = learner("classification", "lora", dropout=0.5)
    same = own.pick(batch, [0, 0, 0])
    for way in (Hooks, Vmap, OneByOne):
        (weight,) = (
            g
            for name, g in zip(own.trained, way(own)(same).gradients, strict=True)
            if "classifier" in name and g.dim() == 3
        )
        assert not torch.allclose(weight[0], weight[1]), way.name


class Wrong(Hooks):
    """A way that mixes examples up."""

    def __call__(self, batch):
        right = super().__call__(batch)
        return Computed([None if g is None else g.flip(0) for g in right.gradients], right.losses)


class Refusing(Way):
    name = "refusing"

    def __call__(self, batch):
        raise UnfitError("never")


def test_a_wrong_way_is_not_taken_and_nothing_is_changed_by_trying(learner):
    own, batch = learner("ner", "lora", dropout=0.1)
    before, state = {n: p.detach().clone() for n, p in own.trained.items()}, torch.get_rng_state()
    choice = choose(own, batch, (Wrong, Refusing, OneByOne))
    assert isinstance(choice.way, OneByOne)
    assert "differ" in choice.others["hooks"]
    assert "never" in choice.others["refusing"]
    assert all(torch.equal(p, before[n]) for n, p in own.trained.items())
    assert torch.equal(torch.get_rng_state(), state)
    assert own.model.training
