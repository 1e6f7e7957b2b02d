"""What would spend privacy that the accountant does not count: refused, with the reason and the remedy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from peftlab.data.form import has_groups, has_histories, weight_of
from peftlab.data.spec import BudgetSpec, DataSpec
from peftlab.devices.spec import TrainerSpec
from peftlab.errors import ConfigError
from peftlab.methods.method import Method
from peftlab.privacy.spec import PrivacySpec
from peftlab.regularizers.regularizer import Regularizer, StepRule, Term
from peftlab.tasks.task import Task


class Sections(Protocol):
    """The sections of a run's configuration that may spend privacy."""

    data: DataSpec
    task: Task
    peft: Method
    trainer: TrainerSpec
    budget: BudgetSpec
    callbacks: Any
    augment: Any
    privacy: PrivacySpec | None
    federated: Any
    derived: Any

    @property
    def acting(self) -> Mapping[str, Regularizer]:
        """The regularisers that act."""


def refuse_uncounted(spec: Sections) -> None:
    """Check that nothing in a configuration with `privacy`, if it has that, spends more than the accountant counts.

    Raises:
        ConfigError: something does; says why, and what to change.
    """
    if spec.privacy is None or spec.derived is not None:  # a run that is computed from others trains nothing
        return
    if spec.privacy.unit == "client":
        for reason in _between_clients(spec):
            raise ConfigError(f"privacy: {reason}")
        return
    for reason in (
        *_of_task(spec.task),  # first what no other setting mends
        *_of_data(spec, spec.privacy),
        *_of_method(spec.peft),
        *_of_regularizers(spec.acting),
        *_of_training(spec),
    ):
        raise ConfigError(f"privacy: {reason}")


def check_labels(task: Task, declared: list[str] | None) -> None:
    """Check that the labels of a private run do not come from its data.

    Raises:
        ConfigError: they do.
    """
    if task.declared_labels and declared is None:
        raise ConfigError(
            "privacy: the list of labels would be read from the examples, and show that some example has each. "
            f"If they are known to everybody, declare them: 'data.labels=[{','.join(task.declared_labels)}]'"
        )


def _between_clients(spec: Sections) -> Iterator[str]:
    """Yield what would tell of a client beside what it sends, which alone is clipped; see also the federation's own."""
    if spec.federated is None or spec.federated.rounds is None:
        yield (
            "privacy.unit=client: there are no clients that train in rounds. Choose federated=fedavg or fedprox, or "
            "privacy.unit=example"
        )
    if spec.data.clean is not None or spec.data.duplicates == "drop":
        yield (
            "data.clean and data.duplicates=drop judge the examples of a client by those of others. Set "
            "data.clean=null data.duplicates=keep"
        )
    yield from _of_budget(spec.budget)
    yield from _of_method(spec.peft)
    for name, each in spec.acting.items():
        if type(each).prepare is not Regularizer.prepare:
            yield f"regularizer.{name} reads the examples of all clients, or a model that has seen them. Leave it out"
    yield from _of_callbacks(spec.callbacks)


def _of_budget(budget: BudgetSpec) -> Iterator[str]:
    for key in ("stratified", "per_class", "listed", "overfit_batches"):
        if getattr(budget, key):
            yield f"budget.{key} chooses examples by the others. Take a random sample: budget.train_examples=N alone"


def _of_callbacks(callbacks: Mapping[str, Any]) -> Iterator[str]:
    for name, callback in callbacks.items():
        if str(getattr(callback, "monitor", "")).startswith("train/"):
            yield f"callbacks.{name}.monitor={callback.monitor}: it is no private value. Monitor the validation split"


def _of_data(spec: Sections, privacy: PrivacySpec) -> Iterator[str]:
    data = spec.data
    if data.batch_tokens is not None:
        yield (
            "data.batch_tokens fills batches by length, and each unit must join each batch on its own. "
            "Set data.batch_tokens=null; data.batch_size is the expected size"
        )
    if data.replay is not None:
        yield "data.replay: examples of another run are in no unit of this one's files. Leave it out"
    if data.clean is not None:
        yield "data.clean judges an example by others. Clean the files first, by rules that need no other example"
    if weight_of(data.format) is not None:
        yield f"data={data.name} weights examples, and each is to count alike. Leave the column of weights out"
    if privacy.unit == "group" and data.duplicates == "drop":
        yield (
            "data.duplicates=drop: a group that comes or goes changes which examples of other groups are kept. Set "
            "data.duplicates=keep"
        )
    if privacy.unit == "example" and has_histories(data.format):
        yield (
            "privacy.unit=example: an interaction is in the histories of its user's later ones, too. Set "
            "privacy.unit=group, which protects users"
        )
    if privacy.unit == "group" and not (has_groups(data.format) or has_histories(data.format)):
        yield (f"privacy.unit=group: data={data.name} names no group. Set data.format.group, or privacy.unit=example")
    yield from _of_budget(spec.budget)
    for name, each in spec.augment.items():
        if each.mixes and each.share > 0:
            yield f"augment.{name} writes parts of other examples into a text. Leave it out"


def _of_task(task: Task) -> Iterator[str]:
    for key in ("class_weights", "pos_weight"):
        if isinstance(value := getattr(task, key, None), str):
            yield f"task.{key}={value} counts the training examples. Give numbers, or null"
    if "mean" in task.settled() and None in task.settled().values():
        yield (
            "the mean and the standard deviation of the targets would be computed from the training examples. Give "
            "values that are known to everybody: task.mean=... task.sd=..."
        )
    for option in task.reading_options:
        yield f"{option} reads training examples, without noise. Choose another value"
    if task.fits_head:
        yield f"task={task.name} fits its head to the training examples, without noise. Choose task=classification"
    if task.packs:
        yield "task.packing lays several examples into a row: their gradients cannot be told apart. Set it to off"


def _of_method(method: Method) -> Iterator[str]:
    if type(method).calibrate is not Method.calibrate and any(
        type(each).calibrate is not Method.calibrate for each in getattr(method, "methods", [method])
    ):
        yield (
            f"peft={method.name} looks at the training examples before the training, without noise. "
            "Choose a method that does not, such as lora"
        )


def _of_regularizers(acting: Mapping[str, Regularizer]) -> Iterator[str]:
    for name, each in acting.items():
        if isinstance(each, StepRule):
            yield (
                f"regularizer.{name} computes a step's gradient from several, each of which would spend as much. Leave "
                "it out"
            )
        elif isinstance(each, Term) and (each.couples or each.learns):
            yield f"regularizer.{name}: its term of an example depends on other examples. Leave it out"
        elif type(each).prepare is not Regularizer.prepare:
            yield f"regularizer.{name} reads the training examples, or a model that has seen them. Leave it out"


def _of_training(spec: Sections) -> Iterator[str]:
    trainer = spec.trainer
    if trainer.world_size > 1:
        yield f"several devices would each add noise. Use one: trainer.devices=1, not {trainer.devices}"
    if trainer.precision == "16-mixed":
        yield "trainer.precision=16-mixed scales losses until they overflow. Use 32-true or bf16-mixed"
    if trainer.compile:
        yield "trainer.compile=true: gradients of single examples need the model's own code. Set trainer.compile=false"
    if trainer.on_nan == "skip_batch":
        yield (
            "trainer.on_nan=skip_batch: which steps are left out would depend on the examples; those whose gradient is "
            "not finite are left out of the sum anyway. Set trainer.on_nan=stop"
        )
    yield from _of_callbacks(spec.callbacks)


def not_covered(spec: Sections, held_out: bool) -> list[str]:
    """Return what the guarantee of a run does not cover.

    Args:
        spec: its configuration.
        held_out: whether validation or test are examples of the training file.
    """
    lines = [
        "the training loss, the gradient norm and the share of clipped gradients, in logs and record: keep them",
        "validation and test examples: they choose the best checkpoint and thresholds, and are scored without noise",
        "the number of examples, and what the data card says of them",
    ]
    if spec.privacy is not None and spec.privacy.unit == "client":
        lines += [
            "the server, which sees what each client sends: it is the server that clips and adds the noise",
            "which clients took part in which round, in the record: the guarantee counts on their not being known",
        ]
    if held_out:
        lines.append("examples of the training file that are held out for validation or test")
    if getattr(spec, "adapter", None) is not None or spec.peft.earlier is not None:
        lines.append("the initial adapter: what it was trained on")
    if spec.privacy is not None and spec.privacy.key_file is None:
        lines.append(
            "anybody who knows the run's identity, which the record shows, can compute the noise: set privacy.key_file "
            "before the model or the record is given away"
        )
    return lines
