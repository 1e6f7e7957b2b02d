"""What every regulariser of ``conf/regularizer/`` must hold. A new file there is tested without a change here."""

from __future__ import annotations

import csv
import math
import os
import re
import signal
from dataclasses import replace
from functools import partial

import pytest
import torch
from hydra.utils import get_class
from omegaconf import OmegaConf
from safetensors.torch import load_file
from tests.regularizer_files import REGULARIZERS, only, refer, teach
from tests.tiny_models import OF_HEADS
from torch import nn

from peftlab.config import resolve, validate
from peftlab.data.splits import split_files
from peftlab.data.static_shapes import StaticShapes
from peftlab.errors import ConfigError, UserError
from peftlab.one_run import run
from peftlab.regularizers.earlier import Earlier, Importance
from peftlab.regularizers.ewc import Ewc
from peftlab.regularizers.regularizer import KINDS, Computed, Material, Term, WeightAverage
from peftlab.regularizers.repeatable import RepeatablePass
from peftlab.runs.folder import RunFolder
from peftlab.tasks.batch import Batch
from peftlab.tasks.limits import Limits
from peftlab.terminal.signals import Interrupted
from peftlab.training.interruption import Interruption
from peftlab.training.objective import Objective
from peftlab.use.check import check

CROSSED = [
    ("ner", "prefix_tuning"),
    ("ner", "ia3"),
    ("regression", "lora"),
    ("ner", "bitfit"),
    ("qa", "lora"),
    ("ner", "houlsby"),
    ("causal_lm", "lora"),
    ("ner", "lora"),
    ("seq2seq", "lora"),
]
"""Each family of methods on a task, and each kind of task with a method: tags, a number, a piece of a text, texts."""
REFUSED = {
    "regression": {
        "confidence_penalty": "the distribution over classes",
        "ewc": "defines no distributions",
        "focal": "the distribution over classes",
        "reweight": "has no classes",
    },
    "qa": {"der": "no logits of its labels", "reweight": "has no classes"},
    "causal_lm": {
        "der": "task.packing",
        "group_dro": "all 48 training examples are in the group 'places'",
        "mixup": "task.packing",
        "rdrop": "no dropout is active in this model",
        "reweight": "all 48 training examples are in the group 'places'",
    },
    "seq2seq": {
        "der": "no logits of its labels",
        "group_dro": "all 48 training examples are in the group 'places'",
        "layerdrop": "hand on more than hidden states",
        "mixup": "the decoder would read the target",
        "reweight": "all 48 training examples are in the group 'places'",
    },
}
"""What does not go together with the task or its tiny data, and why; every other regulariser acts."""
STEPS = ["budget.max_steps=8", "budget.test=false", "callbacks=[]", "optimizer.lr=1e-2", "peft=full"]


@pytest.fixture(params=REGULARIZERS)
def option(request):
    return request.param


@pytest.fixture(scope="module")
def all_chosen(compose_config, tiny_model, tiny_data, tmp_path_factory, made_once):
    """Return the configuration of a tiny run with every regulariser, composed once; teachers are a run without any."""
    tiny = ["model=folder", f"model.path={tiny_model}", "data=files", f"data.path={tiny_data}", "trainer=cpu"]
    tiny += ["trainer.precision=32-true"]  # bf16 is what auto means on some processors
    cfg = compose_config(*tiny, *STEPS, "trainer.log_every=1", f"regularizer=[{','.join(REGULARIZERS)}]")
    made = partial(made_once, "teacher", partial(teach, cfg))
    refer(cfg, tmp_path_factory.mktemp("terms"), made)
    return cfg


@pytest.fixture(scope="module")
def chosen(all_chosen):
    """Return the function from some of the regularisers to the configuration with these."""
    return partial(only, all_chosen)


@pytest.fixture
def regularizer(option, chosen):
    return validate(resolve(chosen([option]))).regularizer[option]


@pytest.mark.one_in(4, "slow")
def test_it_is_of_one_kind(regularizer):
    assert sum(isinstance(regularizer, kind) for kind in KINDS) == 1
    assert regularizer.off is None
    assert regularizer.neutral  # it can be turned off, as one arm of a sweep
    assert not regularizer.passes or re.search(r"makes\s+.*\s+passes", type(regularizer).__doc__)  # its cost is stated
    for name, value in regularizer.neutral.items():
        assert replace(regularizer, **{name: value}).off == f"{name}={value:g}"


class Teaching(Earlier):
    """A model, as a finished run that is learnt from has it."""

    sha256 = place = weights_sha256 = ""
    reads_alike = begun_with = True
    model = None

    def __init__(self, model, run, task=None, encoded=None, passes=None):
        self.model, self.task, self.encoded, self.passes = model, task, encoded, passes

    def outputs(self, batch):
        self.passes.append(batch)
        return self.model(**batch.inputs)

    def importance(self, examples):
        weights = dict(self.model.named_parameters())
        return Importance(weights, {name: torch.ones_like(weight) for name, weight in weights.items()}, frozenset())

    @torch.no_grad()
    def logits(self, examples):
        batches = [self.task.collate(examples, self.encoded, [place]) for place in range(len(examples))]
        return [self.model(**batch.inputs).logits.numpy() for batch in batches]


@pytest.mark.one_in(4, "slow")
def test_a_term_is_one_number_an_example_in_any_company(option, regularizer, spec, data_for, pretrained, backbones):
    """And makes as many passes as it says. What it compares with is made by another model, so that it is no zero.

    Nor does it matter how far rows are padded, and what fills up the batch.
    """
    if not isinstance(regularizer, Term):
        return
    for name in ("ner", "classification"):
        task = spec(f"task={name}").task
        data = spec(f"task={name}", *data_for(task)).data
        fetched = data.source.fetch()
        files = split_files(data.splits, fetched, folders=False)
        examples = data.format.read({"train": fetched.file(files["train"])})["train"][:6]
        task.learn_labels({"train": examples}, None)
        model, other = backbones(0, task), backbones(1, task)
        other = model if regularizer.from_embeddings else other
        encoded = task.encode(examples, pretrained.processor(task.processor), Limits(128, "truncate"))
        everything = range(len(examples))
        if isinstance(getattr(regularizer, "sha256", None), str):
            regularizer.sha256 = None  # these are other texts
        weights = partial(task.weights, examples, encoded, everything)
        passes = []
        earlier = partial(Teaching, backbones(1, task), task=task, encoded=encoded, passes=passes)
        material = Material(task, examples, weights, data.format, earlier, earlier, [("", examples)])
        regularizer.prepare(material)
        if isinstance(regularizer, Ewc):  # another reads hidden states from then on
            regularizer.set_up(model)

        def forward(batch, other=other, passes=passes):
            passes.append(batch)
            return other(**batch.inputs)

        def losses(
            indices,
            size=None,
            task=task,
            examples=examples,
            encoded=encoded,
            model=model,
            forward=forward,
            passes=passes,
        ):
            batch, first = task.collate(examples, encoded, indices), None
            batch = batch if size is None else StaticShapes(64).padded(batch, size)
            if regularizer.from_embeddings:
                first = RepeatablePass(model, forward, batch, list(model.parameters()))
                first.differentiate(batch.mean(task.losses(first.outputs, batch)), keep_graph=True)
                passes.clear()
            computed = Computed(task, model, forward, batch, first.outputs if first else model(**batch.inputs), first)
            torch.manual_seed(0)
            return regularizer.losses(computed).detach()

        together = losses(range(6))
        assert together.shape == (6,)
        assert together.abs().min() > 0
        assert len(passes) == regularizer.passes
        filled = losses(range(6), size=9)
        assert filled.shape == (9,)
        assert filled.isfinite().all()
        if regularizer.couples or not regularizer.draws:  # what couples examples draws a permutation of them
            torch.testing.assert_close(filled[:6], together, rtol=1e-3, atol=1e-5)
        if not (regularizer.couples or regularizer.draws):
            for i in range(6):
                torch.testing.assert_close(losses([i]), together[i : i + 1], rtol=1e-3, atol=1e-5)


def test_a_term_is_part_of_the_objective_under_its_name(option, regularizer):
    if not isinstance(regularizer, Term):
        return
    weights = {name: value for name, value in vars(regularizer).items() if isinstance(value, float)}
    assert weights  # how strong it is can be set
    assert Objective(None, None, None, {option: regularizer}).differentiates == regularizer.from_embeddings


@pytest.fixture
def trained(chosen, tmp_path):
    """Return the function that trains with some of the regularisers, under overrides by their keys."""

    def train(name, options, overrides=None):
        cfg = chosen(options)
        for key, value in {"run_dir": str(tmp_path / name), **(overrides or {})}.items():
            OmegaConf.update(cfg, key, value, force_add=True)
        return run(cfg)

    return train


@pytest.fixture
def trained_once(trained, made_once):
    """Return the function from the name of such a run, and the same, to its folder: it is made once."""

    def train(name, options, overrides=None):
        def fill(folder):
            trained("run", options, {**(overrides or {}), "run_dir": str(folder / "run")})

        return made_once(name, fill) / "run"

    return train


def weights(folder):
    tensors = load_file(folder / "checkpoints" / "best.safetensors")
    return [tensors[name] for name in sorted(tensors)]


def equal(one, other):
    return all(torch.equal(*both) for both in zip(weights(one), weights(other), strict=True))


@pytest.mark.slow
def test_each_acts_and_is_part_of_the_identity(chosen, trained):
    """In as few runs as they go together in."""
    for number, group in enumerate(combinations(chosen, REGULARIZERS)):
        settled = validate(resolve(chosen(group))).regularizer
        record = trained(f"group{number}", group, {"budget.max_steps": 2})
        with (record.folder / "metrics.csv").open() as file:
            columns = next(csv.reader(file))
        for option, regularizer in settled.items():
            what_it_did = record.extensions["regularizers"][option]
            assert what_it_did.pop("passes") == regularizer.passes
            assert all(what_it_did.values()), option
            assert option in (record.folder / "config.yaml").read_text()
            assert (f"train/{option}" in columns) == isinstance(regularizer, Term)
        if any(isinstance(regularizer, WeightAverage) for regularizer in settled.values()):
            assert check(RunFolder(record)).causes == []  # though its weights are those of no step


@pytest.mark.slow
@pytest.mark.one_in(2, "exhaustive")
@pytest.mark.parametrize(("task", "method"), CROSSED)
def test_each_acts_in_bf16_on_every_kind_of_method_and_task_or_is_refused(
    compose_config, data_for, language_model, tiny_model, tmp_path, task, method
):
    """In as few runs as they go together in."""
    of = get_class(compose_config(f"task={task}").task._target_)
    kind = OF_HEADS.get(of.head.model)
    model = language_model(kind) if kind else tiny_model
    tiny = ["model=folder", f"model.path={model}", "trainer=cpu", "trainer.precision=bf16-mixed", "data.batch_size=8"]
    chosen = f"regularizer=[{','.join(REGULARIZERS)}]"
    short = [*STEPS, "budget.max_steps=2", "task.selection.metric=loss"]
    cfg = compose_config(f"task={task}", *data_for(of), *tiny, *short, chosen, f"peft={method}")
    teach(cfg, tmp_path)
    refer(cfg, tmp_path, lambda: tmp_path, per_class=None)
    refused = {}
    left = combinations(partial(only, cfg), REGULARIZERS)
    while left:
        group = left.pop()
        one = only(cfg, group)
        one.run_dir = str(tmp_path / "-".join(group))
        try:
            record = run(one)
        except UserError as error:
            name = re.match(r"regularizer\.(\w+)", str(error))[1]  # it says whose it is
            assert name in group
            refused[name] = str(error)
            left += [[other for other in group if other != name]] if len(group) > 1 else []
            continue
        told = record.extensions["regularizers"]
        assert told.keys() == set(group)
        figures = {name: value for each in told.values() for name, value in each.items() if name != "passes"}
        assert all(math.isfinite(value) and value for value in figures.values())
    expected = REFUSED.get(task, {})
    assert refused.keys() == expected.keys(), refused
    assert all(reason in refused[name] for name, reason in expected.items()), refused


@pytest.mark.slow
def test_turned_off_they_are_as_if_they_were_not_there(chosen, trained, trained_once):
    without = trained_once("without regularizers", [])
    for number, group in enumerate(combinations(chosen, REGULARIZERS)):
        off = {}
        for option, regularizer in validate(resolve(chosen(group))).regularizer.items():
            name, value = next(iter(regularizer.neutral.items()))
            off[f"regularizer.{option}.{name}"] = value
        if "der" in group:
            off["data.replay"] = None
        assert equal(trained(f"off{number}", group, off).folder, without), group


@pytest.mark.exhaustive
def test_turned_on_it_changes_what_is_learnt(trained, trained_once, option):
    assert not equal(trained("with", [option]).folder, trained_once("without regularizers", []))


def combinations(chosen, options):
    """Return the options in groups that go together, each in the first one that takes it."""
    groups = []
    for option in options:
        for group in groups:
            try:
                validate(resolve(chosen([*group, option])))
            except ConfigError:
                continue
            group.append(option)
            break
        else:
            groups.append([option])
    return groups


EXACT = {"model.dropout": 0, "model.attention_dropout": 0, "optimizer.lr": 1e-3}


@pytest.mark.slow
@pytest.mark.parametrize(
    "divided", ["parts", *(pytest.param(how, marks=pytest.mark.exhaustive) for how in ("pieces", "ranks", "filled up"))]
)
def test_what_is_learnt_does_not_depend_on_how_batches_are_divided(
    chosen, trained, trained_once, small_memory, divided
):
    """Those that draw random numbers agree on average only, and are left out."""
    settled = {option: validate(resolve(chosen([option]))).regularizer[option] for option in REGULARIZERS}
    exact = [option for option, regularizer in settled.items() if not regularizer.draws]
    # else Adam makes steps of what rounding leaves of a gradient that is zero
    steady = {"optimizer.algorithm.eps": 1e-3}
    same = EXACT | steady | {"data.batch_size": 10, "budget.max_steps": 5}  # an epoch, whose last batch is smaller
    overrides = {
        "parts": {"trainer.accumulate": 2},
        "ranks": {"trainer.devices": 2},
        "filled up": {"trainer.static_shapes": True},
    }.get(divided)
    if overrides is None:
        written = dict(override.removeprefix("+").split("=", 1) for override in small_memory("backward"))
        numbers = {"callbacks.progress.positions": 80, "callbacks.progress.rank": 0}
        overrides = {"callbacks": {}} | written | numbers | {"allow": ["small_memory"]}
    groups = combinations(chosen, exact)
    assert len(groups) < len(exact) / 2  # most of them go together
    for number, group in enumerate(groups):
        whole = trained_once(f"whole batches{number}", group, same)
        found = trained(f"{divided}{number}", group, same | overrides).folder
        for one, other in zip(weights(found), weights(whole), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)  # a hundredth of a step


@pytest.mark.exhaustive
def test_runs_that_are_resumed_are_the_run(chosen, trained, monkeypatch):
    let_through = Interruption.on_train_batch_start

    def signalling(self, trainer, *rest):
        if trainer.global_step == 3:
            monkeypatch.setattr(Interruption, "on_train_batch_start", let_through)
            os.kill(os.getpid(), signal.SIGTERM)
        let_through(self, trainer, *rest)

    for number, group in enumerate(combinations(chosen, REGULARIZERS)):
        whole = trained(f"whole{number}", group)
        monkeypatch.setattr(Interruption, "on_train_batch_start", signalling)
        with pytest.raises(Interrupted):
            trained(f"parts{number}", group)
        resumed = trained(f"parts{number}", group)
        assert resumed.resumed_at == 3
        assert equal(resumed.folder, whole.folder), group


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
