"""Settings that have no effect because of other settings: each is logged before a run begins."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from operator import attrgetter
from typing import Any

import yaml
from lightning.pytorch.callbacks import EarlyStopping
from pydantic.dataclasses import is_pydantic_dataclass

from peftlab.audio.changes import Changes
from peftlab.composing.compose import conf_dir
from peftlab.config import RunSpec
from peftlab.data.augmentation.synonym import Synonym
from peftlab.data.interactions import Interactions
from peftlab.data.module import DataModule
from peftlab.data.spec import BudgetSpec, DataSpec
from peftlab.devices.spec import TrainerSpec
from peftlab.federated.local import Steps
from peftlab.generation.options import Generation
from peftlab.methods.combined import Combined
from peftlab.methods.head import is_of_head
from peftlab.methods.method import Method
from peftlab.methods.qera import Qera
from peftlab.regularizers.adversarial import AdversarialLoss
from peftlab.regularizers.distil import Distil
from peftlab.regularizers.focal import Focal
from peftlab.regularizers.l2_sp import L2Sp
from peftlab.regularizers.lwf import Lwf
from peftlab.regularizers.of_groups import OfGroups
from peftlab.regularizers.recadam import RecAdam
from peftlab.regularizers.regularizer import Term, key_of
from peftlab.schedules import WarmupStableDecay
from peftlab.seams.transformers import attention_of
from peftlab.semi_supervised.mixtext import MixText
from peftlab.tasks.ranking_task import RankingTask
from peftlab.training.tuner import Tuner

log = logging.getLogger("peftlab")

_PAGED_FROM = 100_000
"""Weights of the smallest tensors whose state bitsandbytes' optimisers page."""
_ROUNDING = 1e-9
"""The share by which steps may miss a norm by rounding."""
_NOTICED, _HELD = 0.01, 0.05
"""The share of their way over a training below which weights are not drawn back, and that of a step that holds them."""
_OF_STRATEGY = {"zero_stage": "deepspeed", "offload_optimizer": "deepspeed"}
"""Keys of the trainer that only one strategy uses."""


def tell(spec: RunSpec, data: DataModule, tuner: Tuner) -> None:
    """Log every setting of a run that will have no effect."""
    for line in (
        *_over_time(spec, data),
        *_of_parameters(spec, tuner),
        *_of_methods(spec),
        *_of_optimizer(spec, tuner),
        *_of_encoding(spec),
        *_of_masking(spec.data),
        *_of_task(spec),
        *_of_interactions(spec),
        *_of_generation(spec),
        *_of_sample(spec.budget),
        *_of_regularizers(spec, data),
        *_of_augmentations(spec),
        *_of_hardware(spec.trainer, spec.data),
        *_of_attention(spec.trainer, tuner),
    ):
        log.warning("no effect: %s", line)


def _over_time(spec: RunSpec, data: DataModule) -> Iterator[str]:
    """Yield the settings for which the run is too short."""
    epoch = data.steps_of_epoch()
    steps, who = _most_steps(spec, data)
    if (warmup := spec.scheduler.warmup(steps)) > steps:
        yield (
            f"optimizer.lr={spec.optimizer.lr:g} is never reached: {who} has {steps} steps, and the warm-up takes "
            f"{warmup} (scheduler.warmup_steps)"
        )
    elif isinstance(schedule := spec.scheduler, WarmupStableDecay) and schedule.warmup_steps is not None:
        wanted, decay = round(schedule.decay_fraction * steps), schedule.decay(steps)
        if decay < wanted:
            yield (
                f"scheduler.decay_fraction={schedule.decay_fraction:g}: of the {wanted} steps of the decay, the "
                f"warm-up leaves {decay}: it takes {warmup} of {steps} (scheduler.warmup_steps)"
            )
    between = spec.budget.validate_every
    validations = math.ceil(spec.steps(epoch) / max(1, round(between * epoch)))
    if between > 1 and validations == 1:
        yield (
            f"budget.validate_every={between:g} epochs is longer than the run: it is validated once, at its end, and "
            "its last checkpoint is the best"
        )
    for name, callback in spec.callbacks.items():
        if isinstance(callback, EarlyStopping) and validations <= callback.patience and spec.budget.max_epochs:
            yield (
                f"callbacks.{name}: it waits for {callback.patience} validations that are no better (patience), and "
                f"the run has {validations}"
            )


def _most_steps(spec: RunSpec, data: DataModule) -> tuple[int, str]:
    """Return the steps that schedules and terms count, and whose they are: in a federation, those of one client."""
    steps = spec.steps(data.steps_of_epoch())
    if spec.federated is None or not spec.in_rounds:
        return steps, "the run"
    largest = max(data.clients.values(), key=len)
    return steps * len(Steps(data, largest, spec.federated, 0)), "the largest client"


def _of_parameters(spec: RunSpec, tuner: Tuner) -> Iterator[str]:
    """Yield the learning rate that applies to no parameter."""
    head = tuner.context.head
    names = [name for name, parameter in tuner.model.named_parameters() if parameter.requires_grad]
    learnt = [name for name in names if is_of_head(name, head) and name.split(".")[-1] not in spec.task.only_fitted]
    if spec.optimizer.head_lr is not None and spec.task.draws_partners:
        yield f"optimizer.head_lr={spec.optimizer.head_lr:g}: task={spec.task.name} fits its head, and trains none"
    elif spec.optimizer.head_lr is not None and not learnt:
        yield f"optimizer.head_lr={spec.optimizer.head_lr:g}: the head is pretrained, so no new head is trained"
    elif spec.optimizer.head_lr is not None and all(is_of_head(name, head) for name in names):
        yield (
            f"optimizer.lr={spec.optimizer.lr:g}: only the head is trained, at "
            f"optimizer.head_lr={spec.optimizer.head_lr:g}"
        )


def _of_methods(spec: RunSpec) -> Iterator[str]:
    """Yield the learning rates of methods that are set, and that the run does not take, and a correction of nothing."""
    peft = spec.peft
    usual = {"peft": _usual_rate(peft)}
    methods = {"peft": peft}
    if isinstance(peft, Combined):
        usual = {"peft": peft.second.learning_rate}
        for which, method in peft.both:
            methods[f"peft.{which}"], usual[f"peft.{which}"] = method, _usual_rate(method)
    for key, method in methods.items():
        if usual[key] is not None and method.learning_rate not in (usual[key], spec.optimizer.lr):
            yield f"{key}.learning_rate={method.learning_rate:g}: the run learns at optimizer.lr={spec.optimizer.lr:g}"
        if isinstance(method, Qera) and spec.model.quantize == "none":
            yield f"{key}={method.name}: it corrects what model.quantize rounds, which is none: this is peft=lora"


def _usual_rate(method: Method) -> float | None:
    """Return the learning rate in the file of a method; None: it has none of its own name."""
    file = conf_dir() / "peft" / f"{method.name}.yaml"
    if not file.is_file():
        return None
    rate = yaml.safe_load(file.read_text(encoding="utf-8")).get("learning_rate")
    return None if rate is None else float(rate)  # 5e-4, without a point, is a text to YAML 1.1


def _of_optimizer(spec: RunSpec, tuner: Tuner) -> Iterator[str]:
    """Yield the paged optimiser that pages nothing."""
    algorithm: Any = getattr(spec.optimizer.algorithm, "func", None)
    if algorithm is None or not algorithm.__name__.startswith("Paged"):
        return
    largest = max(parameter.numel() for parameter in tuner.model.parameters() if parameter.requires_grad)
    if spec.trainer.accelerator == "cpu":
        yield f"optimizer.algorithm={algorithm.__name__}: it pages the memory of GPUs, and this is the CPU"
    elif largest < _PAGED_FROM:
        yield (
            f"optimizer.algorithm={algorithm.__name__}: it pages the state of tensors of {_PAGED_FROM:,} weights and "
            f"more, and the largest that is trained has {largest:,}"
        )


def _of_encoding(spec: RunSpec) -> Iterator[str]:
    """Yield the length settings that the task's encoding ignores."""
    assert is_pydantic_dataclass(DataSpec)
    for key, value in spec.data.limits._asdict().items():
        if key not in spec.task.limited_by and value != DataSpec.__pydantic_fields__[key].get_default():
            yield f"data.{key}={value}: task={spec.task.name} does not encode its examples by it"


def _of_masking(data: DataSpec) -> Iterator[str]:
    """Yield the countries of personal data that looks alike in all of them."""
    mask = data.mask_pii
    if mask is not None and mask.regions is not None and not mask.has_regions:
        yield f"data.mask_pii.regions={','.join(mask.regions)}: only phone and national_id depend on a country"


def _of_task(spec: RunSpec) -> Iterator[str]:
    """Yield the options of the task that act only together with another one, and shapes that it does not let fill."""
    if spec.task.packs and spec.trainer.static_shapes:
        auto = ", as auto is on a GPU" if spec.trainer.accelerator == "gpu" else ""
        yield (
            f"trainer.static_shapes=true{auto}: task.packing has examples share rows, and neither these nor batches "
            "are filled up further"
        )
    for name, (key, needed) in spec.task.acts_with.items():
        value = getattr(spec.task, name)
        if attrgetter(key)(spec) != needed and value != _default(spec.task, name):
            yield f"task.{name}={value}: it acts only with {key}={str(needed).lower()}"
    changes = getattr(spec.task, "changes", None)
    if isinstance(changes, Changes) and changes.speed is not None and changes.percents == (100, 100):
        yield f"task.changes.speed={list(changes.speed)}: factors are drawn in whole percents, and these are all 100 %"


def _default(made: Any, option: str) -> Any:
    """Return the default of an option of an object that a configuration has made."""
    return type(made).__pydantic_fields__[option].get_default()


def _of_interactions(spec: RunSpec) -> Iterator[str]:
    """Yield the columns of interactions that a ranking of items does not read."""
    format = spec.data.format
    if not isinstance(format, Interactions) or not isinstance(spec.task, RankingTask):
        return
    if format.numbers:
        yield f"data.format.numbers={','.join(format.numbers)}: task={spec.task.name} reads no numbers, task=click does"
    if format.label is not None and not format.only_positive:
        yield (
            f"data.format.label={format.label}: task={spec.task.name} learns every interaction, liked or not. "
            "data.format.only_positive=true leaves the others out; task=click learns the label"
        )


def _of_generation(spec: RunSpec) -> Iterator[str]:
    """Yield the options of sampling where texts are searched for."""
    generate = getattr(spec.task, "generate", None)
    if isinstance(generate, Generation):
        for name in generate.idle():
            yield f"task.generate.{name}={getattr(generate, name)}: it acts only with task.generate.do_sample=true"


def _of_sample(budget: BudgetSpec) -> Iterator[str]:
    """Yield the settings of a sample where all training examples are used."""
    if budget.per_class is None and budget.train_examples is None:
        if budget.stratified:
            yield "budget.stratified=true: budget.train_examples=null takes all examples"
        if budget.sample_seed and budget.half is None and budget.validation_per_class is None:
            yield f"budget.sample_seed={budget.sample_seed}: budget.train_examples=null takes all examples"


def _of_regularizers(spec: RunSpec, data: DataModule) -> Iterator[str]:
    """Yield the regularisers and options of theirs that cannot act, and smoothing of a loss that is not learnt."""
    (steps, who), rate = _most_steps(spec, data), max(spec.optimizer.lr, spec.optimizer.head_lr or 0.0)
    for name, regularizer in spec.chosen.items():
        if regularizer.off is not None:
            yield f"{key_of(name)}: {regularizer.off} leaves it out"
        elif isinstance(regularizer, Term) and regularizer.start_step > steps:
            yield f"{key_of(name)}.start_step={regularizer.start_step}: {who} has {steps} steps"
        elif isinstance(regularizer, L2Sp) and (drawn := rate * regularizer.strength * steps) < _NOTICED:
            yield (
                f"regularizer.{name}.strength={regularizer.strength:g}: over {steps} steps at optimizer.lr={rate:g} it "
                f"draws weights back by at most {drawn:.2g} of their way. Set {_round_up(1 / (rate * steps)):g} or more"
            )
        elif isinstance(regularizer, RecAdam) and steps < 2 * regularizer.t0 and rate * regularizer.strength > _HELD:
            yield (
                f"regularizer.{name}.t0={regularizer.t0:g}: what is learnt before it, of {steps} steps, as the weights "
                "are drawn back to their start. Set a quarter of the steps or less"
            )
        elif isinstance(regularizer, Distil | Lwf) and spec.task.head.problem_type == "regression":
            yield f"regularizer.{name}.temperature={regularizer.temperature:g}: a regression has no classes to soften"
        elif isinstance(regularizer, AdversarialLoss) and regularizer.reach < regularizer.epsilon * (1 - _ROUNDING):
            yield (
                f"regularizer.{name}.epsilon={regularizer.epsilon:g}: its steps from init=zero come to "
                f"{regularizer.reach:g} at most; raise step_size or steps with it"
            )
        elif isinstance(regularizer, OfGroups) and regularizer.column is not None:
            if regularizer.terms != _default(regularizer, "terms"):
                yield f"regularizer.{name}.terms={regularizer.terms}: column={regularizer.column} takes its place"
        elif isinstance(regularizer, Focal | MixText) and (smoothing := getattr(spec.task, "label_smoothing", 0)):
            yield (
                f"task.label_smoothing={smoothing:g} on the training: {key_of(name)} takes the place of the loss that "
                "it smooths"
            )


def _round_up(number: float) -> float:
    """Return the next power of ten."""
    return float(10 ** math.ceil(math.log10(number)))


def _of_augmentations(spec: RunSpec) -> Iterator[str]:
    """Yield the augmentations that edit no examples; `Augmenter.prepare` refuses those that could not. And options of a
    source of synonyms that is not chosen."""
    for name, augmentation in spec.augment.items():
        if augmentation.share == 0:
            yield f"augment.{name}: share=0 leaves it out"
        elif isinstance(augmentation, Synonym):
            other = "neighbours" if augmentation.source == "wordnet" else "senses"
            if (value := getattr(augmentation, other)) != _default(augmentation, other):
                yield f"augment.{name}.{other}={value}: source={augmentation.source} does not go by it"


def _of_attention(trainer: TrainerSpec, tuner: Tuner) -> Iterator[str]:
    """Yield the choice of kernels for attention that takes none of them."""
    if trainer.cudnn_attention and trainer.accelerator == "cpu":
        yield "trainer.cudnn_attention=true: cuDNN is for GPUs, and this is the CPU"
    elif trainer.cudnn_attention and (attention := attention_of(tuner.model)) != "sdpa":
        yield f"trainer.cudnn_attention=true: model.attention={attention} takes no kernel of cuDNN"


def _of_hardware(trainer: TrainerSpec, data: DataSpec) -> Iterator[str]:
    """Yield the settings that leave parts of a batch empty, and those of a strategy that is not used."""
    parts = trainer.accumulate * trainer.world_size
    if parts > data.batch_size and data.batch_tokens is None:
        yield (
            f"trainer.accumulate={trainer.accumulate} on {trainer.world_size} devices: a batch of "
            f"data.batch_size={data.batch_size} has no {parts} parts; "
            f"{parts - data.batch_size} of them are empty in every step"
        )
    if trainer.find_unused_parameters:
        yield "trainer.find_unused_parameters=true: a gradient that a device does not have counts as zero anyway"
    for key, strategy in _OF_STRATEGY.items():
        default = TrainerSpec.__dataclass_fields__[key].default
        if getattr(trainer, key) != default and trainer.strategy != strategy:
            yield f"trainer.{key}={getattr(trainer, key)}: it is for trainer={strategy}, and this is {trainer.strategy}"
