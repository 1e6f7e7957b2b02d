"""Classification of texts and text pairs: one label each, out of two or more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from peftlab.errors import ConfigError, DataError
from peftlab.scores.class_scores import ClassScores
from peftlab.tasks.batch import Batch
from peftlab.tasks.distributions import Distributions
from peftlab.tasks.editable import EditableText
from peftlab.tasks.heads import SEQUENCE_CLASSIFICATION, Head
from peftlab.tasks.labelled import LabelledTask
from peftlab.tasks.labels import check_declared, check_found, is_name, nearest, shown, where
from peftlab.tasks.limits import Limits
from peftlab.tasks.processor import Processor
from peftlab.tasks.task import IGNORED, Encoded, Random, spec
from peftlab.tasks.texts import Text, encode_texts

_SHOWN = 10
"""Most labels listed in a message."""


@spec
class Classification(LabelledTask):
    """One label per text, trained by cross-entropy over the head's logits (Devlin et al. 2019)."""

    head: ClassVar[Head] = SEQUENCE_CLASSIFICATION
    example: ClassVar[type] = Text
    pointers: ClassVar[frozenset[str] | None] = frozenset({"examples"})
    host_work: ClassVar[str | None] = None

    def learn_labels(self, splits: Mapping[str, Sequence[Text]], declared: Sequence[str] | None) -> None:
        """Set `labels` as `Task.learn_labels` does; if all are whole numbers, they are sorted by value."""
        first_of: dict[str, Text] = {}
        for text in splits["train"]:
            if text.label is not None:
                first_of.setdefault(text.label, text)
        check_declared(declared or [])
        self.labels = list(declared) if declared else _in_order(set(first_of))
        if len(self.labels) < 2:
            whose = "data.labels" if declared else f"{where(splits['train'])}the training split"
            count = f"1 label: {self.labels[0]}" if self.labels else "no label"
            raise DataError(f"{whose} has {count}; a classifier needs two or more")
        for label, text in first_of.items():
            if not is_name(label):
                raise DataError(
                    f"{text.place}: the label {shown(label)} holds a character that no name may have. Remove it."
                )
        check_found(self.labels, first_of)
        allowed = set(self.labels)
        for texts in splits.values():
            for text in texts:
                if text.label not in allowed:
                    listed = ", ".join(self.labels[:_SHOWN]) + (", ..." if len(self.labels) > _SHOWN else "")
                    raise DataError(
                        f"{text.place}: unknown label {shown(str(text.label))}.{nearest(str(text.label), allowed)} "
                        f"Labels {'declared' if declared else 'in the training split'}: {listed}; "
                        "name them all with data.labels=[...]"
                    )

    def label_counts(self, examples: Sequence[Text], encoded: Encoded) -> Counter[str]:
        """Return the number of texts with each label."""
        return Counter(text.label for text in examples if text.label is not None)

    def from_input(self, fields: Mapping[str, Any], id: str) -> Text:
        """Return an example of ``text`` and, for pairs, ``text_pair``."""
        text, pair = fields.get("text"), fields.get("text_pair")
        if not isinstance(text, str) or not isinstance(pair, str | None):
            raise DataError("expected `text`, a string, and for pairs also `text_pair`, a string")
        return Text(id, text, None, pair)

    def all_lost(self, encoded: Encoded) -> dict[str, int]:
        """Return the numbers of truncated texts, of truncated tokens, and of texts without a token."""
        return {
            "truncated texts": encoded.counts["truncated_texts"],
            "truncated tokens": encoded.counts["truncated_tokens"],
            "texts without a token": int(encoded.arrays["empty"].sum()),
        }

    def lost(self, encoded: Encoded, index: int) -> dict[str, Any]:
        """Return ``truncated`` and the number of ``lost_tokens``, or ``empty``, where they apply."""
        truncated, empty = (int(encoded.arrays[name][index]) for name in ("truncated", "empty"))
        return ({"truncated": True, "lost_tokens": truncated} if truncated else {}) | ({"empty": True} if empty else {})

    def encode(self, examples: Sequence[Text], processor: Processor, limits: Limits) -> Encoded:
        """Tokenise as `encode_texts` does."""
        if limits.long == "split":
            raise ConfigError("data.long=split: a text with one label is one row; set data.long=truncate")
        return encode_texts(examples, processor.tokenizer, limits.max_tokens)

    def collate(
        self, examples: Sequence[Text], encoded: Encoded, indices: Sequence[int], random: Random | None = None
    ) -> Batch:
        """Return inputs of shape (texts, tokens) and ``labels`` of shape (texts,), `IGNORED` for texts without gold."""
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

    def targets(self, examples: Sequence[Text]) -> Tensor:
        """Return the label index of each example, shape (examples,), `IGNORED` without gold."""
        number = {label: n for n, label in enumerate(self.labels)}
        return torch.tensor([IGNORED if one.label is None else number[one.label] for one in examples])

    def weights(self, examples: Sequence[Text], encoded: Encoded, indices: Sequence[int]) -> np.ndarray:
        """Return the weight of each text's label, 1 by default; 0 without gold."""
        labels = [examples[i].label for i in indices]
        return np.asarray([0 if label is None else self.weight_of(label) for label in labels], dtype=float)

    def losses(self, outputs: Any, batch: Batch) -> Tensor:
        """Return the weighted cross-entropy of each text."""
        return self._cross_entropy(outputs, batch, "none")

    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        """Return the weighted mean cross-entropy over the texts: the mean of `losses`, in one kernel."""
        return self._cross_entropy(outputs, batch, "mean")

    def distributions(self, outputs: Any, batch: Batch) -> Distributions:
        """Return the distribution over the labels for each text."""
        return Distributions(outputs.logits.float(), batch.targets["labels"].clamp(min=0), batch.weights.float())

    def _cross_entropy(self, outputs: Any, batch: Batch, reduction: str) -> Tensor:
        """Return the cross-entropy of the logits, (texts, labels)."""
        return F.cross_entropy(
            outputs.logits.float(),
            batch.targets["labels"],
            weight=self.label_weights(outputs.logits),
            ignore_index=IGNORED,
            reduction=reduction,
            label_smoothing=self.label_smoothing,
        )

    def answers(self, outputs: Any, batch: Batch, model: Any, final: bool) -> list[dict[str, Any]]:
        """Return each text's most probable label with its probability; final answers have all ``probabilities``."""
        probabilities = outputs.logits.float().softmax(-1)
        answers = []
        for example, label, of_all in zip(
            batch.examples, probabilities.argmax(-1).tolist(), probabilities.tolist(), strict=True
        ):
            answer = {
                "id": example.id,
                "input": self.input_of(example),
                "gold": example.label,
                "predicted": self.labels[label],
                "probability": of_all[label],
            }
            answers.append(answer | {"probabilities": of_all} if final else answer)
        return answers

    def input_of(self, example: Text) -> Any:
        """Return the ``input`` of an answer: the text, or both texts of a pair."""
        return example.text if example.pair is None else [example.text, example.pair]

    def reply(self, example: Text, answer: Mapping[str, Any]) -> dict[str, Any]:
        """Return the ``predicted`` label, its ``probability``, and the ``probabilities`` of all labels."""
        return {
            "predicted": answer["predicted"],
            "probability": answer["probability"],
            "probabilities": dict(zip(self.labels, answer["probabilities"], strict=True)),
        }

    @property
    def scorer(self) -> ClassScores:
        """Return the scorer of single labels."""
        return ClassScores(self.labels)

    def editable(self, example: Text) -> list[EditableText]:
        """Return the text, or both texts of a pair, whose words may all change."""
        if self.processor != "tokenizer":  # a subclass for other inputs
            return super().editable(example)
        return [EditableText.of_text(text) for text in (example.text, example.pair) if text is not None]

    def edited(self, example: Text, texts: Sequence[EditableText]) -> Text:
        """Return the example with its other texts and the same label."""
        first, *second = [text.text for text in texts]
        return replace(example, text=first, pair=second[0] if second else None)

    def text_key(self, example: Text) -> str:
        """Return the text, or both texts of a pair."""
        return example.text if example.pair is None else f"{example.text}\x1f{example.pair}"

    def gold(self, example: Text) -> str | None:
        """Return the label."""
        return example.label


def _in_order(labels: set[str]) -> list[str]:
    by_value = all(label.isdecimal() for label in labels)
    return sorted(labels, key=lambda label: (int(label) if by_value else 0, label))
