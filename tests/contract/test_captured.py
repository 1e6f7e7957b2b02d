"""Steps as a GPU records them, done without a recording: by every method and regulariser of ``conf/``.

A new file there is tested without a change here. What the host would wait for on a GPU is seen on the CPU too: an
operation whose result it needs to go on.
"""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial

import pytest
import torch
from omegaconf import OmegaConf
from tests.method_files import METHODS, ONE_OF_EACH_CLASS, tiers
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from peftlab.composing.compose import conf_dir
from peftlab.config import build
from peftlab.data.splits import split_files
from peftlab.devices.graphs import Graphs
from peftlab.methods.head import head_of
from peftlab.methods.method import Method, MethodContext
from peftlab.regularizers.regularizer import Term, WeightRule
from peftlab.seams.transformers import masks_always_built
from peftlab.speed.lora import fuse_lora
from peftlab.tasks.limits import Limits
from peftlab.training.captured import Captured
from peftlab.training.micro_batches import MicroBatches
from peftlab.training.non_finite import FiniteGuard
from peftlab.training.objective import Objective
from peftlab.training.rules import Rules
from peftlab.training.step import Step
from peftlab.training.update import check

REGULARIZERS = sorted(path.stem for path in (conf_dir() / "regularizer").glob("*.yaml"))
OFTEN = {"lora", "full", "unipelt", "fourierft"}

aten = torch.ops.aten
READS = {
    aten._local_scalar_dense.default: "reads a number",
    aten.is_nonzero.default: "reads a number",
    aten.equal.default: "reads whether tensors are equal",
    aten.nonzero.default: "makes a tensor of a size that values decide",
    aten.masked_select.default: "makes a tensor of a size that values decide",
    aten.repeat_interleave.Tensor: "makes a tensor of a size that values decide",
    aten._unique2.default: "makes a tensor of a size that values decide",
    aten._linalg_check_errors.default: "reads whether a decomposition has failed",
    aten.linalg_matrix_exp.default: "reads a norm",
    aten.lift_fresh.default: "sends numbers of the host to the device",
}
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default}


class Reads(TorchDispatchMode):
    """Notes the operations for which a host would wait for a GPU."""

    def __init__(self):
        super().__init__()
        self.found = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in READS:
            self.found.add(f"{func} {READS[func]}")
        if func in INDEXING and any(at is not None and at.dtype == torch.bool for at in args[1]):
            self.found.add(f"{func} counts the elements of a mask")
        return func(*args, **(kwargs or {}))


class Transfers(TorchDispatchMode):
    """Notes the tensors that are sent to the device, which is one without values, ``meta``."""

    def __init__(self):
        super().__init__()
        self.found = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        if func in (aten._to_copy.default, aten.copy_.default) and args[-1].device.type != made.device.type:
            self.found.add(f"{func} sends a tensor to the device")
        return made


class Watched(Graphs):
    """Notes what the host would wait for in the work that is recorded."""

    def __init__(self):
        super().__init__(torch.device("cpu"))
        self.reads = Reads()

    def record(self, work):
        def watched():
            with self.reads:
                work()

        return super().record(watched)


@pytest.fixture(scope="module")
def learnt(spec, data_for, pretrained):
    """A task that has learnt its labels, and a batch of it as those are that are filled up: with factors."""
    whole = spec("task=ner", *data_for(spec("task=ner").task))
    fetched = whole.data.source.fetch()
    files = split_files(whole.data.splits, fetched, folders=False)
    examples = whole.data.format.read({"train": fetched.file(files["train"])})["train"][:4]
    whole.task.learn_labels({"train": examples}, None)
    encoded = whole.task.encode(examples, pretrained.processor("tokenizer"), Limits(16, "truncate"))
    batch = whole.task.collate(examples, encoded, range(4))
    batch.factors = torch.tensor([1.0, 2.0, 0.5, 1.0], dtype=torch.float64)
    return whole.task, batch


class Training:
    """What a run has ready when its first step comes, with dropout, a method and a regulariser."""

    def __init__(self, model, task, method, context, regularizers, device):
        self.model = method.apply(model, context).train().to(device)
        if device != "meta":  # for which torch has no autocast
            fuse_lora(self.model)
        terms = {name: each for name, each in regularizers.items() if isinstance(each, Term)}
        self.objective = Objective(task, method, self.model, terms)
        self.rules = Rules(regularizers, self.model, lambda: method.trained(self.model))
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        groups = [{"params": trained[::2], "lr": 1e-2}, {"params": trained[1::2], "lr": 3e-3}]
        self.parameters = [parameter for group in groups for parameter in group["params"]]
        self.optimizer = torch.optim.AdamW(groups, weight_decay=0.1, fused=True)
        self.rules.begin(self.optimizer)
        torch.manual_seed(1)

    def forward(self, batch):
        with self.rules.passing(batch):
            return self.model(**batch.inputs)

    def losses_of(self, batch):
        return self.objective(self.forward, batch)

    def step(self, batch):
        return Step([batch], self.parameters, MicroBatches("training", None, lambda *_, **__: None), nullcontext)

    def take(self, batch):
        """Take a step as it is taken without a recording; return its loss, terms and norm."""
        step = self.step(batch)
        step.gradient(self.losses_of)
        norm, _ = check(self.parameters)
        nn.utils.clip_grads_with_norm_(self.parameters, 1.0, norm)
        self.optimizer.step()
        self.rules.after_step(self.optimizer, 1, 2)
        return [step.loss, *step.terms.values(), norm]

    def captured(self, refusals):
        guard = FiniteGuard("stop", lambda *_, **__: None)
        return Captured(refusals.append, self.optimizer, 1.0, guard, self.rules, self.losses_of, nullcontext)


@pytest.fixture
def training(learnt, pretrained, backbones):
    task, _ = learnt

    def begin(method, regularizers=None, device="cpu"):
        model = backbones(0, task)
        context = MethodContext(head_of(model), task.head.task_type, pretrained.origin, task.head.outputs)
        return Training(model, task, method, context, regularizers or {}, device)

    return begin


def waits_of(begin, batch):
    """Take steps both ways, which must have the same bits; return for what the recorded ones would wait."""
    ordinary, recorded = begin(), begin()
    refusals = []
    with masks_always_built():
        captured = recorded.captured(refusals)
        captured.graphs = graphs = Watched()
        for number in range(2):
            torch.manual_seed(number)
            expected = ordinary.take(batch)
            torch.manual_seed(number)
            step = recorded.step(batch)
            taken = captured.take(step)
            assert refusals == []
            assert taken is not None
            norm, left_out = taken
            assert left_out == 0
            torch.testing.assert_close([step.loss, *step.terms.values(), norm], expected, rtol=0, atol=0)
            for one, other in zip(ordinary.parameters, recorded.parameters, strict=True):
                torch.testing.assert_close(one, other, rtol=0, atol=0)
    return graphs.reads.found


def transfers_of(training, batch):
    """Return what a step sends to the device, or reads from it: from one without values nothing can be read."""
    step = training.step(batch.to(torch.device("meta")))
    with masks_always_built(), Transfers() as transfers:
        try:
            step.gradient(training.losses_of)
        except (NotImplementedError, RuntimeError) as error:
            transfers.found.add(str(error).split("\n")[0])
    return transfers.found


@pytest.mark.one_in(3, "exhaustive")
@pytest.mark.slow
@pytest.mark.parametrize("name", tiers(METHODS, default=OFTEN, slow=ONE_OF_EACH_CLASS))
def test_a_recorded_step_of_a_method_is_the_ordinary_one(name, spec, training, learnt):
    """And what it says of the host is so."""
    method = spec(f"peft={name}").peft
    waits = waits_of(lambda: training(method), learnt[1]) | transfers_of(training(method, device="meta"), learnt[1])
    if method.host_work is None:
        assert waits == set()
        assert type(method).after_step is Method.after_step or name == "combined"
    else:
        assert waits or type(method).after_step is not Method.after_step


@pytest.mark.slow
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is visible here")
@pytest.mark.parametrize("name", METHODS)
def test_on_a_gpu_a_recorded_step_is_the_ordinary_one_up_to_rounding(name, spec, training, learnt):
    """With the same dropout masks. A method whose kernels CUDA refuses to record says so, and nothing has changed."""
    method, batch = spec(f"peft={name}").peft, learnt[1].to(torch.device("cuda"))
    if method.host_work is not None:
        pytest.skip(method.host_work)
    ordinary, recorded = (training(method, device="cuda") for _ in range(2))
    refusals = []
    with masks_always_built():
        captured = recorded.captured(refusals)
        for number in range(3):
            torch.manual_seed(number)
            expected = ordinary.take(batch)
            torch.manual_seed(number)
            step = recorded.step(batch)
            taken = captured.take(step)
            if taken is None and name not in OFTEN:
                torch.testing.assert_close(recorded.take(batch), expected, rtol=1e-3, atol=1e-4)
                pytest.skip(f"not recorded: {refusals[0]}")
            assert refusals == []
            torch.testing.assert_close([step.loss, taken[0]], expected, rtol=1e-3, atol=1e-4, check_device=False)


def regularizer_of(name):
    node = OmegaConf.to_container(OmegaConf.load(conf_dir() / "regularizer" / f"{name}.yaml"))
    return build(node, f"regularizer.{name}")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name == "rdrop" else pytest.mark.slow)
        for name in REGULARIZERS
        if regularizer_of(name).host_work is None
    ],
)
def test_a_recorded_step_with_a_regularizer_is_the_ordinary_one(name, spec, training, learnt):
    regularizer = regularizer_of(name)
    assert not isinstance(regularizer, WeightRule) or type(regularizer).before_step is WeightRule.before_step
    begin = partial(training, spec("peft=lora").peft, {name: regularizer})
    assert waits_of(begin, learnt[1]) == set()
    if name != "mixout":  # which turns autocast off, and torch has none for such a device
        assert transfers_of(begin(device="meta"), learnt[1]) == set()


def test_of_the_other_regularizers_it_is_said_what_the_host_does():
    reasons = {name: regularizer_of(name).host_work for name in REGULARIZERS}
    assert not [name for name, reason in reasons.items() if reason is not None and "does not say" in reason]
