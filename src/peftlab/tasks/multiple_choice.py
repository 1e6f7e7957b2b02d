"""Multiple choice: which of an example's choices is right, each read and scored by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from typing_extensions import override

from peftlab.errors import ConfigError, DataError, UserError
from peftlab.scores.choice_scores import MOST, ChoiceScores
from peftlab.tasks.batch import Batch
from peftlab.tasks.inputs.choices import Choices, encode_choices
from peftlab.tasks.inputs.editable import EditableText
from peftlab.tasks.limits import Limits
from peftlab.tasks.networks.heads import Head
from peftlab.tasks.outputs.distributions import Distributions
from peftlab.tasks.outputs.mixing import Mixture, like
from peftlab.tasks.processor import Processor
from peftlab.tasks.task import Encoded, Random, Task, spec

_OUTSIDE = -1e9
"""The logit of another example's choice: its probability is exactly 0, and differences of logarithms are numbers."""


@spec
class MultipleChoice(Task):
    """A score for each choice, and a softmax over those of an example (Radford et al. 2018, section 3.3).

    Each choice is one row, and the head has one output, so that the number of choices may vary, and their order cannot
    matter: permuted choices have the same scores.
    """

    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of the target's probability that is spread over all choices (Szegedy et al. 2016)."""
    head: ClassVar[Head] = Head(
        "AutoModelForSequenceClassification",
        "SEQ_CLS",
        "multiple-choice",
        problem_type="regression",  # with one output, pipelines return it as it is
        size=1,
    )
    example: ClassVar[type] = Choices
    pointers: ClassVar[frozenset[str] | None] = frozenset({"rows", "examples"})
    host_work: ClassVar[str | None] = None
    couples_rows: ClassVar[bool] = True
    exported: ClassVar[str] = (
        "It gives each choice, read after its context or question, one score; the softmax over the scores of a "
        "question's choices gives their probabilities."
    )

    @property
    def scorer(self) -> ChoiceScores:
        """Return the scorer of choices."""
        return ChoiceScores()

    def from_input(self, fields: Mapping[str, Any], id: str) -> Choices:
        """Return an example of ``choices`` with a ``context``, a ``question`` or both."""
        context, question, choices = (fields.get(name) for name in ("context", "question", "choices"))
        texts = [text for text in (context, question) if text is not None]
        is_asked = bool(texts) and all(isinstance(text, str) for text in texts)
        if not is_asked or not isinstance(choices, list) or not _are_choices(choices):
            raise DataError(
                "expected `question` or `context`, or both, each a string, and `choices`, a list of 2 to "
                f"{MOST} strings"
            )
        return Choices(id, tuple(choices), None, context, question)

    def all_lost(self, encoded: Encoded) -> dict[str, int]:
        """Return the numbers of truncated questions and of truncated tokens, over all choices."""
        return {
            "truncated questions": encoded.counts["truncated_questions"],
            "truncated tokens": encoded.counts["truncated_tokens"],
        }

    def lost(self, encoded: Encoded, index: int) -> dict[str, Any]:
        """Return ``truncated`` and the number of ``lost_tokens`` over all choices, where they apply."""
        truncated = int(encoded.arrays["truncated"][index])
        return {"truncated": True, "lost_tokens": truncated} if truncated else {}

    def encode(self, examples: Sequence[Choices], processor: Processor, limits: Limits) -> Encoded:
        """Tokenise as `encode_choices` does."""
        if limits.long == "split":
            raise ConfigError("data.long=split: each choice is one row; set data.long=truncate")
        return encode_choices(examples, processor.tokenizer, limits.max_tokens)

    def encoded_text(self, example: Choices) -> Any:
        """Return the texts that are read for each choice."""
        return example.pairs

    def collate(
        self, examples: Sequence[Choices], encoded: Encoded, indices: Sequence[int], random: Random | None = None
    ) -> Batch:
        """Return inputs of shape (rows, tokens), one row a choice, and ``is_gold`` of shape (rows,): 1 for the gold."""
        tokens, types, rows, starts = (encoded.arrays[name] for name in ("tokens", "types", "rows", "examples"))
        bounds = [(row, place) for place, i in enumerate(indices) for row in range(starts[i], starts[i + 1])]
        shape = (len(bounds), max(int(rows[row + 1] - rows[row]) for row, _ in bounds))
        columns = {"input_ids": (tokens, encoded.padding)} | ({"token_type_ids": (types, 0)} if len(types) else {})
        inputs = {name: np.full(shape, fill, dtype=np.int64) for name, (_, fill) in columns.items()}
        mask = np.zeros(shape, dtype=np.int64)
        for n, (row, _) in enumerate(bounds):
            span = slice(rows[row], rows[row + 1])
            for name, (values, _) in columns.items():
                inputs[name][n, : span.stop - span.start] = values[span]
            mask[n, : span.stop - span.start] = 1
        chosen = [examples[i] for i in indices]
        gold = [int(n == one.answer) for one in chosen for n in range(len(one.choices))]
        return Batch(
            inputs={name: torch.from_numpy(values) for name, values in (inputs | {"attention_mask": mask}).items()},
            targets={"is_gold": torch.tensor(gold)},
            weights=torch.from_numpy(self.weights(examples, encoded, indices)),
            rows=torch.tensor([place for _, place in bounds]),
            examples=chosen,
            tokens=int(mask.sum()),
            padding={name: fill for name, (_, fill) in columns.items()} | {"attention_mask": 0},
        )

    def weights(self, examples: Sequence[Choices], encoded: Encoded, indices: Sequence[int]) -> np.ndarray:
        """Return 1 for each example with gold, else 0."""
        return np.asarray([examples[i].answer is not None for i in indices], dtype=float)

    def losses(self, outputs: Any, batch: Batch) -> Tensor:
        """Return the cross-entropy of each example over its choices."""
        log_p, gold = _by_row(outputs, batch).log_softmax(-1).diagonal(), batch.targets["is_gold"].float()
        if self.label_smoothing:
            same = _same(batch).float()
            even = (same @ gold) / same.sum(-1)
            gold = (1 - self.label_smoothing) * gold + self.label_smoothing * even
        return batch.by_example(-gold * log_p)

    def distributions(self, outputs: Any, batch: Batch) -> Distributions:
        """Return the distribution over the choices of each example, at the row of the gold choice."""
        rows = torch.arange(len(batch.rows), device=batch.rows.device)
        return Distributions(_by_row(outputs, batch), rows, batch.targets["is_gold"].float())

    @override
    def mixed(self, outputs: Sequence[Any], mixture: Mixture, batch: Batch | None = None) -> Any:
        """Return the mixture of the distributions over the choices of each example.

        Raises:
            UserError: without the batch, nothing says which choices belong together.
        """
        if batch is None:
            raise UserError(f"task={self.name}: which choices belong to an example is unknown in a plain forward pass")
        logits = mixture.softmax([_by_row(each, batch) for each in outputs]).diagonal()
        return like(outputs[0], {"logits": logits.unsqueeze(-1)})

    def answers(self, outputs: Any, batch: Batch, model: Any, final: bool) -> list[dict[str, Any]]:
        """Return the most probable choice, as its position; final answers have the ``probabilities`` of all choices."""
        of_rows = _by_row(outputs, batch).softmax(-1).diagonal().tolist()
        answers, start = [], 0
        for example in batch.examples:
            probabilities = of_rows[start : (start := start + len(example.choices))]
            best = max(range(len(probabilities)), key=probabilities.__getitem__)
            answer = {
                "id": example.id,
                "input": _input_of(example),
                "gold": example.answer,
                "predicted": best,
                "probability": probabilities[best],
                "choices": len(probabilities),
            }
            answers.append(answer | {"probabilities": probabilities} if final else answer)
        return answers

    def kept(self, example: Choices, answer: Mapping[str, Any]) -> dict[str, Any]:
        """Return a final answer with its probabilities in the seven digits that fp32 holds."""
        return super().kept(example, {**answer, "probabilities": [float(f"{p:.7g}") for p in answer["probabilities"]]})

    def is_consistent(self, answer: Mapping[str, Any], decisions: Mapping[str, Any]) -> bool:
        """Return whether the predicted choice is the most probable one."""
        probabilities, predicted = answer["probabilities"], answer["predicted"]
        own = probabilities[predicted] if 0 <= predicted < len(probabilities) == answer["choices"] else -1.0
        return bool(own == max(probabilities) and abs(own - answer["probability"]) <= 1e-6)

    def reply(self, example: Choices, answer: Mapping[str, Any]) -> dict[str, Any]:
        """Return the position and the text of the ``choice``, its ``probability``, and those of all choices."""
        return {
            "predicted": answer["predicted"],
            "choice": example.choices[answer["predicted"]],
            "probability": answer["probability"],
            "probabilities": answer["probabilities"],
        }

    def editable(self, example: Choices) -> list[EditableText]:
        """Return context and question, as far as there are; a choice whose words change may be another answer."""
        return [EditableText.of_text(text) for text in (example.context, example.question) if text is not None]

    def edited(self, example: Choices, texts: Sequence[EditableText]) -> Choices:
        """Return the example with another context and question, and the same choices."""
        new = iter(text.text for text in texts)
        context, question = (None if text is None else next(new) for text in (example.context, example.question))
        return replace(example, context=context, question=question)

    def text_key(self, example: Choices) -> str:
        """Return context, question and choices."""
        return "\x1f".join((example.context or "", example.question or "", *example.choices))

    def gold(self, example: Choices) -> int | None:
        """Return the position of the right choice."""
        return example.answer


def _are_choices(listed: list[Any]) -> bool:
    return 2 <= len(listed) <= MOST and all(isinstance(one, str) for one in listed)


def _input_of(example: Choices) -> dict[str, Any]:
    texts = {"context": example.context, "question": example.question}
    return {name: text for name, text in texts.items() if text is not None} | {"choices": list(example.choices)}


def _same(batch: Batch) -> Tensor:
    """Return whether two rows belong to the same example, shape (rows, rows)."""
    return batch.rows[:, None] == batch.rows[None]


def _by_row(outputs: Any, batch: Batch) -> Tensor:
    """Return for each row the logits of its example's choices, and `_OUTSIDE` for all others, shape (rows, rows).

    A matrix of the whole batch, so that a softmax needs neither the number of choices nor a loop over the examples.
    """
    return outputs.logits.float().squeeze(-1).expand(len(batch.rows), -1).masked_fill(~_same(batch), _OUTSIDE)
