"""What a finished run says of the examples of a pool: its answers, with dropout too, and what its head reads."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from peftlab.active_learning.observed import Observed
from peftlab.active_learning.queries import Kind, Need
from peftlab.data.encoding import encode
from peftlab.data.module import DataModule, Split
from peftlab.devices.spec import AUTOCAST
from peftlab.errors import ConfigError
from peftlab.speed.activation_cache import ActivationCache, Recall
from peftlab.speed.border import NoBorderError, find_border, starting_from
from peftlab.tasks.classification import Classification
from peftlab.tasks.multilabel import MultiLabel
from peftlab.tasks.ner import Ner
from peftlab.tasks.prompting.verbalizer import Verbalizer
from peftlab.tasks.regression import Regression
from peftlab.tasks.task import IGNORED, Encoded, Task

if TYPE_CHECKING:
    from peftlab.tasks.batch import Batch
    from peftlab.use.finished import FinishedRun

log = logging.getLogger("peftlab")

DRAWS = 10
"""Passes with dropout."""

KINDS: Mapping[type[Task], Kind] = {
    Classification: "classification",
    MultiLabel: "several labels",
    Ner: "ner",
    Regression: "regression",
}


def kind_of(task: Task) -> Kind:
    """Return what kind of task a query sees.

    Raises:
        ConfigError: it is none that a loop asks labels for.
    """
    for cls, kind in KINDS.items():
        if isinstance(task, cls):
            return kind
    raise ConfigError(
        f"task={task.name}: active learning is for {', '.join(KINDS.values())}: their answers say how sure a model is "
        "of each label of a text or a word"
    )


def observe(run: FinishedRun, examples: Sequence[Any], needs: Collection[Need], seed: Sequence[int]) -> Observed:
    """Return what the model of a finished run says of `examples`, in the precision of the run.

    If the run was trained from kept activations, those of `examples` are kept too: a frozen encoder reads them once for
    all rounds.

    Args:
        run: the run.
        examples: of its task; their gold is not read.
        needs: what is asked for.
        seed: of dropout.

    Raises:
        ConfigError: the model has no dropout, or no layer that its logits are a product of.
    """
    by = run.predictor
    encoded = encode(by.task, examples, by.processor, by.limits)
    draws: list[list[list[Any]]] = [[[] for _ in examples] for _ in range(1 + DRAWS * ("samples" in needs))]
    embeddings: dict[int, np.ndarray] = {}
    with torch.inference_mode(), by.arithmetic(), _kept(run, examples, encoded) as recall:
        for number, (indices, batch) in enumerate(by.batches(examples, encoded)):
            if recall is not None:
                recall(batch, indices)
            with _reading(by.model if "embeddings" in needs else None) as read:
                outputs = by.task.outputs(by.model, batch)
            _keep(draws[0], indices, by.task.answers(outputs, batch, by.model, final=True))
            if "embeddings" in needs:
                embeddings |= zip(indices, _embeddings(read, outputs.logits, batch), strict=True)
            for draw in range(1, len(draws)):
                with _as_in_training(by.model, [*seed, number, draw]):
                    outputs = by.task.outputs(by.model, batch)
                _keep(draws[draw], indices, by.task.answers(outputs, batch, by.model, final=True))
    plain, *samples = map(_flat, draws)
    if samples:
        _check_draws(samples)
    return Observed(
        starts=np.concatenate([[0], np.cumsum([len(of_example) for of_example in draws[0]])]),
        distributions=plain,
        samples=np.stack(samples) if samples else None,
        embeddings=np.stack([embeddings[n] for n in range(len(examples))]) if embeddings else None,
    )


def _keep(draws: list[list[Any]], indices: Sequence[int], answers: Sequence[Mapping[str, Any]]) -> None:
    """Put the distributions in the answers to the examples at `indices` into their places."""
    for n, answer in zip(indices, answers, strict=True):
        of_example = answer.get("probabilities")
        if isinstance(of_example, Mapping):  # several labels, each by itself
            draws[n] = [[1 - p, p] for p in of_example.values()]
        elif of_example and isinstance(of_example[0], float):
            draws[n] = [of_example]
        else:  # words, of which those without a token have none; or a number
            draws[n] = [of_word for of_word in of_example or () if of_word is not None]


def _flat(draws: Sequence[Sequence[Any]]) -> np.ndarray:
    every = [of_each for of_example in draws for of_each in of_example]
    return np.asarray(every, dtype=np.float64) if every else np.empty((0, 1))


@contextmanager
def _as_in_training(model: nn.Module, seed: Sequence[int]) -> Iterator[None]:
    """In this context `model` drops what `seed` says; the logits of a prompt are calibrated as those of its answers."""
    number = int(np.random.SeedSequence([*seed]).generate_state(1, np.uint64)[0] >> np.uint64(1))
    devices = {parameter.device for parameter in model.parameters() if parameter.device.type == "cuda"}
    with torch.random.fork_rng(devices):  # by default it would put a context on every GPU of the machine
        torch.manual_seed(number)
        model.train()
        for module in model.modules():
            if isinstance(module, Verbalizer):  # it has no dropout, and is not calibrated in training
                module.eval()
        try:
            yield
        finally:
            model.eval()


def _check_draws(samples: Sequence[np.ndarray]) -> None:
    """Raise ConfigError if all draws are the same."""
    if all(np.array_equal(samples[0], other) for other in samples[1:]):
        raise ConfigError(
            "--query bald: the model has no dropout, so that all draws of it agree. Set model.dropout=0.1 or "
            "model.head_dropout=0.1, or take another query"
        )


@contextmanager
def _reading(model: nn.Module | None) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """In this context, keep what each module takes and gives, where both are tensors; innermost ones come first."""
    read: list[tuple[Tensor, Tensor]] = []

    def keep(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if inputs and isinstance(inputs[0], Tensor) and isinstance(output, Tensor):
            read.append((inputs[0], output))

    with ExitStack() as after:
        for module in model.modules() if model is not None else ():
            after.callback(module.register_forward_hook(keep).remove)
        yield read


def _embeddings(read: Sequence[tuple[Tensor, Tensor]], logits: Tensor, batch: Batch) -> np.ndarray:
    """Return what the layer that gave `logits` has read of each example, shape (examples, hidden).

    A decoder gives logits at every token, and reads those of one; a sentence has the mean over its words; a prompt what
    is read at all places of its answer.

    Raises:
        ConfigError: no layer has given them.
    """
    for inputs, output in read:
        if output.shape == logits.shape and torch.equal(output, logits):
            if logits.ndim == 2:  # of a prompt, those of the one token that it is answered at, (examples, 1, hidden)
                return inputs.flatten(1).float().cpu().numpy()
            words = batch.targets["labels"] != IGNORED
            return _means(inputs.float(), words, batch)
        if output.ndim == 3 and logits.ndim == 2 and output.shape[::2] == logits.shape:
            place = (output == logits.unsqueeze(1)).all(-1)
            if place.any(-1).all():
                chosen = inputs[torch.arange(len(inputs)), place.long().argmax(1)]
                return chosen.float().cpu().numpy()
    raise ConfigError(
        "--query: no layer of the model gives its logits, so that there is nothing that the head reads. Take a query "
        "of probabilities, such as breaking_ties"
    )


def _means(states: Tensor, chosen: Tensor, batch: Batch) -> np.ndarray:
    """Return the mean of the `chosen` states of each example, over all its rows; 0 for one without any."""
    sums = states.new_zeros(len(batch.examples), states.shape[-1])
    number = states.new_zeros(len(batch.examples))
    rows = batch.rows.to(states.device)
    sums.index_add_(0, rows, (states * chosen.unsqueeze(-1)).sum(1))
    number.index_add_(0, rows, chosen.sum(1).to(states.dtype))
    means: np.ndarray = (sums / number.clamp(min=1).unsqueeze(-1)).cpu().numpy()
    return means


@contextmanager
def _kept(run: FinishedRun, examples: Sequence[Any], encoded: Encoded) -> Iterator[Recall | None]:
    """In this context the model starts from kept activations, which `Recall` adds to a batch; None: it does not."""
    by, trainer = run.predictor, run.parts.trainer
    if trainer.cache_activations is not True or trainer.accelerator == "gpu":
        yield None
        return
    data = DataModule(run.parts.data, by.task, by.processor, run.spec.budget, run.spec.seed)
    data.splits["train"], data.static = Split(examples, encoded), by.static
    try:
        border = find_border(by.model, data.short_and_long(), AUTOCAST.get(trainer.precision))
    except NoBorderError as reason:
        log.info("the pool is read through the whole model: %s", reason)
        yield None
        return
    recall = ActivationCache(border, by.model, data, trainer).recall("train")
    with starting_from(border, by.model):
        yield recall
