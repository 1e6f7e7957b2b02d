"""The subject of an explanation: one row of inputs, its words, and a logit as a function of which words are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from peftlab.errors import UserError
from peftlab.models.language_models import input_embeddings
from peftlab.regularizers.embeddings import changed
from peftlab.tasks.batch import Batch
from peftlab.use.explanation.targets import Target, target_of
from peftlab.use.explanation.words import Word, words_in
from peftlab.use.predictor import Predictor

Baseline = Literal["mask", "pad", "delete"]
"""What stands in the place of an absent word: the embedding of the mask or of the padding, or nothing at all."""


@dataclass(frozen=True)
class Subject:
    """A row of inputs and a logit of it; see `subjects`."""

    predictor: Predictor
    batch: Batch
    """Of the example alone."""
    words: Sequence[Word]
    target: Target
    baseline: Baseline
    lost: Mapping[str, Any] = field(default_factory=dict)
    """What the model does not see of the example, see `Task.lost`."""
    known: dict[bytes, float] = field(default_factory=dict, repr=False)
    """The logit by which words are there: what several explainers ask is computed once."""

    @cached_property
    def inputs(self) -> dict[str, Tensor]:
        """The inputs of the row, each of shape (1, ...)."""
        row = self.target.row
        return {name: tensor[row : row + 1] for name, tensor in self.batch.inputs.items()}

    @cached_property
    def replaced_ids(self) -> Tensor:
        """The token ids with the baseline's in the place of all words, shape (1, tokens)."""
        tokenizer = self.predictor.processor.tokenizer
        id = tokenizer.mask_token_id if self.baseline == "mask" else tokenizer.pad_token_id
        ids = self.inputs["input_ids"].clone()
        ids[0, [position for word in self.words for position in word.positions]] = id
        return ids

    @cached_property
    def embedded(self) -> tuple[Tensor, Tensor] | None:
        """The embeddings of the row and of its baseline, each of shape (1, tokens, hidden).

        None: the model has no input embeddings, as a session of another runtime, or several, as an ensemble of models
        that were trained as a whole.
        """
        try:
            table: Any = input_embeddings(self.predictor.model)
        except UserError:
            return None
        if table is None:
            return None
        with torch.no_grad():
            return table(self.inputs["input_ids"]), table(self.replaced_ids)

    def repeated(self, times: int) -> dict[str, Tensor]:
        """Return inputs of so many copies of the row."""
        return {name: tensor.expand(times, *tensor.shape[1:]) for name, tensor in self.inputs.items()}

    def scores(self, embeddings: Tensor) -> Tensor:
        """Return the logit under other embeddings of the row, shape (copies, tokens, hidden); shape (copies,)."""
        inputs, model = self.repeated(len(embeddings)), self.predictor.model
        change = changed(model, lambda own: embeddings.to(own.dtype), inputs["input_ids"])
        with change, self.predictor.arithmetic():
            return self.target.score(model(**inputs)).float()

    def value(self, present: np.ndarray) -> np.ndarray:
        """Return the logit where only some words are present, and the baseline in the place of the others.

        Args:
            present: whether each word is there, booleans of shape (sets, words).

        Returns:
            doubles, shape (sets,).
        """
        keys = [one.tobytes() for one in np.ascontiguousarray(present, dtype=bool)]
        new = {key: row for key, row in zip(keys, present, strict=True) if key not in self.known}
        rows, size = list(new.values()), self.predictor.batch_size
        for begin in range(0, len(rows), size):
            part = np.stack(rows[begin : begin + size])
            with torch.no_grad():  # not inference mode, whose tensors no gradient may pass
                scores = self._value(torch.from_numpy(part.astype(bool))).double().tolist()
            self.known.update(zip(list(new)[begin : begin + size], scores, strict=True))
        return np.asarray([self.known[key] for key in keys], dtype=float)

    @property
    def full(self) -> float:
        """The logit of the row as it is."""
        return float(self.value(np.ones((1, len(self.words)), dtype=bool))[0])

    @property
    def empty(self) -> float:
        """The logit without any word."""
        return float(self.value(np.zeros((1, len(self.words)), dtype=bool))[0])

    def _value(self, present: Tensor) -> Tensor:
        ids = self.inputs["input_ids"]
        absent = torch.zeros(len(present), ids.shape[1], dtype=torch.bool)
        for number, word in enumerate(self.words):
            absent[:, list(word.positions)] = ~present[:, number, None]
        absent = absent.to(ids.device)
        if self.baseline == "delete":
            inputs = self._without(absent)
        elif self.embedded is not None:
            # the ids stay, because some models count positions by which of them are padding
            own, other = self.embedded
            return self.scores(torch.where(absent.unsqueeze(-1), other, own))
        else:
            inputs = self.repeated(len(present)) | {"input_ids": torch.where(absent, self.replaced_ids, ids)}
        with self.predictor.arithmetic():
            return self.target.score(self.predictor.model(**inputs)).float()

    def _without(self, absent: Tensor) -> dict[str, Tensor]:
        """Return inputs in which tokens are deleted, padded on the right."""
        real = self.batch.real
        kept = ~absent if real is None else ~absent & real[self.target.row].bool()
        inputs = {}
        for name, tensor in self.inputs.items():
            fill = self.batch.padding.get(name, 0)
            inputs[name] = pad_sequence([tensor[0][own] for own in kept], batch_first=True, padding_value=fill)
        return inputs


def subjects(
    predictor: Predictor, example: Any, target: str | None = None, baselines: Sequence[Baseline] | None = None
) -> list[Subject]:
    """Return the subject of an explanation under each baseline; all have the same words and the same target.

    Args:
        predictor: the model with all that it needs; explanations are computed in its precision.
        example: the example.
        target: the logit, see `target_of`; None: what the model predicts.
        baselines: the baselines; None: the mask and the padding, as far as the tokenizer has them.

    Raises:
        UserError: there is no such target, or no word; or a baseline does not suit the model.
        DataError: the example cannot be encoded.
    """
    task = predictor.task
    if task.processor != "tokenizer":
        raise UserError(f"explain: task={task.name} takes no texts, and only the words of texts are explained")
    encoded = task.encode([example], predictor.processor, predictor.limits)
    batch = task.apart([example], encoded, [0]).to(predictor.device)
    with torch.no_grad(), predictor.arithmetic():
        chosen = target_of(task, predictor.processor, batch, predictor.model(**batch.inputs), target)
    words = words_in(batch, chosen.row, predictor.processor, chosen.until)
    if not words:
        raise UserError("explain: the model sees no word of this text")
    kinds = _baselines(predictor, batch, chosen, words, baselines)
    lost = task.lost(encoded, 0)
    return [Subject(predictor, batch, words, chosen, kind, lost) for kind in kinds]


def _baselines(
    predictor: Predictor, batch: Batch, target: Target, words: Sequence[Word], wanted: Sequence[Baseline] | None
) -> Sequence[Baseline]:
    tokenizer = predictor.processor.tokenizer
    at_tokens = bool(target.positions or batch.inputs.keys() - batch.padding.keys())
    tokens = batch.shape[1] if batch.real is None else int(batch.real[target.row].sum())
    rest = tokens - sum(len(word.positions) for word in words)  # a text without a token has no logit
    has: Mapping[str, bool] = {
        "mask": tokenizer.mask_token_id is not None,
        "pad": tokenizer.pad_token_id is not None,
        "delete": not at_tokens and rest > 0,
    }
    usual: tuple[Baseline, ...] = ("mask", "pad")
    wanted = [kind for kind in usual if has[kind]] if wanted is None else wanted
    if lacking := [kind for kind in wanted if not has[kind]]:
        reason = {
            "mask": "the model's tokenizer has no mask token",
            "pad": "the model's tokenizer has no padding token",
            "delete": f"task={predictor.task.name} reads its answer at certain tokens, which a deletion moves"
            if at_tokens
            else "the model puts no special token into a text, so that nothing would be left without its words",
        }[lacking[0]]
        raise UserError(f"--baseline {lacking[0]}: {reason}. Allowed: {', '.join(name for name in has if has[name])}")
    if not wanted:
        raise UserError("explain: the model's tokenizer has neither a mask nor a padding token to put for a word")
    return list(wanted)
