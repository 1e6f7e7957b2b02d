"""Assembles the parts of a run: the model to train, and Lightning's trainer for it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from torch import nn
from yaml import YAMLError

from peftlab.abstaining.features import check_features
from peftlab.config import RunSpec
from peftlab.data.module import DataModule
from peftlab.data.poisson import Poisson, numbered
from peftlab.devices.hardware import launcher, strategy_of
from peftlab.devices.processes import rank
from peftlab.devices.spec import AUTOCAST, TrainerSpec
from peftlab.errors import ConfigError, did_you_mean
from peftlab.federated.coordinator import Coordinator
from peftlab.federated.private import ClientPrivacy, KeepClientPrivacy, freeze_factors, sampling
from peftlab.methods.head import is_of_head
from peftlab.methods.method import Method, MethodContext
from peftlab.models.adapted_model import adapted_model, base_model
from peftlab.models.backbone import Pretrained
from peftlab.privacy.guarantee import Guarantee, settle
from peftlab.privacy.refusals import check_labels, not_covered
from peftlab.reading import plain_yaml
from peftlab.regularizers.regularizer import Regularizer, StepRule, WeightAverage, WeightRule, key_of
from peftlab.runs.folder import CONFIG, RunFolder
from peftlab.runs.record import RunRecord
from peftlab.seams.lightning import DONE_HERE, leave_signals_alone
from peftlab.semi_supervised.joining import record_unlabelled
from peftlab.speed.attention import preferred_attention
from peftlab.speed.frozen_weights import store_in_bf16
from peftlab.tasks.general_text import general_file
from peftlab.tasks.task import Task
from peftlab.terminal.signals import Signals
from peftlab.training.captured import Recording
from peftlab.training.checkpointing import Checkpointing, TreeFiles
from peftlab.training.forgetting import Forgetting
from peftlab.training.interruption import Interruption
from peftlab.training.micro_batches import MicroBatches
from peftlab.training.outputs import Outputs
from peftlab.training.predictions import Predictions
from peftlab.training.private import KeepPrivacy, PrivateGradient
from peftlab.training.reference import Reference
from peftlab.training.reporting import Reporting, Watcher
from peftlab.training.shared_rows import SharedRows
from peftlab.training.tuner import Tuner

log = logging.getLogger("peftlab")


def build_tuner(spec: RunSpec, pretrained: Pretrained, tell: Callable[[str], None] = lambda note: None) -> Tuner:
    """Wrap the model of `adapted_model` for training.

    Args:
        spec: the run's specification.
        pretrained: the pretrained model that it names.
        tell: is called with notes for the user on the initial head.
    """
    model, context = adapted_model(spec, pretrained, tell)
    if spec.privacy is not None and spec.privacy.unit == "client":
        freeze_factors(spec.peft, model)
    special = pretrained.processor(spec.task.processor).special_ids if spec.changing_embeddings else []
    kind = Coordinator if spec.in_rounds else Tuner
    return kind(model, spec.task, spec.peft, context, spec.optimizer, spec.scheduler, spec.chosen, special)


def adopt(spec: RunSpec, tuner: Tuner) -> None:
    """Load the initial adapter that `spec` names, or what its method goes on from, if any.

    Raises:
        ConfigError: it does not fit the model.
    """
    if spec.adapter is None and spec.peft.earlier is None:
        return
    kept = _adopted(spec, tuner.model, tuner.context)
    if spec.adapter is not None:
        _check_rows(spec.task, spec.adapter.path, kept)
    new = [name for name in kept if any(f".{name}".endswith(f".{fresh}") for fresh in tuner.context.fresh)]
    if new:
        log.info("adapter: it has no head, or one for other labels; newly initialised: %s", ", ".join(new))
    if pretrained := [name for name in kept if name not in new]:
        log.info("adapter: it lacks these parameters of the head, which stay pretrained: %s", ", ".join(pretrained))


def _check_rows(task: Task, adapter: Path, kept: Sequence[str]) -> None:
    """Check that parts of a head whose rows stand for more than labels are of the same things as an adapter's.

    Args:
        task: whose head it is.
        adapter: its folder.
        kept: the names of the head's tensors that were not in it.

    Raises:
        ConfigError: they are of others, or the task has not begun them because of the adapter, which lacks them.
    """
    if not (own := task.head_of):
        return
    try:
        theirs = plain_yaml.load((adapter.absolute().parent / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError, YAMLError):
        theirs = {}
    begun = type(task).begin_head is not Task.begin_head
    for part, key in own.items():
        section, _, name = key.partition(".")
        wanted = task.labels if section == "data" else getattr(task, name)
        taken = not any(f".{part}." in f".{one}" for one in kept)
        if (taken and (theirs.get(section) or {}).get(name) != wanted) or (begun and not taken):
            raise ConfigError(
                f"adapter = '{adapter}': the rows of this run's {part} stand for its {key}, and the adapter's for "
                "others, or for nobody knows what. Set adapter=null, or train on the same ones"
            )


def _adopted(spec: RunSpec, model: nn.Module, context: MethodContext) -> list[str]:
    """Load the same into `model`, and return the names of the head's tensors that stay unchanged."""
    if spec.adapter is None:
        return spec.peft.begin(model, context)
    if spec.peft.earlier is not None:
        raise ConfigError(
            f"adapter = '{spec.adapter.path}': peft={spec.peft.name} goes on from peft.previous, and begins anew "
            "beside it. Set adapter=null"
        )
    return spec.peft.adopt(model, spec.adapter.path, context)


def refer(
    spec: RunSpec,
    pretrained: Pretrained,
    data: DataModule,
    splits: Iterable[str],
    pieces: MicroBatches | None = None,
    note: Callable[..., None] = lambda event, **details: None,
    let_through: Callable[[], None] = lambda: None,
) -> None:
    """Give the examples of `splits` the values of a task that refers to the model that training starts from.

    That is the pretrained model, quantised as it is in training, and with the initial adapter if there is one.

    Args:
        spec: the run's specification.
        pretrained: the pretrained model that it names.
        data: the loaded data.
        splits: the splits that the model is trained or scored on.
        pieces: cuts batches that do not fit in memory; None: they are not cut.
        note: called with an event and its details when values had to be computed.
        let_through: is called between batches, and may raise to end the run.
    """
    if not spec.task.refers:
        return
    model, adapter = spec.model, spec.peft.earlier if spec.adapter is None else spec.adapter.sha256
    attention = preferred_attention(spec.trainer.accelerator, spec.data.max_tokens)
    about = [pretrained.weights_sha256, adapter, model.quantize, model.attention, attention, model.pooling]
    reference = Reference(
        partial(initial_model, spec, pretrained),
        about,
        data,
        spec.trainer,
        pieces or MicroBatches("evaluation", None, note),
        let_through if spec.trainer.world_size == 1 else lambda: None,  # the other ranks would wait
    )
    began = time.perf_counter()
    computed = reference.add(splits)
    if computed and rank() == 0:
        note("reference computed", splits=computed, seconds=round(time.perf_counter() - began, 3))


def initial_model(spec: RunSpec, pretrained: Pretrained) -> nn.Module:
    """Return the model that training starts from: the pretrained one, or that with the initial or earlier adapter."""
    if spec.adapter is None and spec.peft.earlier is None:
        return base_model(spec, pretrained).model
    model, context = adapted_model(spec, pretrained)
    _adopted(spec, model, context)
    return model


def store_and_compile(model: nn.Module, trainer: TrainerSpec) -> None:
    """Set the storage dtype of `model`, and compile it: scoring again needs both, as the last digits depend on them."""
    if trainer.frozen_weights == "bf16":
        store_in_bf16(model)
    if trainer.compile:
        model.compile()  # in place, so that parameter names do not change


def calibrate(spec: RunSpec, tuner: Tuner, data: DataModule) -> None:
    """Let the task begin its head, and the method calibrate on training batches, on the CPU in the run's precision."""
    dtype = AUTOCAST.get(spec.trainer.precision)
    with torch.autocast("cpu", dtype, enabled=dtype is not None):
        spec.task.begin_head(tuner.model)
        spec.peft.calibrate(tuner.model, data.calibration_batches())


def counts_activations(spec: RunSpec) -> bool:
    """Return whether the memory of activations can be measured, see `Outlook`."""
    return not (spec.trainer.sharded or spec.allow or spec.in_rounds or spec.privacy is not None)


def check_monitors(spec: RunSpec, tuner: Tuner) -> None:
    """Check that the metrics that callbacks monitor are logged, unless the user's own classes may log more.

    Raises:
        ConfigError: a `monitor` is not logged; names the nearest.
    """
    logged = tuner.logged()
    for name, callback in spec.callbacks.items():
        monitor = getattr(callback, "monitor", None)
        if monitor is not None and monitor not in logged and not spec.allow:
            raise ConfigError(
                f"callbacks.{name}.monitor = '{monitor}' is not logged.{did_you_mean(monitor, logged)} "
                f"Allowed: {', '.join(logged)}"
            )


def check_trained(spec: RunSpec, tuner: Tuner) -> None:
    """Check that something is to be trained, that a head can be fitted to the training split, and that examples can be
    trained on with partners of it.

    Raises:
        ConfigError: something is in the way; says what to change.
    """
    task, name = spec.task, f"task={spec.task.name}"
    parameters = [name for name, parameter in tuner.model.named_parameters() if parameter.requires_grad]
    trained = [name for name in parameters if name.rpartition(".")[2] not in task.only_fitted]
    if not trained and spec.budget.max_steps != 0:
        raise ConfigError(
            f"peft={spec.peft.name} with {name}: there is nothing to train. Choose a method that adds or frees "
            "weights, such as lora, or score the model as it is: budget=zero_shot"
        )
    if spec.out_of_scope is not None and spec.out_of_scope.scorer.READS == "features":
        check_features(tuner.model, len(task.labels), spec.out_of_scope.score)
    if task.fits_head and spec.trainer.sharded:
        raise ConfigError(
            f"{name}: its head is fitted on each device, and trainer.strategy={spec.trainer.strategy} divides the "
            "model. Use trainer=ddp, or one device"
        )
    if not task.draws_partners:
        return
    if spec.augmenting:
        raise ConfigError(
            f"augment: {name} trains on texts together with others of the split, which would stay unchanged. Leave "
            f"out {', '.join(spec.augmenting)}"
        )
    if all(is_of_head(each, tuner.context.head) for each in trained) and spec.budget.max_steps != 0:
        raise ConfigError(
            f"peft={spec.peft.name}: it trains the head alone, which {name} fits without training. Set "
            "budget=zero_shot for the classifier of the pretrained embeddings, or choose another method, such as lora"
        )


def divide_units(spec: RunSpec, data: DataModule) -> None:
    """Have a private run's training split divided into units, each with a chance of its own in each batch or round."""
    if spec.privacy is None:
        return
    if spec.privacy.unit == "client":
        assert spec.federated is not None
        data.sampling_of_clients = sampling(data.clients, spec.federated)
        return
    train = data.splits["train"]
    names = [example.group for example in train.examples] if spec.privacy.unit == "group" else [None] * train.rows
    steps = max(1, round(train.rows / spec.data.batch_size))
    data.poisson = Poisson(numbered(names), min(1.0, spec.data.batch_size / train.rows), steps)


def settle_privacy(spec: RunSpec, data: DataModule) -> Guarantee | None:
    """Return the guarantee of a private run, whose units are known; None: it has none.

    Raises:
        ConfigError: the data or the settings do not allow one.
    """
    if spec.privacy is None:
        return None
    check_labels(spec.task, spec.data.labels)
    if data.sampling_of_clients is not None:
        return settle(spec.privacy, data.sampling_of_clients, spec.steps(data.steps_of_epoch()))
    assert data.poisson is not None
    return settle(spec.privacy, data.poisson, spec.steps(data.poisson.steps))


def draw_batches(spec: RunSpec, data: DataModule, run: str) -> None:
    """Have the batches or clients of a private run drawn at random, by the digest `run` of its identity."""
    if spec.privacy is None:
        return
    seed = int.from_bytes(spec.privacy.secret(run), "big")
    if data.poisson is not None:
        data.poisson = replace(data.poisson, seed=seed)
    if data.sampling_of_clients is not None:
        data.sampling_of_clients = replace(data.sampling_of_clients, seed=seed)


def make_private(
    spec: RunSpec, tuner: Tuner, data: DataModule, guarantee: Guarantee | None, record: RunRecord
) -> list[Callback]:
    """Have `tuner` take private steps if there is a guarantee, and return the callback that keeps their record."""
    if spec.privacy is None or guarantee is None:
        return []
    secret = spec.privacy.secret(record.data["identity"]["sha256"])
    held_out = any(isinstance(source, float) for source in data.facts.files.values())
    facts = {"not_covered": not_covered(spec, held_out)}
    if isinstance(tuner, Coordinator):
        tuner.client_privacy = ClientPrivacy(guarantee, secret)
        return [KeepClientPrivacy(tuner.client_privacy, record, facts)]
    tuner.private = private = PrivateGradient(guarantee, secret, data, tuner)
    return [KeepPrivacy(private, record, facts)]


def recording(spec: RunSpec, note: Callable[..., None]) -> Recording:
    """Return whether steps are recorded as CUDA graphs.

    If they are to be, and cannot be, a line in the log and an event say why.

    Args:
        spec: the run's specification.
        note: adds an event and its details to the record.

    Raises:
        ConfigError: ``trainer.cuda_graphs=true``, and they cannot be.
    """

    def tell(reason: str) -> None:
        if spec.trainer.cuda_graphs is True:
            raise ConfigError(f"trainer.cuda_graphs=true: {reason}. Use auto, which then does without")
        log.info("steps are not recorded as CUDA graphs: %s", reason)
        note("steps not recorded", reason=reason)

    if not spec.trainer.cuda_graphs:
        return Recording()
    if (reason := next(_in_the_way_of_graphs(spec), None)) is not None:
        tell(reason)
        return Recording()
    return Recording(tell)


def _in_the_way_of_graphs(spec: RunSpec) -> Iterator[str]:
    """Yield the reasons why steps cannot be recorded that the configuration shows."""
    hardware = spec.trainer
    shown = (
        (spec.in_rounds, "each client takes steps of its own in each round"),
        (hardware.world_size > 1, "several devices average their gradients in between"),
        (spec.privacy is not None, "privacy: the gradients of single examples are computed by the host's choice"),
        (hardware.accumulate > 1, f"trainer.accumulate={hardware.accumulate} divides a step into parts"),
        (hardware.precision == "16-mixed", "trainer.precision=16-mixed looks at the gradients to scale the loss"),
        (
            hardware.gradient_checkpointing,
            "trainer.gradient_checkpointing=true repeats layers with random numbers whose state the host keeps",
        ),
        (hardware.compile, "trainer.compile=true launches kernels in its own way"),
        (hardware.cheap_dropout, "trainer.cheap_dropout=true draws its masks on the host"),
        (not hardware.static_shapes, "trainer.static_shapes=false: almost every batch has a shape of its own"),
    )
    yield from (reason for holds, reason in shown if holds)
    if (kind := spec.model.quantize) != "none":
        yield f"model.quantize={kind}: how its kernels are recorded has not been tried"
    parts: dict[str, Method | Task | Regularizer] = {f"peft={spec.peft.name}": spec.peft}
    parts |= {f"task={spec.task.name}": spec.task}
    parts |= {key_of(name): each for name, each in spec.acting.items()}
    for name, part in parts.items():
        if part.host_work is not None:
            yield f"{name}: {part.host_work}"
        elif isinstance(part, StepRule | WeightAverage) or (
            isinstance(part, WeightRule) and type(part).before_step is not WeightRule.before_step
        ):
            yield f"{name}: it acts where a recorded step does not ask it"


def make_trainer(
    spec: RunSpec,
    data: DataModule,
    folder: RunFolder,
    callbacks: list[Callback],
    signals: Signals,
    loggers: Sequence[Logger],
    watcher: Watcher | None = None,
) -> L.Trainer:
    """Return a Lightning trainer for this hardware and budget, with peftlab's checkpoints, progress and tables.

    The callbacks of the configuration are added to `callbacks`.
    """
    chosen = [callback for callback in spec.callbacks.values() if callback is not None]
    last: list[Callback] = [Predictions(folder.predictions)]
    record_unlabelled(spec.semi, folder.record.extend)
    if spec.task.packs:
        last.append(SharedRows(data, folder.record))
    if general := general_file(spec.task):
        last.append(Forgetting(general, data, folder.record))
    plugins: list[Any] = [started_by] if isinstance(started_by := launcher(), SLURMEnvironment) else []
    if not spec.trainer.sharded:
        plugins.append(TreeFiles())
    identity, hardware = folder.record.data["identity"], spec.trainer
    every = hardware.checkpoint_every or (1 if spec.in_rounds else None)
    checkpointing = Checkpointing(folder.checkpoints, identity["sha256"], every, hardware.keep_every, hardware.sharded)
    interruption = Interruption(signals, checkpointing.save)
    last += [Reporting(watcher, spec.task.selection, interruption)] if watcher else []
    last += [checkpointing, interruption]
    trainer = L.Trainer(
        default_root_dir=folder.path,
        accelerator=spec.trainer.accelerator,
        devices=spec.trainer.devices,
        num_nodes=spec.trainer.num_nodes,
        strategy=strategy_of(spec.trainer),
        precision=spec.trainer.precision,  # type: ignore[arg-type]  # never auto here: already resolved by `resolve`
        gradient_clip_val=spec.trainer.clip_norm,
        deterministic=spec.trainer.deterministic,
        log_every_n_steps=1 if spec.in_rounds else spec.trainer.log_every,
        max_epochs=spec.budget.max_epochs or -1,
        max_steps=-1 if (most := spec.max_steps(data.steps_of_epoch())) is None else most,
        val_check_interval=data.validation_interval(),
        check_val_every_n_epoch=None,  # the interval counts batches across epochs
        callbacks=[Outputs(), *callbacks, *chosen, *last],
        plugins=plugins,
        logger=loggers,
        **DONE_HERE,
    )
    leave_signals_alone(trainer)
    return trainer
