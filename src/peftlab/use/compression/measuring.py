"""What a model takes to answer: CPU time, latency, bytes and memory, in turns with the model that it replaces."""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from peftlab.devices.peak_memory import forget_peak, peak_memory
from peftlab.methods.sessions import SessionModel
from peftlab.report.study import Run
from peftlab.tasks.batch import Batch
from peftlab.use.evaluate import computing_as
from peftlab.use.examples import data_of, some
from peftlab.use.predictor import Predictor

if TYPE_CHECKING:
    from peftlab.use.finished import FinishedRun

EXAMPLES = 128
"""The most examples that are timed, a random sample of the test split."""

SINGLE = 32
"""How many of them are also timed one at a time."""

SIZES = (1, 32)
"""Examples in a batch."""

ROUNDS = 3
"""How often each batch is timed, after one pass that is not."""


@dataclass(frozen=True)
class Timing:
    """The time of forward passes."""

    cpu_seconds: float
    """Of all threads, for 1,000 examples in batches of 32."""
    milliseconds: dict[str, dict[str, float]]
    """Latency of a batch by its size, "1" and "32": ``p50`` and ``p95`` over batches, each the median of its rounds."""


@dataclass(frozen=True)
class Measured:
    """What a model takes, on this machine."""

    timing: Timing
    beside: Timing | None
    """That of the model that took turns with it."""
    weight_bytes: int
    """Of its weights on disk: the file of a session, or the tensors of a whole model, backbone included."""
    memory_bytes: int | None
    """Of its weights and of a pass of 32 examples in memory; None where the system does not say."""
    parameters: int
    threads: int
    isa: str
    """The widest vector instructions of the CPU in use, and whether it multiplies 8 bits at once (VNNI): without, their
    products may saturate, and the answers of a model in 8 bits differ from those on another CPU."""
    examples: int
    rounds: int = ROUNDS


def measure(run: FinishedRun, beside: FinishedRun | None = None, threads: int | None = None) -> Measured:
    """Measure what the model of `run` takes on the CPU, in fp32 unless its file says otherwise.

    Tokenising and reading answers off the outputs are not timed: they do not depend on the model. What else the machine
    does slows all models, and so `beside` is timed again in turns with it, batch by batch; trust ratios of the two.

    Args:
        run: the run.
        beside: a run on the same data; None: the run is timed alone.
        threads: torch's threads, and the session's; None: as many as the run had.
    """
    members = data_of(run).splits["test" if run.spec.budget.test else "validation"]
    examples = some(members.examples, EXAMPLES, seed=0)
    threads = threads or run.record.data["environment"]["threads"]
    with computing_as(run.spec, threads):
        others = [] if beside is None else [_on_cpu(beside.predictor)]
        gc.collect()
        held = forget_peak() and peak_memory()
        own = _on_cpu(run.predictor)
        gc.collect()
        batches = {size: _batches(own, examples, size) for size in SIZES}
        counted = held and forget_peak()
        _pass(own, batches[SIZES[-1]][0])  # the longest
        memory = peak_memory() - held if counted else None
        timings = _timings([own, *others], batches)
        size, parameters = weight_bytes(own.model), run.parts.peft.count(own.model)["total_parameters"]
    for one in (run, *([beside] if beside else [])):
        one.model.to(one.device)  # whoever uses the run next expects it there
    return Measured(
        timing=timings[0],
        beside=timings[1] if others else None,
        weight_bytes=size,
        memory_bytes=memory,
        parameters=parameters,
        threads=threads,
        isa=instructions(),
        examples=len(examples),
    )


def weight_bytes(model: nn.Module) -> int:
    """Return the bytes of the weights of `model` on disk, as a whole model; tied ones count once."""
    if isinstance(model, SessionModel):
        assert model.file is not None
        return model.file.stat().st_size
    tensors = {(tensor.data_ptr(), tensor.shape): tensor.nbytes for tensor in model.state_dict().values()}
    return sum(tensors.values())


def agreement(run: FinishedRun, other: FinishedRun) -> float | None:
    """Return the share of test examples to which two runs give equal answers; None where answers are numbers.

    An answer is all that is predicted of an example, such as all tags of a sentence.
    """
    both = [Run(one.record, str(one.folder.path)).answers("test") or [] for one in (run, other)]
    return share_of_equal(*([answer["predicted"] for answer in answers] for answers in both))


def share_of_equal(answers: Sequence[Any], others: Sequence[Any]) -> float | None:
    """Return the share of equal answers; None where they are numbers, which rounding tells apart, or there are none."""
    if not answers or any(isinstance(answer, float) for answer in answers):
        return None
    return sum(one == other for one, other in zip(answers, others, strict=True)) / len(answers)


def instructions() -> str:
    """Return the vector instructions of the CPU, see `Measured.isa`."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        flags = ""
    vnni = " with VNNI" if "avx512_vnni" in flags or "avx_vnni" in flags else ""
    return f"{torch.backends.cpu.get_cpu_capability()}{vnni}"


def _on_cpu(predictor: Predictor) -> Predictor:
    if predictor.device.type == "cpu":
        return replace(predictor, precision="32-true")
    return replace(predictor, device=torch.device("cpu"), precision="32-true", static=None, tf32=False)


def _batches(predictor: Predictor, examples: Sequence[Any], size: int) -> list[Batch]:
    """Return batches of `size` examples, the longest first."""
    few = examples if size > 1 else examples[:: -(-len(examples) // SINGLE)]
    encoded = predictor.task.encode(few, predictor.processor, predictor.limits)
    return [batch for _, batch in replace(predictor, batch_size=size).batches(few, encoded)]


def _pass(predictor: Predictor, batch: Batch) -> tuple[float, float]:
    """Return the seconds of a forward pass by the clock, and those of the CPU."""
    with torch.inference_mode(), predictor.arithmetic():
        clock, cpu = time.perf_counter(), time.process_time()
        predictor.task.outputs(predictor.model, batch)
        return time.perf_counter() - clock, time.process_time() - cpu


def _timings(predictors: Sequence[Predictor], batches: dict[int, list[Batch]]) -> list[Timing]:
    seconds = {
        size: np.array([[[_pass(one, batch) for batch in of_size] for one in predictors] for _ in range(ROUNDS + 1)])[
            1:
        ]  # (rounds, predictors, batches, 2)
        for size, of_size in batches.items()
    }
    middle = {size: np.median(of_size, axis=0) for size, of_size in seconds.items()}
    examples = sum(len(batch.examples) for batch in batches[SIZES[-1]])
    return [
        Timing(
            cpu_seconds=1000 * float(middle[SIZES[-1]][number, :, 1].sum()) / examples,
            milliseconds={
                str(size): {
                    f"p{share}": 1000 * float(np.percentile(of_size[number, :, 0], share)) for share in (50, 95)
                }
                for size, of_size in middle.items()
            },
        )
        for number in range(len(predictors))
    ]
