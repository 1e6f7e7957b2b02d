"""Exports a finished run as a plain transformers model, with processor and model card, and checks it."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from peftlab.assembly import refer
from peftlab.data.module import DataModule
from peftlab.devices.process_state import restored
from peftlab.errors import UserError
from peftlab.pooling import make_plain
from peftlab.positions import positions
from peftlab.report.study import Run
from peftlab.runs.decisions import save_decisions
from peftlab.runs.environment import code_state
from peftlab.storage.disk import writing
from peftlab.tasks.heads import logits_of, model_class
from peftlab.tasks.processor import LOADERS
from peftlab.training.tuner import Tuner
from peftlab.use import evidence
from peftlab.use.card import Published, model_card
from peftlab.use.certainty import certainty
from peftlab.use.claims import hold
from peftlab.use.evaluate import tuner_of
from peftlab.use.unchanged import files, not_of_the_record

if TYPE_CHECKING:
    from peftlab.use.finished import FinishedRun

log = logging.getLogger("peftlab")

MERGE_TOLERANCE = 1e-3
"""How far a logit of an exported model may be from the run's, both in fp32: merging rounds weights."""

_LOADING = """\
from {module} import {model}
from transformers import {loader}

model, {processor} = {model}.from_pretrained("."), {loader}.from_pretrained(".")"""


@dataclass(frozen=True)
class Exported:
    """A plain transformers model in a folder."""

    folder: Path
    largest_difference: float
    """Between its logits and those of the run on the validation split, in fp32."""


def export(run: FinishedRun, folder: str | Path) -> Exported:
    """Write the model of `run` as a plain transformers model, with processor and model card, and check it.

    The written model is loaded with ``from_pretrained``, and its logits on the run's validation split are compared
    with those of the run. The folder appears only when it is complete.

    Raises:
        UserError: `folder` exists and is not empty, the method cannot be merged, transformers lacks the model's
            pooling, or the record contradicts the run.
        RuntimeError: a logit differs by more than `MERGE_TOLERANCE`.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"'{folder}' is there already and not empty: name a new or empty folder")
    spec, tuner = run.spec, tuner_of(run)  # a new model: merging changes it
    data = DataModule(spec.data, spec.task, run.processor, spec.budget, spec.seed)
    data.load()
    refer(spec, run.pretrained, data, data.budget.scored)
    if doubt := _doubt(run, data, tuner):
        log.warning("the model card has no scores: %s", doubt)
    run.load_adapter(tuner.model)  # again: the evidence has loaded the best checkpoint
    expected = list(_logits(tuner.model, data, run.device))
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        merged = spec.peft.merge(tuner.model)
        make_plain(merged, spec.model.pooling)
        with writing(folder, needed=merged.get_memory_footprint(), elsewhere="name another folder"):
            merged.save_pretrained(temporary)
            run.pretrained.processor(spec.task.processor).save(temporary, positions(merged))
            save_decisions(spec.task.decisions, temporary)
        head = spec.task.head
        plain = model_class(head).from_pretrained(temporary, local_files_only=True)
        plain = plain.eval().to(run.device)
        pairs = zip(_logits(plain, data, run.device, spec.task.pooling_inputs), expected, strict=True)
        difference = max(float((new - old).abs().max()) for new, old in pairs)
        if not difference <= MERGE_TOLERANCE:
            raise RuntimeError(f"the exported logits differ by {difference:.2g}, more than {MERGE_TOLERANCE}")
        usage = spec.task.exported.format(task=spec.task)
        published = Published(
            library="transformers",
            pipeline=head.pipeline,
            loading=_LOADING.format(
                module=head.module,
                model=head.model.removeprefix(f"{head.module}."),
                processor=spec.task.processor,
                loader=LOADERS[spec.task.processor],
            ),
            about=f"What the method added is merged into the weights: it is a plain transformers model, whose logits "
            f"and those of the run's, both in fp32 on the validation split, differ by at most {difference:.2g}."
            f"{f' {usage}' if usage else ''}",
        )
        card = model_card(
            Run(run.record, str(run.folder.path)), published, certainty(run.folder, spec.task.scorer), doubt
        )
        (temporary / "README.md").write_text(card, encoding="utf-8")
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Exported(folder, difference)


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
    for batch in data.val_dataloader():
        inputs = {name: tensor for name, tensor in batch.to(device).inputs.items() if name not in dropped}
        with torch.inference_mode():
            yield from logits_of(model(**inputs)).values()
