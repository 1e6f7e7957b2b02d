"""Runs on one backbone whose inputs share batches: one pass of the encoder for all, and then each run's head."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Collection, Mapping, Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from peftlab.data.static_shapes import widened
from peftlab.models.backbone import Backbone
from peftlab.seams.pytorch import leaves
from peftlab.seams.transformers import attention_of
from peftlab.serving.models.edits import NotSharedError, edits_of
from peftlab.serving.models.shelf import plain_of
from peftlab.serving.models.trunk import ChangedInputsError, Trunk
from peftlab.storage.digests import canonical_json
from peftlab.tasks.batch import Batch
from peftlab.tasks.task import Encoded
from peftlab.use.finished import ModelParts
from peftlab.use.predictor import Answer, Predictor

log = logging.getLogger("peftlab")

_TOLERANCE = 1e-4
"""How far the hidden states of a shared pass may be from those of the run's own model, as a share of the largest."""


class Mixed:
    """Runs whose inputs share batches.

    Args:
        backbone: the pretrained model with any head, which nothing else may use.
        device: the device of the runs' models.
    """

    def __init__(self, backbone: Backbone, device: torch.device) -> None:
        model, context, _ = backbone
        encoder: Any = model.base_model
        prefix = f"{model.base_model_prefix}."
        self._trunk = Trunk(
            encoder.requires_grad_(False).eval().to(device),
            {name.removeprefix(prefix) for name in context.head if name.startswith(prefix)},
        )
        self._takes = inspect.signature(encoder.forward).parameters
        self._longest: dict[str, int] = {}

    @staticmethod
    def key(predictor: Predictor, parts: ModelParts, weights_sha256: str) -> str | None:
        """Return a text that is equal for runs whose inputs may share a batch; None: the run is computed by itself.

        Args:
            predictor: of the run.
            parts: the sections of its configuration that define its model.
            weights_sha256: the digest of the pretrained weights.
        """
        task, plain = predictor.task, plain_of(predictor.model)
        is_read = not task.generates and not task.refers and task.head.outputs != "vocabulary"
        is_whole = hasattr(plain, "base_model") and parts.model.quantize == "none"
        if not is_read or not is_whole or parts.peft.needs_own_rows or task.processor != "tokenizer":
            return None
        encoder = [weights_sha256, type(plain.base_model).__name__, attention_of(plain)]
        how = [predictor.precision, predictor.tf32, predictor.cudnn_attention, str(predictor.device)]
        return canonical_json([*encoder, *how])

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the runs."""
        return tuple(self._longest)

    def add(self, name: str, predictor: Predictor) -> str | None:
        """Add a run; return why it has to be computed by itself, or None.

        Its hidden states in a shared pass are compared with those of its own model.
        """
        encoder = plain_of(predictor.model).base_model
        try:
            self._trunk.add(name, edits_of(self._trunk.base, encoder, self._trunk.left_out))
            with torch.inference_mode(), predictor.arithmetic():
                self._check(name, encoder)
        except (NotSharedError, RuntimeError) as error:
            self._trunk.remove(name)
            log.info("model %s is computed by itself: %s", name, error)
            return str(error)
        self._longest[name] = predictor.max_tokens
        return None

    def remove(self, name: str) -> None:
        """Forget a run."""
        self._trunk.remove(name)
        del self._longest[name]

    def apart(self, name: str) -> list[str]:
        """Return the modules whose weights the rows of a run meet by themselves."""
        return self._trunk.edits(name).apart

    def replies(self, inputs: Mapping[str, tuple[Predictor, Sequence[Any], Encoded]]) -> dict[str, list[Answer]]:
        """Return what users get for the examples of several runs, by the name of the run.

        Args:
            inputs: the predictor of each run, its examples, and how they are encoded.
        """
        batches: dict[str, Batch] = {}
        for name in sorted(inputs, key=lambda name: len(self.apart(name))):  # so that others are one slice
            predictor, examples, encoded = inputs[name]
            batches[name] = predictor.task.collate(examples, encoded, range(len(examples)))
        total = sum(batch.shape[0] for batch in batches.values())
        width = max(batch.shape[1] for batch in batches.values())
        if width == total and width < min(self._longest[name] for name in batches):
            width += 1  # so that tensors of rows are told from those of tokens
        batches = {name: widened(batch, lambda _: width).to(inputs[name][0].device) for name, batch in batches.items()}
        first = next(iter(inputs.values()))[0]
        with torch.inference_mode(), first.arithmetic():
            joint = _joined([batch.inputs for batch in batches.values()], self._takes)
            recorded = self._trunk(joint, {name: batch.shape[0] for name, batch in batches.items()})
            replies = {}
            for name, batch in batches.items():
                predictor, examples, encoded = inputs[name]
                with recorded.replaying(name, plain_of(predictor.model).base_model):
                    of_run = predictor.replies(batch)
                replies[name] = [reply | predictor.task.lost(encoded, n) for n, reply in enumerate(of_run)]
        return replies

    def _check(self, name: str, encoder: nn.Module) -> None:
        """Compare a shared pass with that of the run's own `encoder`.

        Raises:
            NotSharedError: they differ.
        """
        device = next(encoder.parameters()).device
        ids = torch.arange(3, 3 + 2 * 9, device=device).view(2, 9) % encoder.config.vocab_size  # type: ignore[union-attr, operator]
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        inputs["attention_mask"][1, 6:] = 0
        alone = _states(encoder(**inputs))
        twice = {key: torch.cat([value, value]) for key, value in inputs.items()}
        recorded = None
        while recorded is None:
            try:
                recorded = self._trunk(twice, {"": 2, name: 2})
            except ChangedInputsError as changed:  # by one of its hooks, each of which ends in this once
                self._trunk.edits(name).separate(changed.place)
        with recorded.replaying(name, encoder):
            shared = _states(encoder(**inputs))
        real = inputs["attention_mask"].bool()
        apart = (shared[real] - alone[real]).abs().max()
        if not apart <= _TOLERANCE * alone[real].abs().max():
            raise NotSharedError(f"its hidden states would be off by {float(apart):.1e}")


def _joined(inputs: Sequence[Mapping[str, Tensor]], takes: Collection[str]) -> dict[str, Tensor]:
    """Return the rows of all runs, of the arguments that the encoder `takes`.

    Single texts come without token types, as their tokens are all of the first type, 0; beside pairs, they need them.
    """
    names = [name for name in dict.fromkeys(chain.from_iterable(inputs)) if name in takes]
    return {name: torch.cat([own.get(name, torch.zeros_like(own["input_ids"])) for own in inputs]) for name in names}


def _states(outputs: Any) -> Tensor:
    states: Tensor = leaves(outputs)[0]
    return states.float()
