"""What every regulariser of ``conf/regularizer/`` must hold. A new file there is tested without a change here."""

from __future__ import annotations

import csv
import os
import signal
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from peftlab.composing.compose import conf_dir
from peftlab.data.splits import split_files
from peftlab.one_run import run
from peftlab.regularizers.regularizer import KINDS, Computed, Term
from peftlab.regularizers.repeatable import RepeatablePass
from peftlab.tasks.batch import Batch
from peftlab.tasks.limits import Limits
from peftlab.terminal.signals import Interrupted
from peftlab.training.interruption import Interruption
from peftlab.training.objective import Objective

REGULARIZERS = sorted(path.stem for path in (conf_dir() / "regularizer").glob("*.yaml"))
STEPS = ["budget.max_steps=8", "budget.test=false", "callbacks=[]", "optimizer.lr=1e-2", "peft=full"]


@pytest.fixture(params=REGULARIZERS)
def option(request):
    return request.param


@pytest.fixture
def regularizer(option, spec):
    return spec(f"regularizer=[{option}]").regularizer[option]


def test_it_is_of_one_kind(regularizer):
    assert sum(isinstance(regularizer, kind) for kind in KINDS) == 1
    assert regularizer.off is None
    assert regularizer.neutral  # it can be turned off, as one arm of a sweep
    for name, value in regularizer.neutral.items():
        assert replace(regularizer, **{name: value}).off == f"{name}={value:g}"


def test_a_term_is_one_number_an_example_in_any_company(option, regularizer, spec, data_for, pretrained):
    """And makes as many passes as it says. What it compares with is made by another model, so that it is no zero."""
    if not isinstance(regularizer, Term):
        return
    for name in ("ner", "classification"):
        task = spec(f"task={name}").task
        data = spec(f"task={name}", *data_for(task)).data
        fetched = data.source.fetch()
        files = split_files(data.splits, fetched, folders=False)
        examples = data.format.read({"train": fetched.file(files["train"])})["train"][:6]
        task.learn_labels({"train": examples}, None)
        torch.manual_seed(0)
        model, other = (pretrained.backbone(task).eval() for _ in range(2))
        other = model if regularizer.from_embeddings else other
        encoded = task.encode(examples, pretrained.processor(task.processor), Limits(128, "truncate"))
        passes = []

        def forward(batch, other=other, passes=passes):
            passes.append(batch)
            return other(**batch.inputs)

        def losses(indices, task=task, examples=examples, encoded=encoded, model=model, forward=forward, passes=passes):
            batch, first = task.collate(examples, encoded, indices), None
            if regularizer.from_embeddings:
                first = RepeatablePass(model, forward, batch, list(model.parameters()))
                first.differentiate(task.loss(first.outputs, batch), keep_graph=True)
                passes.clear()
            computed = Computed(task, model, forward, batch, first.outputs if first else model(**batch.inputs), first)
            return regularizer.losses(computed).detach()

        together = losses(range(6))
        assert together.shape == (6,)
        assert together.abs().min() > 0
        assert len(passes) == regularizer.passes
        if not (regularizer.couples or regularizer.draws):
            for i in range(6):
                torch.testing.assert_close(losses([i]), together[i : i + 1], rtol=1e-3, atol=1e-5)


def test_a_term_is_part_of_the_objective_under_its_name(option, regularizer):
    if not isinstance(regularizer, Term):
        return
    weights = {name: value for name, value in vars(regularizer).items() if isinstance(value, float)}
    assert weights  # how strong it is can be set
    assert Objective(None, None, None, {option: regularizer}).differentiates == regularizer.from_embeddings


class TestRuns:
    @pytest.fixture
    def trained(self, compose_config, tiny_overrides, option):
        def train(*overrides, regularizers=f"[{option}]"):
            return run(compose_config(*tiny_overrides, *STEPS, f"regularizer={regularizers}", *overrides))

        return train

    def weights(self, record):
        return load_file(record.folder / "checkpoints" / "best.safetensors")

    def test_it_changes_what_is_learnt_and_is_part_of_the_identity(self, trained, regularizer, option):
        with_it, without = trained("run_dir=with"), trained("run_dir=without", regularizers="[]")
        assert with_it.data["identity"]["sha256"] != without.data["identity"]["sha256"]
        assert any(not torch.equal(one, other) for one, other in zip(*self.both(with_it, without), strict=True))
        with (with_it.folder / "metrics.csv").open() as file:
            columns = next(csv.reader(file))
        assert (f"train/{option}" in columns) == isinstance(regularizer, Term)
        what_it_did = with_it.extensions["regularizers"][option]
        assert what_it_did.pop("passes") == regularizer.passes
        assert all(what_it_did.values())
        for name, value in regularizer.neutral.items():
            turned_off = trained(f"run_dir={name}", f"regularizer.{option}.{name}={value}")
            assert all(torch.equal(one, other) for one, other in zip(*self.both(turned_off, without), strict=True))

    def both(self, one, other):
        first, second = self.weights(one), self.weights(other)
        assert first.keys() == second.keys()
        return [first[name] for name in first], [second[name] for name in first]

    def compare(self, trained, divided):
        exact = ["model.dropout=0", "model.attention_dropout=0", "optimizer=sgd", "optimizer.lr=0.1"]
        whole = trained(*exact, "run_dir=whole")
        for name, overrides in divided.items():
            found = trained(*exact, *overrides, f"run_dir={name}")
            for one, other in zip(*self.both(found, whole), strict=True):
                torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)

    def test_it_is_the_same_in_parts_and_pieces(self, trained, small_memory, regularizer):
        if not regularizer.draws:
            self.compare(trained, {"parts": ["trainer.accumulate=2"], "pieces": small_memory("backward")})

    @pytest.mark.slow
    def test_it_is_the_same_on_two_devices(self, trained, regularizer):
        if not regularizer.draws:
            self.compare(trained, {"ranks": ["trainer.devices=2"]})

    def test_a_run_that_is_resumed_is_the_run(self, trained, monkeypatch):
        whole = trained("run_dir=whole")
        let_through = Interruption.on_train_batch_start

        def signalling(self, trainer, *rest):
            if trainer.global_step == 3:
                monkeypatch.setattr(Interruption, "on_train_batch_start", let_through)
                os.kill(os.getpid(), signal.SIGTERM)
            let_through(self, trainer, *rest)

        monkeypatch.setattr(Interruption, "on_train_batch_start", signalling)
        with pytest.raises(Interrupted):
            trained("run_dir=parts")
        resumed = trained("run_dir=parts")
        assert resumed.resumed_at == 3
        assert all(torch.equal(one, other) for one, other in zip(*self.both(resumed, whole), strict=True))


class TestSam:
    def test_it_is_the_gradient_at_the_worst_weights_near_by(self):
        from peftlab.regularizers.sam import Sam

        weight = nn.Parameter(torch.tensor([3.0, 4.0]))
        asked = []

        def ask():
            asked.append(weight.detach().clone())
            weight.grad = 2 * weight.detach()  # of the loss |w|^2
            return weight.detach().pow(2).sum()

        loss = Sam(radius=0.5).gradient(ask, [weight])
        assert loss == 25
        torch.testing.assert_close(asked[1], torch.tensor([3.3, 4.4]))
        torch.testing.assert_close(weight.grad, torch.tensor([6.6, 8.8]))
        assert weight.tolist() == [3.0, 4.0]

    def test_what_is_not_finite_is_left_to_the_guard(self):
        from peftlab.regularizers.sam import Sam

        weight = nn.Parameter(torch.ones(2))

        def ask():
            weight.grad = torch.full((2,), torch.nan)
            return torch.tensor(torch.nan)

        assert Sam().gradient(ask, [weight]).isnan()
        assert weight.tolist() == [1, 1]


def test_l2_sp_draws_to_the_start_and_not_to_zero():
    from peftlab.regularizers.l2_sp import L2Sp

    weight, rule = nn.Parameter(torch.tensor([1.0, -1.0])), L2Sp(strength=0.5)
    rule.begin({"w": weight})
    with torch.no_grad():
        weight.add_(2)
    rule.after_step({"w": weight}, {"w": 0.1})
    torch.testing.assert_close(weight.detach(), torch.tensor([3.0 - 0.05 * 2, 1.0 - 0.05 * 2]))


def test_rdrop_is_half_of_the_papers_objective():
    from transformers.utils import ModelOutput

    from peftlab.regularizers.rdrop import RDrop
    from peftlab.tasks.classification import Classification
    from peftlab.tasks.task import Selection

    task = Classification(name="classification", selection=Selection(metric="macro_f1"))
    task.labels = ["a", "b", "c"]
    gold = torch.tensor([0, 2])
    weights = torch.ones(2, dtype=torch.float64)
    batch = Batch({}, {"labels": gold}, weights, rows=torch.arange(2), examples=["a", "b"], tokens=2)
    first, second = torch.randn(2, 3), torch.randn(2, 3)
    computed = Computed(task, None, lambda _: ModelOutput(logits=second), batch, ModelOutput(logits=first))
    p, q = first.double().softmax(-1), second.double().softmax(-1)
    nll = -(p[range(2), gold].log() + q[range(2), gold].log())
    kl = ((p * (p / q).log()).sum(-1) + (q * (q / p).log()).sum(-1)) / 2
    expected = (nll + 3.0 * kl) / 2 + p[range(2), gold].log()
    torch.testing.assert_close(RDrop(strength=3.0).losses(computed).double(), expected, rtol=1e-5, atol=1e-6)
