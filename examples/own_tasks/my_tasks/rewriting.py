"""Rewriting a text: an encoder-decoder generates another one (Raffel et al. 2020)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn import functional as F

from peftlab.errors import DataError
from peftlab.scores.scorer import Direction, Scorer
from peftlab.tasks.batch import Batch
from peftlab.tasks.limits import Limits
from peftlab.tasks.networks.heads import Head
from peftlab.tasks.processor import Processor
from peftlab.tasks.task import IGNORED, Encoded, Random, Task, spec


@dataclass(frozen=True)
class Rewrite:
    """A text, and what is to become of it; None where that is not known."""

    id: str
    source: str
    target: str | None = None
    place: str = ""
    """The file and the line, for messages."""


@dataclass(kw_only=True, frozen=True, config=ConfigDict(extra="forbid"))
class RewriteLines:
    """Reads JSON Lines with the keys ``source`` and ``target``."""

    def read(self, files: Mapping[str, Path]) -> dict[str, list[Rewrite]]:
        """Return the texts of each split.

        Raises:
            DataError: a line is no such object.
        """
        return {split: self._read_file(split, path) for split, path in files.items()}

    def _read_file(self, split: str, path: Path) -> list[Rewrite]:
        found = []
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
            place = f"{path}:{number + 1}"
            try:
                found.append(Rewrite(f"{split}:{number}", place=place, **json.loads(line)))
            except (TypeError, ValueError) as error:
                raise DataError(f"{place}: expected source and target ({error})") from error
        return found


class ExactScores(Scorer):
    """How many texts are written exactly so."""

    directions: ClassVar[Mapping[str, Direction]] = {"exact_match": "max"}
    name = "exact match"
    width = 2

    def counts(self, answer: Mapping[str, Any]) -> dict[int, int]:
        """Return 1 for an exact match, and 1 for the text."""
        return {0: int(answer["predicted"] == answer["gold"]), 1: 1}

    def scores(self, total: np.ndarray) -> dict[str, float]:
        """Return the share, 0 without a text."""
        return {"exact_match": float(total[0] / max(total[1], 1))}


@spec
class Rewriting(Task):
    """The target, token by token, by cross-entropy; answers are generated greedily."""

    longest: int = Field(default=32, ge=1)
    """The most tokens that are generated, and that a target has; the rest is lost."""
    head: ClassVar[Head] = Head("AutoModelForSeq2SeqLM", "SEQ_2_SEQ_LM", "text2text-generation", "vocabulary")
    example: ClassVar[type] = Rewrite
    generates: ClassVar[bool] = True
    limited_by: ClassVar[frozenset[str]] = frozenset({"max_tokens"})
    encoded_by: ClassVar[frozenset[str]] = frozenset({"longest"})

    @property
    def scorer(self) -> ExactScores:
        """Return the exact matches."""
        return ExactScores()

    def bind(self, processor: Processor) -> None:
        """Take up the vocabulary that generated tokens are read with."""
        self._tokenizer = processor.tokenizer

    def from_input(self, fields: Mapping[str, Any], id: str) -> Rewrite:
        """Return the text of ``text``."""
        if not isinstance(fields.get("text"), str):
            raise DataError("expected `text`, a string")
        return Rewrite(id, fields["text"])

    def encode(self, examples: Sequence[Rewrite], processor: Processor, limits: Limits) -> Encoded:
        """Tokenise sources and targets; the ends of long ones are lost."""
        tokenizer, arrays = processor.tokenizer, {}
        texts = {"sources": [one.source for one in examples], "targets": [one.target or "" for one in examples]}
        for name, most in (("sources", limits.max_tokens), ("targets", self.longest)):
            rows = tokenizer(texts[name], truncation=True, max_length=most)["input_ids"]
            arrays[name] = np.concatenate([np.asarray(row, dtype=np.int64) for row in rows])
            arrays[f"{name}_end"] = np.cumsum([len(row) for row in rows])
        lengths = np.diff(arrays["sources_end"], prepend=0)
        return Encoded(arrays, lengths, tokenizer.pad_token_id, {})

    def encoded_text(self, example: Rewrite) -> list[str | None]:
        """Return source and target: both are encoded."""
        return [example.source, example.target]

    def collate(
        self, examples: Sequence[Rewrite], encoded: Encoded, indices: Sequence[int], random: Random | None = None
    ) -> Batch:
        """Return sources and targets, padded, of shape (texts, tokens) each; the model shifts the targets itself."""
        sources, targets = (
            [np.split(encoded.arrays[name], encoded.arrays[f"{name}_end"])[i] for i in indices]
            for name in ("sources", "targets")
        )
        input_ids, labels = _padded(sources, encoded.padding), _padded(targets, IGNORED)
        mask = _padded([np.ones_like(row) for row in sources], 0)
        return Batch(
            inputs={"input_ids": input_ids, "attention_mask": mask, "labels": labels},
            targets={"labels": labels},
            weights=torch.from_numpy(self.weights(examples, encoded, indices)),
            rows=torch.arange(len(indices)),
            examples=[examples[i] for i in indices],
            tokens=int(mask.sum()),
            padding={"input_ids": encoded.padding, "attention_mask": 0, "labels": IGNORED},
        )

    def weights(self, examples: Sequence[Rewrite], encoded: Encoded, indices: Sequence[int]) -> np.ndarray:
        """Return the tokens of each target."""
        return np.diff(encoded.arrays["targets_end"], prepend=0)[list(indices)].astype(float)

    def losses(self, outputs: Any, batch: Batch) -> Tensor:
        """Return the cross-entropy of each target, summed over its tokens."""
        labels = batch.targets["labels"]
        losses = F.cross_entropy(
            outputs.logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED, reduction="none"
        )
        return losses.view_as(labels).sum(-1)

    def answers(self, outputs: Any, batch: Batch, model: Any, final: bool) -> list[dict[str, Any]]:
        """Generate what becomes of each text."""
        inputs = {name: tensor for name, tensor in batch.inputs.items() if name != "labels"}
        made = model.generate(**inputs, max_new_tokens=self.longest, do_sample=False)
        texts = self._tokenizer.batch_decode(made, skip_special_tokens=True)
        return [
            {"id": one.id, "input": one.source, "gold": one.target, "predicted": text, "probability": None}
            for one, text in zip(batch.examples, texts, strict=True)
        ]

    def answers_without_gold(self, batch: Batch, model: Any) -> list[dict[str, Any]]:
        """Generate, without the outputs that only a loss needs."""
        return self.answers(None, batch, model, final=True)

    def reply(self, example: Rewrite, answer: Mapping[str, Any]) -> dict[str, Any]:
        """Return what was written."""
        return {"written": answer["predicted"]}

    def text_key(self, example: Rewrite) -> str:
        """Return the source."""
        return example.source

    def gold(self, example: Rewrite) -> str | None:
        """Return the target."""
        return example.target


def _padded(rows: Sequence[np.ndarray], fill: int) -> Tensor:
    padded = np.full((len(rows), max(map(len, rows))), fill)
    for n, row in enumerate(rows):
        padded[n, : len(row)] = row
    return torch.from_numpy(padded)
