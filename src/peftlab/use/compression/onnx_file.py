"""Writes the model of a run as an ONNX file, makes its weights 8 bits wide, and compares both with torch."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib import util
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from peftlab.data.batching import in_order_of_length
from peftlab.data.module import DataModule
from peftlab.errors import ConfigError, UserError
from peftlab.methods.sessions import SessionModel
from peftlab.tasks.batch import Batch
from peftlab.tasks.networks.heads import logits_of
from peftlab.tasks.task import Task
from peftlab.use.compression.measuring import share_of_equal

INPUTS = 1_000
"""The most examples of the validation split that a file is compared with torch on."""

TOLERANCE = 1e-4
"""How far a logit of a file in fp32 may be from torch's; a logit beyond 1 may be as many times as far."""

_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class Checked:
    """How near a file is to the model in torch, on the validation split."""

    examples: int
    largest_difference: float
    """Of a logit."""
    largest_logit: float
    agreement: float | None
    """The share of equal answers; None where they are numbers."""


def export(model: nn.Module, data: DataModule, file: Path) -> dict[str, Any]:
    """Write `model` to `file` with any number of rows and of tokens, by torch's own exporter, and describe it.

    Args:
        model: on the CPU in fp32, in evaluation mode.
        data: its loaded data, of whose validation split a few examples show the exporter what it takes.
        file: the file.

    Raises:
        ConfigError: the packages are missing.
        UserError: torch cannot trace the model.
    """
    if missing := [name for name in _PACKAGES if util.find_spec(name) is None]:
        raise ConfigError(f'ONNX needs {", ".join(missing)}: pip install "peftlab[compress]"')
    members = data.splits["validation"]
    order = np.argsort(members.encoded.lengths, kind="stable")
    chosen = sorted({int(order[-1]), int(order[len(order) // 2]), int(order[0])})  # one row would freeze their number
    batch = data.task.apart(members.examples, members.encoded, chosen)
    tokens = {name for name in batch.inputs if name in batch.padding}
    dynamic = {name: {0: _DYNAMIC, **({1: _DYNAMIC} if name in tokens else {})} for name in batch.inputs}
    with torch.inference_mode():
        outputs = list(logits_of(model(**batch.inputs)))
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), _quiet("torch.onnx", "onnxscript"):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                _Logits(model).eval(),
                kwargs={"inputs": batch.inputs},
                input_names=list(batch.inputs),
                output_names=outputs,
                dynamic_shapes={"inputs": dynamic},
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # whatever the model's code does may be what cannot be traced
        raise UserError(
            f"{type(model).__name__}: torch cannot export it to ONNX: {_first_cause(error)}. "
            "Merge the run first, or compress it in torch"
        ) from error
    assert program is not None
    program.save(str(file))
    return {
        "inputs": list(batch.inputs),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "opset": program.model.opset_imports[""],
        "weights": "fp32",
        "packages": {name: version(name) for name in ("torch", *_PACKAGES)},
    }


def quantize(file: Path, smaller: Path, embeddings: bool = True) -> None:
    """Write the model in `file` with weights of 8 bits to `smaller`, by ONNX Runtime.

    Weights are rounded with a scale for each output channel: one scale for a whole matrix, the library's default, costs
    more of the score. Activations are rounded as they come, with the range of their batch, so that an answer depends a
    little on what it shares a batch with.

    Args:
        file: a model in fp32.
        smaller: the file to write.
        embeddings: whether tables of embeddings are rounded too, not only the weights of products.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _quiet(None):  # it advises a step that torch's exporter has taken
        quantize_dynamic(
            file,
            smaller,
            per_channel=True,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=None if embeddings else ["MatMul", "Gemm"],
        )


def compare(model: nn.Module, session: SessionModel, data: DataModule) -> Checked:
    """Compare the logits and the answers of `session` with those of `model`, on at most `INPUTS` validation examples.

    Args:
        model: on the CPU in fp32, in evaluation mode.
        session: computes the same, or nearly.
        data: their loaded data.
    """
    task, answers, others = data.task, list[Any](), list[Any]()
    largest, greatest = torch.zeros(()), torch.zeros(())
    for batch in _batches(data):
        with torch.inference_mode():
            one, other = model(**batch.inputs), session(**batch.inputs)
        theirs = logits_of(other)
        for name, logits in logits_of(one).items():
            largest = torch.maximum(largest, _largest(logits - theirs[name]))
            greatest = torch.maximum(greatest, _largest(logits))
        answers += _answers(task, one, batch, model)
        others += _answers(task, other, batch, model)
    return Checked(len(answers), float(largest), float(greatest), share_of_equal(answers, others))


def check(compared: Checked) -> dict[str, Any]:
    """Return what was compared as JSON values, if logits are within `TOLERANCE`.

    Raises:
        UserError: a logit is farther off.
    """
    if not compared.largest_difference <= TOLERANCE * max(1.0, compared.largest_logit):
        raise UserError(
            f"the logits of the ONNX file differ from torch's by up to {compared.largest_difference:.2g}, of at most "
            f"{compared.largest_logit:.2g}: more than rounding explains. Compress this model in torch"
        )
    return asdict(compared)


class _Logits(nn.Module):
    """The model with nothing but its logits as outputs."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        return tuple(logits_of(self.model(**inputs)).values())


def _batches(data: DataModule) -> Iterator[Batch]:
    members = data.splits["validation"]
    chosen = np.unique(np.linspace(0, members.rows - 1, INPUTS).astype(int))
    for batch in in_order_of_length(members.encoded.lengths[chosen], data.spec.eval_batch_size):
        yield data.task.apart(members.examples, members.encoded, [int(chosen[place]) for place in batch])


def _answers(task: Task, outputs: Any, batch: Batch, model: nn.Module) -> list[Any]:
    return [answer["predicted"] for answer in task.answers(outputs, batch, model, final=True)]


def _largest(tensor: Tensor) -> Tensor:
    return tensor.abs().max() if tensor.numel() else torch.zeros(())


def _first_cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return next(iter(str(error).splitlines()), type(error).__name__)


@contextlib.contextmanager
def _quiet(*names: str | None) -> Iterator[None]:
    """Silence loggers below errors."""
    loggers = [logging.getLogger(name) for name in names]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


_DYNAMIC = torch.export.Dim.DYNAMIC
