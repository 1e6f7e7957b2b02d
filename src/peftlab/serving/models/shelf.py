"""Pretrained models in memory: each is loaded once, and the runs on it share all that their methods leave as it was."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from peftlab.models.backbone import Backbone, ModelSpec, Pretrained
from peftlab.storage.digests import canonical_json
from peftlab.tasks.processor import Processor, ProcessorKind
from peftlab.tasks.task import Task


@dataclass
class Shelf:
    """The loaded models and processors."""

    _loaded: dict[str, Backbone] = field(default_factory=dict)
    _processors: dict[tuple[str, str], Processor] = field(default_factory=dict)
    _tensors: dict[tuple[str, str], Tensor] = field(default_factory=dict)
    """By the digest of the weights and the name in the encoder: the tensors of the first model that had them."""

    def on(self, pretrained: Pretrained) -> Pretrained:
        """Return `pretrained` such that what it loads comes from here."""
        own = {one.name: getattr(pretrained, one.name) for one in fields(Pretrained)}
        return _Shelved(**own, shelf=self)

    def load(self, pretrained: _Shelved, task: Task, attention: str) -> Backbone:
        """Return a copy of the model that `Pretrained.load` returns, loaded from its files if no equal one was."""
        spec = {key: value for key, value in vars(pretrained.spec).items() if key in ModelSpec.__annotations__}
        del spec["source"]
        kind = [type(task).__qualname__, task.head, sorted(task.pooling_inputs), attention]
        shaped_by = {name: getattr(task, name) for name in sorted(task.encoded_by)}
        key = canonical_json([pretrained.weights_sha256, spec, task.head_settings(), shaped_by, *kind])
        if key not in self._loaded:
            loaded = Pretrained.load(pretrained, task, attention)
            for name, tensor in _of_encoder(loaded.model):
                self._tensors.setdefault((pretrained.weights_sha256, name), tensor)
            self._loaded[key] = loaded
            self.share(loaded.model, pretrained.weights_sha256)
        model, context, notes = self._loaded[key]
        return Backbone(copy.deepcopy(model), replace(context, mixed=task.mixed), notes)

    def share(self, model: nn.Module, weights_sha256: str) -> None:
        """Replace the tensors of `model` that are equal to those of the pretrained encoder by these.

        Args:
            model: a transformers model, or the part of one that a method has wrapped.
            weights_sha256: the digest of the weights that it was loaded from.
        """
        for name, tensor in chain(*map(_of_encoder, getattr(model, "members", [model]))):
            kept = self._tensors.get((weights_sha256, name))
            if kept is not None and kept is not tensor and kept.shape == tensor.shape and torch.equal(kept, tensor):
                tensor.data = kept.data

    def processor(self, pretrained: _Shelved, kind: ProcessorKind) -> Processor:
        """Return the processor of a model, which all runs on it share."""
        key = pretrained.weights_sha256, kind
        if key not in self._processors:
            self._processors[key] = Pretrained.processor(pretrained, kind)
        return self._processors[key]

    def forget(self, weights_sha256: str) -> None:
        """Drop what was loaded from these weights: no run uses them any more."""
        for key in [key for key in self._loaded if weights_sha256 in key]:
            del self._loaded[key]
        for store in (self._processors, self._tensors):
            for pair in [pair for pair in store if pair[0] == weights_sha256]:
                del store[pair]


@dataclass(frozen=True)
class _Shelved(Pretrained):
    shelf: Shelf

    @override
    def load(self, task: Task, attention: str = "eager") -> Backbone:
        return self.shelf.load(self, task, attention)

    @override
    def processor(self, kind: ProcessorKind) -> Processor:
        return self.shelf.processor(self, kind)


def plain_of(model: Any) -> Any:
    """Return the transformers model that a method's wrapper, if any, has inside."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _of_encoder(model: Any) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield the parameters below the head, by the names that they have in the plain encoder."""
    plain = plain_of(model)
    encoder = getattr(plain, "base_model", plain)
    for name, parameter in encoder.named_parameters(remove_duplicate=False):
        yield name.replace(".base_layer.", "."), parameter
