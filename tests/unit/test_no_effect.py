"""Settings that others keep from having an effect are told."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from peftlab import no_effect
from peftlab.config import resolve, validate


@pytest.fixture
def told(compose_config, caplog):
    """Return what is told of a configuration whose head is a linear layer, and whose backbone is trained or not."""

    def lines(*overrides: str, backbone: bool = True, epoch: int = 40, **of_data: Any) -> list[str]:
        spec = validate(resolve(compose_config("trainer=cpu", *overrides)))
        model = torch.nn.ModuleDict({"encoder": torch.nn.Linear(2, 2), "classifier": torch.nn.Linear(2, 2)})
        model["encoder"].requires_grad_(backbone)
        tuner = SimpleNamespace(model=model, context=SimpleNamespace(head=["classifier"]))
        caplog.clear()
        no_effect.tell(spec, SimpleNamespace(steps_of_epoch=lambda: epoch, **of_data), tuner)
        return [line.removeprefix("no effect: ") for line in caplog.messages]

    return lines


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["budget=smoke"],
        ["scheduler.warmup_steps=160", "scheduler.warmup_fraction=null"],
        ["scheduler.warmup_fraction=1.0"],
        ["scheduler=wsd", "scheduler.warmup_steps=128", "scheduler.warmup_fraction=null"],
        ["budget.validate_every=2", "callbacks.early_stopping.patience=1"],
        ["optimizer.head_lr=1e-2"],
        ["trainer.accumulate=16"],
    ],
)
def test_most_settings_have_one(told, overrides):
    assert told(*overrides) == []


@pytest.mark.slow
def test_a_paged_optimizer_that_pages_nothing(told, compose_config):
    assert told("optimizer=paged_adamw") == [
        "optimizer.algorithm=PagedAdamW: it pages the memory of GPUs, and this is the CPU"
    ]
    on_gpu = validate(resolve(compose_config("trainer=cpu", "optimizer=paged_adamw")))
    on_gpu.trainer.accelerator = "gpu"
    for width, lines in ((10, 1), (400, 0)):
        tuner = SimpleNamespace(model=torch.nn.Linear(width, width))
        assert len(list(no_effect._of_optimizer(on_gpu, tuner))) == lines


@pytest.mark.slow
@pytest.mark.parametrize(("name", "run"), [("distil", "teacher"), ("lwf", "previous")])
def test_a_regression_has_no_classes_to_soften(told, name, run):
    chosen = [f"regularizer=[{name}]", f"regularizer.{name}.{run}=runs/a"]
    assert told(*chosen) == []
    assert told(*chosen, "task=regression", "data=numbers", "data.path=none.csv") == [
        f"regularizer.{name}.temperature=2: a regression has no classes to soften"
    ]


def test_a_speed_that_is_always_1(told):
    for speed, lines in (("[0.996,1.004]", 1), ("[0.996,1.006]", 0)):
        chosen = ["task=audio_classification", "data=recordings", "data.path=none", f"task.changes.speed={speed}"]
        assert [line.partition(":")[0] for line in told(*chosen)] == ["task.changes.speed=[0.996, 1.004]"] * lines


def test_schedules_and_terms_count_the_steps_of_a_client_in_all_rounds(told):
    """Of the largest, which has 7 steps in a round here."""
    chosen = ["federated=fedavg", "federated.rounds=10", "callbacks=[]", "scheduler.warmup_fraction=null"]
    chosen += ["regularizer=[rdrop]", "regularizer.rdrop.start_step=70"]
    clients = {"clients": {"0": range(3), "1": range(7)}, "plan_of": lambda epoch, members: members}
    assert told(*chosen, "scheduler.warmup_steps=70", epoch=1, **clients) == []
    late = ["scheduler.warmup_steps=71", "regularizer.rdrop.start_step=71"]
    assert [line.partition(": ")[2] for line in told(*chosen, *late, epoch=1, **clients)] == [
        "the largest client has 70 steps, and the warm-up takes 71 (scheduler.warmup_steps)",
        "the largest client has 70 steps",
    ]


@pytest.mark.slow
def test_an_epoch_of_one_batch(told):
    assert told("budget=overfit", epoch=1) == []


@pytest.mark.one_in(3, "slow")
@pytest.mark.parametrize(
    ("overrides", "start"),
    [
        (
            ["regularizer=[freelb]", "regularizer.freelb.epsilon=0.5"],
            "regularizer.freelb.epsilon=0.5: its steps from in",
        ),
        (["regularizer=[freelb]", "regularizer.freelb.epsilon=0.5", "regularizer.freelb.init=uniform"], None),
        (["regularizer=[freelb]"], None),
        (
            ["regularizer=[pgd]", "regularizer.pgd.steps=1"],
            "regularizer.pgd.epsilon=0.2: its steps from init=zero come",
        ),
        (["regularizer=[pgd]", "regularizer.pgd.step_size=0.02", "regularizer.pgd.steps=10"], None),
        (["regularizer=[fgm]", "regularizer.fgm.epsilon=9"], None),
        (["regularizer=[l2_sp]"], None),
        (["regularizer=[recadam]", "regularizer.recadam.t0=40"], None),
        (
            ["regularizer=[reweight]", "regularizer.reweight.terms=age", "regularizer.reweight.column=sex"],
            "regularizer.reweight.terms=age: column=sex takes its place",
        ),
        (
            ["augment=[synonym]", "augment.synonym.neighbours=9"],
            "augment.synonym.neighbours=9: source=wordnet does not",
        ),
        (["augment=[synonym]", "augment.synonym.neighbours=9", "augment.synonym.source=embeddings"], None),
    ],
)
def test_options_of_a_regulariser_or_an_augmentation_that_others_leave_without(told, overrides, start):
    assert [line[: len(start or "")] for line in told(*overrides)] == ([start] if start else [])


WARM_UP = ["scheduler.warmup_steps=161", "scheduler.warmup_fraction=null"]


@pytest.mark.one_in(4, "slow")
@pytest.mark.parametrize(
    ("overrides", "start"),
    [
        (WARM_UP, "optimizer.lr=0.0015 is never reached: the run has 160 steps, and the warm-up takes 161"),
        (["budget=smoke", "scheduler=wsd", *WARM_UP], "optimizer.lr=0.0015 is never reached: the run has 20 steps"),
        (
            ["scheduler=wsd", "scheduler.warmup_steps=140", "scheduler.warmup_fraction=null"],
            "scheduler.decay_fraction=0.2: of the 32 steps of the decay, the warm-up leaves 20: it takes 140 of 160",
        ),
        (["budget.validate_every=5", "callbacks=[]"], "budget.validate_every=5 epochs is longer than the run"),
        (["budget.stratified=true"], "budget.stratified=true: budget.train_examples=null takes all examples"),
        (["budget.sample_seed=1"], "budget.sample_seed=1: budget.train_examples=null takes all examples"),
        (["budget.max_epochs=3"], "callbacks.early_stopping: it waits for 3 validations that are no better (patience)"),
        (["regularizer=[focal]", "task.label_smoothing=0.1"], "task.label_smoothing=0.1 on the training: regularizer."),
        (
            ["regularizer=[l2_sp]", "regularizer.l2_sp.strength=0.01"],
            "regularizer.l2_sp.strength=0.01: over 160 steps at optimizer.lr=0.0015 it draws weights back by at most "
            "0.0024 of their way. Set 10 or more",
        ),
        (["regularizer=[recadam]"], "regularizer.recadam.t0=250: what is learnt before it, of 160 steps, as the"),
        (["callbacks.early_stopping.patience=9"], "callbacks.early_stopping: it waits for 9 validations"),
        (
            ["trainer.accumulate=20"],
            "trainer.accumulate=20 on 1 devices: a batch of data.batch_size=16 has no 20 parts; 4",
        ),
        (
            ["trainer.accumulate=3", "data.batch_size=2"],
            "trainer.accumulate=3 on 1 devices: a batch of data.batch_size=2",
        ),
        (
            ["trainer.find_unused_parameters=true"],
            "trainer.find_unused_parameters=true: a gradient that a device does not have",
        ),
        (["data.mask_pii={kinds: [email], regions: [DE]}"], "data.mask_pii.regions=DE: only phone and national_id"),
        (["trainer.zero_stage=1"], "trainer.zero_stage=1: it is for trainer=deepspeed, and this is single_device"),
        (["trainer.offload_optimizer=true"], "trainer.offload_optimizer=True: it is for trainer=deepspeed"),
        (
            ["task=classification", "data=csv", "data.path=nowhere", "semi=mixtext", "task.label_smoothing=0.1"],
            "task.label_smoothing=0.1 on the training: semi takes the place of the loss that it smooths",
        ),
    ],
)
def test_one_without_is_told_in_a_line(told, overrides, start):
    (line,) = told(*overrides)
    assert line.startswith(start)


OF_TASKS = {
    "qa": [
        (["task.null_threshold=5"], "task.null_threshold=5.0: it acts only with task.no_answer=true"),
        (["task.null_threshold=5", "task.no_answer=true"], None),
        (["data.long=truncate", "task.stride=64"], "task.stride=64: it acts only with data.long=split"),
        (["data.long=truncate"], None),
        (["data.long=split", "task.stride=64"], None),
    ],
    "regression": [
        (["task.huber_delta=0.3"], "task.huber_delta=0.3: it acts only with task.criterion=huber"),
        (["task.huber_delta=0.3", "task.criterion=huber"], None),
    ],
    "multilabel": [
        (
            ["task.threshold=0.3", "task.threshold_by=global"],
            "task.threshold_by=global: it acts only with task.thresho",
        ),
        (["task.threshold_by=global"], None),
    ],
    "retrieval": [
        (["task.id_dropout=0.5"], "task.id_dropout=0.5: it acts only with task.user=history"),
        (
            ["task.user=history", "task.items=text", "task.id_dropout=0.5"],
            "task.id_dropout=0.5: it acts only with ta",
        ),
        (["task.user=history", "task.id_dropout=0.5"], None),
    ],
    "contrastive": [
        (["task.objective=cosine", "task.temperature=0.2"], "task.temperature=0.2: it acts only with task.objective=s"),
        (["task.objective=cosine", "task.temperature=0.2", "task.classifier=prototype"], None),
    ],
    "choice": [(["regularizer=[focal]", "task.label_smoothing=0.2"], "task.label_smoothing=0.2 on the training")],
    "joint": [(["regularizer=[focal]", "task.label_smoothing=0.2"], "task.label_smoothing=0.2 on the training")],
}


@pytest.mark.one_in(3, "slow")
@pytest.mark.parametrize("task", OF_TASKS)
def test_options_of_a_task_that_need_another_one(told, task):
    data = {"qa": "questions", "regression": "numbers"}
    data |= {"multilabel": "several_labels", "choice": "choices", "joint": "intents", "contrastive": "csv"}
    data |= {"retrieval": "interactions"}
    for overrides, start in OF_TASKS[task]:
        lines = told(f"task={task}", f"data={data[task]}", "data.path=nowhere", *overrides)
        assert [line[: len(start or "")] for line in lines] == ([start] if start else []), overrides


def test_rows_that_examples_share_are_not_filled_up(told):
    chosen = ["task=causal_lm", "model=smollm2_135m", "data=conversations", "data.path=none", "task.packing=bfd"]
    assert told(*chosen) == []
    (line,) = told(*chosen, "trainer.static_shapes=true")
    assert line.startswith("trainer.static_shapes=true: task.packing has examples share rows")
    assert told(*chosen, "trainer.static_shapes=true", "task.packing=off") == []


def test_a_learning_rate_that_no_parameter_has(told):
    (line,) = told("optimizer.lr=1e-3", "optimizer.head_lr=1e-2", backbone=False)
    assert line == "optimizer.lr=0.001: only the head is trained, at optimizer.head_lr=0.01"


@pytest.mark.parametrize("fitted", [{}, {"shift": torch.nn.Parameter(torch.zeros(2))}])
def test_a_head_without_weights_that_are_learnt_has_no_learning_rate(compose_config, fitted):
    """A prompt's, which reads words off the pretrained head, calibrated or not."""
    chosen = ["task=prompt", "task.template='{text} {answer}'", "data=csv", "data.path=none", "optimizer.head_lr=0.01"]
    spec = validate(resolve(compose_config("trainer=cpu", *chosen)))
    model = torch.nn.ModuleDict({"encoder": torch.nn.Linear(2, 2), "verbalizer": torch.nn.ParameterDict(fitted)})
    tuner = SimpleNamespace(model=model, context=SimpleNamespace(head=["verbalizer"]))
    (line,) = no_effect._of_parameters(spec, tuner)
    assert line == "optimizer.head_lr=0.01: the head is pretrained, so no new head is trained"


RATE = "peft.{}learning_rate=0.5: the run learns at optimizer.lr={}"


@pytest.mark.one_in(3, "slow")
@pytest.mark.parametrize(
    ("overrides", "lines"),
    [
        (["peft=combined"], []),
        (["peft=combined", "peft.learning_rate=0.5"], []),
        (["peft=combined", "peft.second.learning_rate=0.5"], []),
        (["peft=combined", "peft.first.learning_rate=0.5"], [RATE.format("first.", 0.0015)]),
        (
            ["peft=combined", "peft.second.learning_rate=0.5", "peft.learning_rate=0.1"],
            [RATE.format("second.", 0.1)],
        ),
        (["peft.learning_rate=0.5"], []),
        (["optimizer.lr=0.1"], []),
        (["peft.learning_rate=0.5", "optimizer.lr=0.1"], [RATE.format("", 0.1)]),
    ],
)
def test_the_learning_rate_of_a_method_that_the_run_does_not_take(told, overrides, lines):
    assert told(*overrides) == lines


def test_a_correction_of_weights_that_are_not_rounded(told):
    line = "it corrects what model.quantize rounds, which is none: this is peft=lora"
    assert told("peft=qera") == [f"peft=qera: {line}"]
    assert told("peft=combined", "peft@peft.second=qera") == [f"peft.second=qera: {line}"]
    assert told("peft=qera", "model.quantize=nf4") == []


def test_of_tokens_a_batch_has_as_many_examples_as_fit(told):
    assert told("trainer.accumulate=20", "data.batch_tokens=4096") == []


@pytest.mark.slow
def test_columns_of_interactions_that_rankings_do_not_read(told):
    chosen = ["data=interactions", "data.path=none", "data.format.numbers=[age]", "data.format.label=stars"]
    lines = told("task=retrieval", *chosen)
    assert [line.partition(":")[0] for line in lines] == ["data.format.numbers=age", "data.format.label=stars"]
    assert len(told("task=retrieval", *chosen, "data.format.only_positive=true")) == 1
    assert told("task=click", *chosen) == []
