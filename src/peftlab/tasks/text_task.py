"""Base of tasks on texts and text pairs whose head reads each text as a whole."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from peftlab.errors import ConfigError, DataError
from peftlab.tasks.batch import Batch
from peftlab.tasks.inputs.cut_texts import CutTexts
from peftlab.tasks.inputs.editable import EditableText
from peftlab.tasks.inputs.texts import WholeText, encode_texts
from peftlab.tasks.limits import Limits
from peftlab.tasks.processor import Processor
from peftlab.tasks.task import Encoded, Random, spec


@spec
class TextTask(CutTexts):
    """Encodes, collates and edits texts; a task adds what is learnt of each. An example is a `WholeText`."""

    pointers: ClassVar[frozenset[str] | None] = frozenset({"examples"})
    host_work: ClassVar[str | None] = None

    @abstractmethod
    def targets(self, examples: Sequence[Any]) -> Tensor:
        """Return the target of each example, shape (examples, ...); anything without gold, whose weight is 0."""

    def text_of(self, fields: Mapping[str, Any]) -> tuple[str, str | None]:
        """Return ``text`` and, for pairs, ``text_pair`` of `Task.from_input`.

        Raises:
            DataError: one is missing or no string.
        """
        text, pair = fields.get("text"), fields.get("text_pair")
        if not isinstance(text, str) or not isinstance(pair, str | None):
            raise DataError("expected `text`, a string, and for pairs also `text_pair`, a string")
        return text, pair

    def encode(self, examples: Sequence[Any], processor: Processor, limits: Limits) -> Encoded:
        """Tokenise as `encode_texts` does."""
        if limits.long == "split":
            raise ConfigError("data.long=split: a text with one label is one row; set data.long=truncate")
        return encode_texts(examples, processor.tokenizer, limits.max_tokens)

    def collate(
        self, examples: Sequence[Any], encoded: Encoded, indices: Sequence[int], random: Random | None = None
    ) -> Batch:
        """Return inputs of shape (texts, tokens), and the `targets` as ``labels``."""
        starts = encoded.arrays["examples"]
        columns = {"input_ids": (encoded.arrays["tokens"], encoded.padding)}
        if len(encoded.arrays["types"]):
            columns["token_type_ids"] = (encoded.arrays["types"], 0)
        shape = (len(indices), int(encoded.lengths[list(indices)].max()))
        inputs = {name: np.full(shape, fill, dtype=np.int64) for name, (_, fill) in columns.items()}
        mask = np.zeros(shape, dtype=np.int64)
        for row, i in enumerate(indices):
            span = slice(starts[i], starts[i + 1])
            for name, (values, _) in columns.items():
                inputs[name][row, : encoded.lengths[i]] = values[span]
            mask[row, : encoded.lengths[i]] = 1
        chosen = [examples[i] for i in indices]
        return Batch(
            inputs={name: torch.from_numpy(values) for name, values in (inputs | {"attention_mask": mask}).items()},
            targets={"labels": self.targets(chosen)},
            weights=torch.from_numpy(self.weights(examples, encoded, indices)),
            rows=torch.arange(len(chosen)),
            examples=chosen,
            tokens=int(mask.sum()),
            padding={name: fill for name, (_, fill) in columns.items()} | {"attention_mask": 0},
        )

    def input_of(self, example: WholeText) -> Any:
        """Return the ``input`` of an answer: the text, or both texts of a pair."""
        return example.text if example.pair is None else [example.text, example.pair]

    def editable(self, example: Any) -> list[EditableText]:
        """Return the text, or both texts of a pair, whose words may all change."""
        if self.processor != "tokenizer":  # a subclass for other inputs
            return super().editable(example)
        return [EditableText.of_text(text) for text in (example.text, example.pair) if text is not None]

    def edited(self, example: Any, texts: Sequence[EditableText]) -> Any:
        """Return the example with its other texts and the same gold."""
        first, *second = [text.text for text in texts]
        return replace(example, text=first, pair=second[0] if second else None)

    def text_key(self, example: Any) -> str:
        """Return the text, or both texts of a pair."""
        return str(example.text) if example.pair is None else f"{example.text}\x1f{example.pair}"
