"""A finished run that a later one is not to forget, see `peftlab.regularizers.earlier`."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from typing_extensions import override

from peftlab.config import RunSpec
from peftlab.data.batching import in_order_of_length
from peftlab.data.encoded_cache import cached, fingerprint
from peftlab.data.encoding import encode
from peftlab.data.module import DataModule
from peftlab.data.sampling import random_sample
from peftlab.devices.rounding import rounding_of
from peftlab.earlier.teacher import Teacher
from peftlab.errors import ConfigError, UserError
from peftlab.methods.head import is_of_head
from peftlab.regularizers.earlier import Earlier, Importance
from peftlab.storage.digests import folder_sha256
from peftlab.tasks.processor import Processor
from peftlab.tasks.task import Encoded
from peftlab.training.fisher import fisher
from peftlab.training.reference import device_of

log = logging.getLogger("peftlab")

FORMAT = 1
"""Version of what is kept; increase it when its meaning changes."""


class EarlierRun(Teacher, Earlier):
    """A finished run, with what a later one asks of it: the importance of its weights, its logits, its answers.

    What takes long is computed once, in fp32, and kept in the cache under a digest of the run.

    Args:
        run: the run's folder, or the start of its id.
        later: the specification of the later run, whose task has learnt its labels.
        processor: the processor of that run.
        train_sha256: the digest of the training split of that run, before a fold is held out.

    Raises:
        UserError: there is no such finished run, or it was trained on the fold that the later one is tested on.
    """

    def __init__(self, run: str, later: RunSpec, processor: Processor, train_sha256: str = "") -> None:
        super().__init__(run, later, processor, train_sha256)
        self.task, self.limits = self.spec.task, later.data.limits
        self.weights_sha256 = self.pretrained.weights_sha256
        start = {later.adapter and later.adapter.sha256, later.peft.earlier}
        self.begun_with = folder_sha256(self.folder.adapter) in start

    @override
    def check(self, pupil: RunSpec) -> None:
        """Leave it to each regulariser what the later run must have in common with this one."""

    @override
    def importance(self, examples: int) -> Importance:
        model = self.loaded().to(device_of(self.spec.trainer))
        weights = {name: one.detach().clone() for name, one in model.named_parameters() if one.requires_grad}
        arrays = self._kept(f"fisher {examples}", lambda: self._fisher(model, examples))
        own = {name: torch.from_numpy(array).to(weights[name].device) for name, array in arrays.items()}
        output = self.context.output
        rows = frozenset(name for name in weights if output and is_of_head(name, (output,)))
        return Importance(weights, own, rows)

    def _fisher(self, model: nn.Module, examples: int) -> dict[str, np.ndarray]:
        data = DataModule(self.spec.data, self.task, self.processor, self.spec.budget, self.spec.seed)
        data.load()
        if data.facts.sha256 != self.folder.record.data["identity"]["data_sha256"]:
            raise UserError(f"the data of {self.folder.path} is not what it was trained on. Put the old files back")
        train = data.splits["train"]
        chosen = random_sample(train.rows, examples)
        log.info("computing once how much %s depends on each weight, over %d examples", self.place, len(chosen))
        own = fisher(model, self.task, train.examples, train.encoded, chosen.tolist())
        return {name: tensor.cpu().numpy() for name, tensor in own.items()}

    @override
    def logits(self, examples: Sequence[Any]) -> list[np.ndarray]:
        about = fingerprint(self.task, examples, self.processor, self.limits)
        kept = self._kept(f"logits {about}", lambda: self._logits(examples))
        shapes = kept["shapes"].tolist()
        ends = np.cumsum([np.prod(shape) for shape in shapes])[:-1]
        logits = self.asking.in_own_units(kept["logits"], self.task)
        return [part.reshape(shape) for part, shape in zip(np.split(logits, ends), shapes, strict=True)]

    def _logits(self, examples: Sequence[Any]) -> dict[str, np.ndarray]:
        task, device = self.task, device_of(self.spec.trainer)
        encoded = encode(task, examples, self.processor, self.limits)
        model = self.model.to(device)
        by_place: dict[int, np.ndarray] = {}
        for places in in_order_of_length(encoded.lengths, self.spec.data.eval_batch_size):
            batch = task.collate(examples, encoded, places)
            with torch.inference_mode():
                logits = getattr(task.outputs(model, batch.to(device)), "logits", None)
            if not isinstance(logits, torch.Tensor) or logits.shape[-1] != max(1, len(task.labels)):
                raise ConfigError(f"task={task.name} gives no logits of its labels, which could be kept")
            for number, place in enumerate(places):
                own = logits[(batch.rows == number).to(device)].float().cpu().numpy()
                by_place[place] = own[:, : encoded.lengths[place]] if own.ndim > 2 else own
        ordered = [by_place[place] for place in range(len(examples))]
        return {
            "logits": np.concatenate([array.ravel() for array in ordered]),
            "shapes": np.asarray([array.shape for array in ordered], dtype=np.int64),
        }

    def _kept(self, about: str, compute: Callable[[], dict[str, np.ndarray]]) -> Mapping[str, np.ndarray]:
        """Return what `compute` returns, from the cache if it is there."""
        parts = [f"earlier {FORMAT}", about, self.sha256, *rounding_of(device_of(self.spec.trainer))]
        name = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
        return cached(name, lambda: Encoded(compute(), np.zeros(0, dtype=np.int64), 0, {})).arrays
