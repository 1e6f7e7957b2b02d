"""The model of a finished run as the teacher of another one, see `peftlab.regularizers.distil`."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import nn

from peftlab.config import RunSpec, validate
from peftlab.errors import ConfigError, UserError
from peftlab.methods.adapter_files import ADAPTER_WEIGHTS
from peftlab.models import backbone
from peftlab.models.adapted_model import adapted_model
from peftlab.regularizers.answering import Answering
from peftlab.runs.find import find
from peftlab.runs.folder import RunFolder
from peftlab.runs.record import RunRecord
from peftlab.storage.digests import folder_sha256, sha256_of
from peftlab.tasks.batch import Batch
from peftlab.tasks.networks.heads import logits_of
from peftlab.tasks.processor import Processor

_OF_TRAINING: dict[str, Any] = {"callbacks": {}, "logger": {}, "regularizer": {}, "augment": {}, "semi": None}
_HERE: dict[str, Any] = {"devices": 1, "num_nodes": 1, "strategy": "single_device", "accumulate": 1}
_HERE |= {"precision": "32-true", "frozen_weights": "fp32", "gradient_checkpointing": False}


class Teacher(Answering):
    """The model of a finished run, which answers the batches of another run with the same task.

    Where both make the same inputs of an example, it reads the batch as it is, augmented texts included; else, as with
    another tokenizer, it encodes the examples itself, which only a head over whole texts allows. It is loaded when it
    is first asked.

    Args:
        run: the run's folder, or the start of its id.
        pupil: the specification of the run that learns from it, whose task has learnt its labels.
        processor: the processor of that run.
        train_sha256: the digest of the training split of that run, before a fold is held out.

    Raises:
        UserError: there is no such finished run, or it has another task, other labels or, where it matters, another
            tokenizer; or it was trained on the fold that the other run is tested on.
    """

    def __init__(self, run: str, pupil: RunSpec, processor: Processor, train_sha256: str = "") -> None:
        self.folder = RunFolder(RunRecord.load(find(run)), allow=pupil.allow)
        if not (self.folder.adapter / ADAPTER_WEIGHTS).is_file():
            raise UserError(f"{self.folder.path} has no model to learn from: it did not finish, or its adapter is gone")
        config = self.folder.read_config(unused=tuple(_OF_TRAINING))
        task = config["task"] | {"selection": config["task"]["selection"] | {"mode": None}}
        trainer = config["trainer"] | _HERE | {"accelerator": pupil.trainer.accelerator}
        kept = {key: value for key, value in config.items() if key != "adapter"}
        self.spec = validate({**kept, **_OF_TRAINING, "task": task, "trainer": trainer})
        self.spec.task.learn_labels({"train": []}, self.spec.data.labels)
        self.pretrained = backbone.fetch(self.spec.model, self.spec.task)
        self.processor = self.pretrained.processor(self.spec.task.processor)
        self.sha256 = sha256_of([self.folder.record.data["identity"]["sha256"], folder_sha256(self.folder.adapter)])
        """The digest of the run's identity and of its adapter."""
        self.place = str(self.folder.path.absolute())
        """Its folder."""
        self.asking = pupil.task
        """The task of the run that asks."""
        same_tokens = _reads(self.processor) == _reads(processor)
        self.reads_alike = same_tokens and self.spec.task.makes_inputs_of(pupil.task)
        self.check(pupil)
        self._check_fold(pupil, train_sha256)
        mine, theirs = pupil.task.labels, self.spec.task.labels
        self._order = None if mine == theirs else [theirs.index(label) for label in mine if label in theirs]

    def check(self, pupil: RunSpec) -> None:
        """Check that this run can answer for another one.

        Raises:
            ConfigError: it cannot.
        """
        where, task, own = self.folder.path, pupil.task, self.spec.task
        if type(own) is not type(task):
            raise ConfigError(f"{where} is a run of task={own.name}, and this one is of {task.name}")
        if sorted(own.labels) != sorted(task.labels):
            odd = sorted(set(own.labels) ^ set(task.labels))
            raise ConfigError(f"{where} has other labels than this run, first '{odd[0]}': both need the same")
        if not self.reads_alike and task.head.outputs != "text":
            raise ConfigError(
                f"{where} has another tokenizer, and models of task={task.name} answer for each token: only one with "
                "the same tokenizer can be learnt from"
            )
        if task.pooling_inputs and self.spec.model.pooling != pupil.model.pooling:
            raise ConfigError(f"{where} has model.pooling={self.spec.model.pooling}: set the same for this run")

    def _check_fold(self, pupil: RunSpec, train_sha256: str) -> None:
        own, theirs, where = pupil.data.fold, self.spec.data.fold, self.folder.path
        if own in (None, theirs) or self.folder.record.data["identity"]["data_sha256"]["train"] != train_sha256:
            return
        raise ConfigError(
            f"{where} was trained on the examples that this run is tested on: it has data.fold={theirs or 'null'}, and "
            f"this run {own}. Name a teacher with the same fold"
        )

    @cached_property
    def model(self) -> nn.Module:
        """The model in fp32 and in evaluation mode, frozen."""
        return self.loaded().requires_grad_(False)

    def loaded(self) -> nn.Module:
        """Return a new instance of the model in fp32 and in evaluation mode; trained weights require gradients."""
        with torch.random.fork_rng(devices=[]):  # the run is the same whether its teacher is loaded or not
            model, self.context = adapted_model(self.spec, self.pretrained)
        self.spec.peft.load(model, self.folder.adapter)
        self.spec.task.bind(self.processor)
        return model.eval()

    def outputs(self, batch: Batch) -> Any:
        """Return what the model computes for a batch of the other run, its logits in the units of that run's task.

        They are in the order of that run's labels; those that it does not have are left out.
        """
        own = batch if self.reads_alike else self._encoded(batch)
        model = self.model.to(batch.weights.device)
        with torch.no_grad():
            outputs = self.spec.task.outputs(model, own)
        for name, logits in logits_of(outputs).items():
            if self._order is not None and logits.shape[-1] == len(self.spec.task.labels):
                outputs[name] = logits[..., self._order]
            else:
                outputs[name] = self.asking.in_own_units(logits, self.spec.task)
        return outputs if self.reads_alike else _filled(outputs, batch)

    def _encoded(self, batch: Batch) -> Batch:
        """Return the examples of `batch` as this model's own tokenizer encodes them."""
        task, examples = self.spec.task, batch.examples
        encoded = task.encode(examples, self.processor, self.spec.data.limits)
        return task.collate(examples, encoded, range(len(examples))).to(batch.weights.device)


def _reads(processor: Processor) -> list[Any]:
    """Return all that decides how a processor encodes an example, and which inputs it makes."""
    return [processor.fingerprint(), getattr(processor.transform, "model_input_names", None)]


def _filled(outputs: Any, batch: Batch) -> Any:
    """Return outputs with as many rows as those of `batch`, of which the last may be copies of the first.

    Raises:
        ConfigError: an example has other numbers of rows in the two.
    """
    missing = len(batch.rows) - len(outputs.logits)
    if missing not in (0, batch.copies):
        raise ConfigError(
            "the teacher divides long texts into other rows than this run. Set data.long=truncate, or take one with "
            "the same tokenizer"
        )
    outputs["logits"] = torch.cat([outputs.logits, outputs.logits[:1].expand(missing, -1)])
    return outputs
