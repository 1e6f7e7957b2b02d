"""Exports a finished run as a plain transformers model, with processor and model card, and checks it."""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor, nn

from peftlab.assembly import refer
from peftlab.config import RunSpec
from peftlab.data.module import DataModule
from peftlab.devices.process_state import restored
from peftlab.errors import UserError
from peftlab.models.pooling import make_plain
from peftlab.models.positions import positions
from peftlab.models.quantizing import dequantize
from peftlab.report.study import Run
from peftlab.runs.decisions import save_decisions
from peftlab.runs.environment import code_state
from peftlab.storage.atomic import remove_abandoned, temporary_for
from peftlab.storage.disk import writing
from peftlab.tasks.batch import Batch
from peftlab.tasks.networks.heads import logits_of, model_class
from peftlab.tasks.processor import LOADERS
from peftlab.training.tuner import Tuner
from peftlab.use import evidence
from peftlab.use.card import Published, model_card
from peftlab.use.certainty import certainty
from peftlab.use.claims import hold
from peftlab.use.evaluate import tuner_of
from peftlab.use.examples import data_of
from peftlab.use.unchanged import files, not_of_the_record

if TYPE_CHECKING:
    from peftlab.use.finished import FinishedRun

log = logging.getLogger("peftlab")

MERGE_TOLERANCE = 1e-3
"""How far a logit of an exported model may be from the run's, both in fp32: merging rounds weights."""

Dtype = Literal["fp32", "bf16", "fp16"]
"""The type of exported weights."""
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

_ONE_FILE = "1000GB"
"""The size from which transformers would divide the weights among several files."""

_SAMPLE, _AT_ONCE = 32, 4
"""How many examples of the validation split are compared where each token has a logit for each word of a vocabulary,
and how many at once: the logits of a whole split do not fit in memory."""

_MASKING = "mask personal data in what it is given first, with `peftlab mask` and the options of data.mask_pii"

_UNSCOPED = "transformers has no such thing as out of scope: the exported model gives every text a label"

_LOADING = """\
from {module} import {model}
from transformers import {loader}

model, {processor} = {model}.from_pretrained("."), {loader}.from_pretrained(".")"""

_WRITING = {
    "text-generation": """\
inputs = {processor}.apply_chat_template(
    [{{"role": "user", "content": "..."}}], add_generation_prompt=True, return_dict=True, return_tensors="pt"
)
text = {processor}.decode(model.generate(**inputs)[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)""",
    "continuation": """\
inputs = {processor}({text!r}, return_tensors="pt")
text = {processor}.decode(model.generate(**inputs)[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)""",
    "text2text-generation": """\
inputs = {processor}({text!r}, return_tensors="pt")
text = {processor}.decode(model.generate(**inputs)[0], skip_special_tokens=True)""",
}
"""How a model writes, by the kind of its head; of a decoder without a chat template, as a continuation."""


@dataclass(frozen=True)
class Exported:
    """A plain transformers model in a folder."""

    folder: Path
    largest_difference: float
    """Between its logits and those of the run on the validation split, in fp32; of a language model, on a sample of
    it."""


def export(run: FinishedRun, folder: str | Path, dtype: Dtype = "fp32") -> Exported:
    """Write the model of `run` as a plain transformers model, with processor and model card, and check it.

    The merged model, and the one that ``from_pretrained`` loads from the folder, are compared with the run by their
    logits on the run's validation split. Where the run's model is quantised, what the method added is merged into the
    rounded weights, in full precision, so that it computes what the run has scored. The folder appears only when it is
    complete.

    Args:
        run: the run.
        folder: new or empty.
        dtype: the type of the weights, which are in one file. 16 bits round them, which `Exported.largest_difference`
            shows; the merged model is checked before that.

    Raises:
        UserError: `folder` exists and is not empty, or is the current one; the method cannot be merged, transformers
            lacks the model's pooling, or the record contradicts the run.
        RuntimeError: a logit differs by more than `MERGE_TOLERANCE`.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"'{folder}' is there already and not empty: name a new or empty folder")
    place = folder.resolve()  # a link to an empty folder stays one
    if place == Path.cwd():
        raise UserError(f"'{folder}' is the current folder, which the model's would take the place of: name a new one")
    spec, tuner = run.spec, tuner_of(run)  # a new model: merging changes it
    data = data_of(run)
    refer(spec, run.pretrained, data, data.budget.scored)
    if doubt := _doubt(run, data, tuner):
        log.warning("the model card has no scores: %s", doubt)
    run.load_adapter(tuner.model)  # again: the evidence has loaded the best checkpoint
    expected = list(_logits(tuner.model, data, run.device))
    remove_abandoned(place.parent)  # what a killed export has left, which is as large as the model
    temporary = temporary_for(place)
    try:
        dequantize(tuner.model)
        merged = spec.peft.merge(tuner.model)
        if dtype != "fp32":  # the comparison below shows the rounding, not the merging
            _check(_largest(expected, _logits(merged, data, run.device)))
        make_plain(merged, spec.model.pooling)
        processor = run.pretrained.processor(spec.task.processor)
        spec.task.prepare_export(merged, processor)
        if spec.task.generates:
            merged.config.use_cache = True  # training turns it off
        with writing(folder, needed=merged.get_memory_footprint(), elsewhere="name another folder"):
            merged.to(_DTYPES[dtype]).save_pretrained(temporary, max_shard_size=_ONE_FILE)
            processor.save(temporary, positions(merged))
            save_decisions(spec.task.decisions, temporary)
        if run.scope is not None:
            log.warning("out of scope: %s", _UNSCOPED)
        if spec.data.mask_pii is not None:
            log.warning("personal data: transformers masks nothing, as the run does: %s", _MASKING)
        head = spec.task.head
        plain = model_class(head).from_pretrained(temporary, local_files_only=True, dtype=torch.float32)
        plain = plain.eval().to(run.device)
        difference = _largest(expected, _logits(plain, data, run.device, spec.task.pooling_inputs))
        _check(difference, MERGE_TOLERANCE if dtype == "fp32" else sys.float_info.max)
        card = model_card(
            Run(run.record, str(run.folder.path)),
            _published(spec, dtype, difference, processor.chat_template is not None, run.scope is not None),
            certainty(run.folder, spec.task.scorer),
            doubt,
        )
        (temporary / "README.md").write_text(card, encoding="utf-8")
        temporary.replace(place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Exported(folder, difference)


def _check(difference: float, most: float = MERGE_TOLERANCE) -> None:
    if not difference <= most:
        raise RuntimeError(f"the exported logits differ by {difference:.2g}, more than {most:.2g}")


def _published(spec: RunSpec, dtype: Dtype, difference: float, chats: bool, knows_scope: bool) -> Published:
    task, quantization = spec.task, spec.model.quantize
    head, usage = task.head, task.exported.format(task=task)
    scoped = f" The run says which texts are none of its labels; {_UNSCOPED}." if knows_scope else ""
    masked = "" if spec.data.mask_pii is None else f" It was trained on texts without personal data: {_MASKING}."
    weights = "weights" if quantization == "none" else f"weights, which training had rounded to {quantization}"
    rounded = "" if dtype == "fp32" else f", and rounded to {dtype}"
    writes = "continuation" if head.pipeline == "text-generation" and not chats else head.pipeline
    code = [_LOADING, *([_WRITING[writes]] if writes in _WRITING else [])]
    return Published(
        library="transformers",
        pipeline=head.pipeline,
        loading="\n".join(code).format(
            module=head.module,
            model=head.model.removeprefix(f"{head.module}."),
            processor=task.processor,
            loader=LOADERS[task.processor],
            text=f"{getattr(task, 'prefix', '')}...",
        ),
        about=f"What the method added is merged into the {weights}{rounded}: it is a plain transformers model, whose "
        f"logits and those of the run's, both computed in fp32 on the validation split, differ by at most "
        f"{difference:.2g}.{f' {usage}' if usage else ''}{masked}{scoped}",
    )


def _doubt(run: FinishedRun, data: DataModule, tuner: Tuner) -> str | None:
    """Return why the scores of the record cannot be checked against the run; None if they were.

    Raises:
        UserError: they contradict the run.
    """
    record = run.record.data
    if record["status"] != "completed":
        return f"the run is {record['status']}"
    if data.facts.sha256 != record["identity"]["data_sha256"]:
        return f"{data.facts.origin} is no longer what the run was trained and scored on"
    present = files(run.folder.path, [file["path"] for file in record["files"]])
    with restored():
        gathered = evidence.gather(run.folder, run.spec, run.config, data, tuner)
    findings = hold(run.record, run.spec, present, gathered, same_code=record["code"] == code_state())
    if findings.causes:
        raise UserError(not_of_the_record(run.folder, findings.causes[0].what, "what its files and data say"))
    gone = [file["path"] for file in record["files"] if file["path"] not in present]
    return f"{gone[0]}, which could confirm them, is gone" if gone else None


def _logits(
    model: nn.Module, data: DataModule, device: torch.device, dropped: Collection[str] = ()
) -> Iterator[Tensor]:
    uncached = {"use_cache": False} if data.task.generates else {}  # with a cache, rows that are shared are not seen
    for batch in _compared(data):
        inputs = {name: tensor for name, tensor in batch.to(device).inputs.items() if name not in dropped}
        with torch.inference_mode():
            yield from logits_of(model(**inputs, **uncached)).values()


def _compared(data: DataModule) -> Iterator[Batch]:
    """Yield the validation split, or a sample spread over it where logits are over a vocabulary."""
    if data.task.head.outputs != "vocabulary":
        yield from data.val_dataloader()
        return
    members = data.splits["validation"]
    chosen = sorted({int(place) for place in np.linspace(0, members.rows - 1, _SAMPLE)})
    for start in range(0, len(chosen), _AT_ONCE):
        yield data.task.collate(members.examples, members.encoded, chosen[start : start + _AT_ONCE])


def _largest(expected: Sequence[Tensor], logits: Iterator[Tensor]) -> float:
    """Return the largest difference of logits; NaN where one is."""
    return float(torch.stack([(new - old).abs().max() for new, old in zip(logits, expected, strict=True)]).max())
