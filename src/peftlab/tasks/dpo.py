"""Preference optimisation: the better of two answers becomes more probable than the other (Rafailov et al. 2023)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import field
from itertools import chain
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from peftlab.errors import DataError
from peftlab.generation.options import Generation
from peftlab.generation.template import Rendered, Template, read_template
from peftlab.generation.writing import write
from peftlab.scores.masked_scores import rounded
from peftlab.scores.preference_scores import CHOSEN, REJECTED, PreferenceScores
from peftlab.tasks.batch import Batch
from peftlab.tasks.heads import CAUSAL_LM, Head
from peftlab.tasks.limits import Limits
from peftlab.tasks.preferences import Preference, answer_of, messages_of, text_of
from peftlab.tasks.processor import Processor
from peftlab.tasks.reference import REFERENCE
from peftlab.tasks.task import IGNORED, Encoded, Random, Task, check_size, spec
from peftlab.tasks.token_losses import token_losses

_BETTER, _WORSE, _PROMPT = 1.0, -1.0, 0.0
"""The sign of each row: of a chosen answer, of a rejected one, and of a prompt without answers."""


@spec
class Dpo(Task):
    """Direct preference optimisation, the sigmoid loss of equation 7, without a reward model.

    Each answer is one row with its prompt. What counts of it is the sum of the log probabilities of its own tokens, its
    end included; earlier answers within the prompt are read, not scored. The reference is the model that training
    starts from, see `peftlab.tasks.reference`.
    """

    beta: float = Field(default=0.1, gt=0)
    """How much the model is held to the reference: the factor of the log ratios of their probabilities."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """The share of pairs that are expected to be labelled the wrong way round (conservative DPO, Mitchell 2023)."""
    template: str = "model"
    """How conversations are written, see `peftlab.generation.template.read_template`."""
    generate: Generation = field(default_factory=lambda: Generation(at="never"))
    """How answers to prompts are written, and whether evaluations keep one for each prompt."""
    head: ClassVar[Head] = CAUSAL_LM
    example: ClassVar[type] = Preference
    pointers: ClassVar[frozenset[str] | None] = frozenset({"rows", "examples"})
    limited_by: ClassVar[frozenset[str]] = frozenset({"max_tokens"})
    encoded_by: ClassVar[frozenset[str]] = frozenset({"template"})
    host_work: ClassVar[str | None] = None
    couples_rows: ClassVar[bool] = True
    generates: ClassVar[bool] = True
    refers: ClassVar[bool] = True
    defers_logits: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Read the template, and check the selection."""
        super().__post_init__()
        self.template = read_template(self.template)

    @property
    def scorer(self) -> PreferenceScores:
        """Return the scorer of pairs."""
        return PreferenceScores()

    def bind(self, processor: Processor) -> None:
        """Keep the tokenizer, and the template that it fills."""
        self._tokenizer = processor.tokenizer
        self._template = Template(self._tokenizer, self.template)

    def from_input(self, fields: Mapping[str, Any], id: str) -> Preference:
        """Return a prompt, ``text`` or ``messages``, to be answered; or a pair, with ``chosen`` and ``rejected``."""
        given = {name: fields[name] for name in (CHOSEN, REJECTED) if fields.get(name) is not None}
        prompt = fields.get("messages", fields.get("text"))
        if prompt is None or len(given) == 1:
            raise DataError(
                "expected a prompt, `text` or `messages`, and, to compare two answers, both `chosen` and `rejected`"
            )
        messages = messages_of(prompt, "user", "the prompt")
        answers = (answer_of(messages_of(one, "assistant", name), messages, name) for name, one in given.items())
        return Preference(id, messages, *(answers if given else (None, None))).checked()

    def all_lost(self, encoded: Encoded) -> dict[str, int]:
        """Return the numbers of truncated answers, of truncated tokens, and of pairs that are not learnt from: nothing
        is left of one of their answers."""
        names = ("truncated answers", "truncated tokens", "pairs without an answer")
        return {name: encoded.counts[name.replace(" ", "_")] for name in names}

    def lost(self, encoded: Encoded, index: int) -> dict[str, Any]:
        """Return ``truncated`` and the number of ``lost_tokens`` over both answers, where they apply."""
        truncated = int(encoded.arrays["truncated"][index])
        return {"truncated": True, "lost_tokens": truncated} if truncated else {}

    def encode(self, examples: Sequence[Preference], processor: Processor, limits: Limits) -> Encoded:
        """Render each answer with its prompt to one row, which loses what comes after `max_tokens` tokens.

        A prompt without answers stays whole: what does not fit of it is cut where it is answered.

        Returns:
            arrays ``tokens`` and ``learnt`` of shape (all tokens,): the ids, and whether they are of an answer;
            ``rows`` of shape (rows + 1,): where each row starts in them; ``examples`` of shape (examples + 1,): where
            each example starts among the rows, two of a pair and one of a prompt alone; ``truncated`` of shape
            (examples,): the tokens that it loses.
        """
        for example in examples:
            texts = (text_of(example.prompt), *example.answers)
            check_size(sum(map(len, texts)), example.place or example.id)
        template = Template(processor.tokenizer, self.template)
        rows = [template.rendered(one) for example in examples for one in example.conversations]
        lengths = np.asarray([len(row.tokens) for row in rows], dtype=np.int64)
        starts = np.concatenate([[0], np.cumsum([len(one.answers) or 1 for one in examples])]).astype(np.int64)
        are_answers = np.repeat(np.diff(starts) == 2, np.diff(starts))
        kept = np.where(are_answers, np.minimum(lengths, limits.max_tokens), lengths)
        learnt = [_of_answer(row)[:most] for row, most in zip(rows, kept.tolist(), strict=True)]
        is_empty = np.asarray([not of_row.any() for of_row in learnt])
        tokens = (row.tokens[:most] for row, most in zip(rows, kept.tolist(), strict=True))
        arrays = {
            "tokens": np.fromiter(chain.from_iterable(tokens), dtype=np.int32),
            "learnt": np.concatenate([*learnt, np.zeros(0, dtype=bool)]),
            "rows": np.concatenate([[0], np.cumsum(kept)]).astype(np.int64),
            "examples": starts,
            "truncated": _over_examples(np.add, lengths - kept, starts),
        }
        without = _over_examples(np.logical_or, is_empty, starts) & (np.diff(starts) == 2)
        counts = {
            "truncated_answers": int((lengths > kept).sum()),
            "truncated_tokens": int((lengths - kept).sum()),
            "pairs_without_an_answer": int(without.sum()),
        }
        padding = processor.tokenizer.pad_token_id
        return Encoded(arrays, _over_examples(np.maximum, kept, starts), padding if padding is not None else 0, counts)

    def encoded_text(self, example: Preference) -> Any:
        """Return all messages."""
        return [[*map(list, example.prompt)], *example.answers]

    def collate(
        self, examples: Sequence[Preference], encoded: Encoded, indices: Sequence[int], random: Random | None = None
    ) -> Batch:
        """Return inputs of shape (rows, tokens), and targets: ``labels`` of the same shape, `IGNORED` outside answers;
        ``sign`` of shape (rows,), 1 for a chosen answer and -1 for a rejected one; ``reference`` of shape (rows,)."""
        rows, starts = encoded.arrays["rows"], encoded.arrays["examples"]
        bounds = [(row, place) for place, i in enumerate(indices) for row in range(starts[i], starts[i + 1])]
        shape = (len(bounds), max(int(rows[row + 1] - rows[row]) for row, _ in bounds))
        names = {"input_ids": encoded.padding, "attention_mask": 0, "labels": IGNORED}
        filled = {name: np.full(shape, fill, dtype=np.int64) for name, fill in names.items()}
        for n, (row, _) in enumerate(bounds):
            span, length = slice(rows[row], rows[row + 1]), int(rows[row + 1] - rows[row])
            tokens = encoded.arrays["tokens"][span]
            filled["input_ids"][n, :length], filled["attention_mask"][n, :length] = tokens, 1
            filled["labels"][n, :length] = np.where(encoded.arrays["learnt"][span], tokens, IGNORED)
        tensors = {name: torch.from_numpy(values) for name, values in filled.items()}
        targets = {"labels": tensors["labels"]}
        signs = [(_BETTER, _WORSE) if starts[i + 1] - starts[i] == 2 else (_PROMPT,) for i in indices]
        targets["sign"] = torch.tensor(list(chain.from_iterable(signs)))
        if REFERENCE in encoded.arrays:
            targets[REFERENCE] = torch.from_numpy(encoded.arrays[REFERENCE][[row for row, _ in bounds]])
        return Batch(
            inputs={name: tensors[name] for name in ("input_ids", "attention_mask")},
            targets=targets,
            weights=torch.from_numpy(self.weights(examples, encoded, indices)),
            rows=torch.tensor([place for _, place in bounds]),
            examples=[examples[i] for i in indices],
            tokens=int(filled["attention_mask"].sum()),
            host={"learnt": int((filled["labels"] != IGNORED).sum())},
            padding=names,
        )

    def weights(self, examples: Sequence[Preference], encoded: Encoded, indices: Sequence[int]) -> np.ndarray:
        """Return 1 for each pair of whose two answers something is left, else 0."""
        rows, starts, learnt = (encoded.arrays[name] for name in ("rows", "examples", "learnt"))
        return np.asarray(
            [
                starts[i + 1] - starts[i] == 2
                and all(learnt[rows[row] : rows[row + 1]].any() for row in range(starts[i], starts[i + 1]))
                for i in indices
            ],
            dtype=float,
        )

    def reference(self, outputs: Any, batch: Batch) -> Tensor:
        """Return the log probability of each answer, summed over its tokens, shape (rows,)."""
        learnt = batch.host["learnt"] if not batch.copies else None
        return -token_losses(outputs.logits[:, :-1], batch.targets["labels"][:, 1:], learnt).sum(-1)

    def _rewards(self, outputs: Any, batch: Batch) -> Tensor:
        """Return beta times the log ratio of each answer to the reference, shape (rows,)."""
        return self.beta * (self.reference(outputs, batch) - batch.targets[REFERENCE])

    def losses(self, outputs: Any, batch: Batch) -> Tensor:
        """Return the loss of each pair; 0 where an answer is missing."""
        rewards = self._rewards(outputs, batch)
        margins = batch.by_example(rewards * batch.targets["sign"])
        losses = -(1 - self.label_smoothing) * F.logsigmoid(margins)
        if self.label_smoothing:
            losses = losses - self.label_smoothing * F.logsigmoid(-margins)
        return losses * batch.weights.to(losses.dtype)

    def answers(self, outputs: Any, batch: Batch, model: Any, final: bool) -> list[dict[str, Any]]:
        """Return which answer of each pair is preferred, with both ``rewards``; and an answer ``written`` to each
        prompt, where evaluations keep one."""
        rewards = iter(self._rewards(outputs, batch).tolist())
        answers = [
            {**_asked(example), **_preferred({name: rounded(next(rewards)) for name in (CHOSEN, REJECTED)})}
            for example in batch.examples
        ]
        if self.generate.at == "always" or (final and self.generate.at == "final"):
            written = self._written(batch.examples, model)
            answers = [answer | text for answer, text in zip(answers, written, strict=True)]
        return answers

    def answers_without_gold(self, batch: Batch, model: Any) -> list[dict[str, Any]]:
        """Return what is written to each prompt; pairs are compared."""
        if all(one.answers for one in batch.examples):
            return self.answers(model(**batch.inputs), batch, model, final=True)
        if any(one.answers for one in batch.examples):
            raise DataError("prompts to be answered and answers to be compared come one after the other")
        written = self._written(batch.examples, model)
        return [
            {**_asked(example), "predicted": text["written"], "probability": None, **text}
            for example, text in zip(batch.examples, written, strict=True)
        ]

    def _written(self, examples: Sequence[Preference], model: Any) -> list[dict[str, Any]]:
        prompts = []
        for one in examples:
            row = self._template.rendered(one.conversations[0])
            prompts.append(row.tokens[: row.prompt])
        texts = write(model, prompts, self.generate, self._tokenizer, [one.id for one in examples])
        return [{"written": text.text, "stopped": text.stopped} for text in texts]

    def is_consistent(self, answer: Mapping[str, Any], decisions: Mapping[str, Any]) -> bool:
        """Return whether the preferred answer is the one with the larger reward, and its probability their logistic."""
        expected = _preferred(answer["rewards"])
        return answer["predicted"] == expected["predicted"] and math.isclose(
            answer["probability"], expected["probability"], abs_tol=1e-9
        )

    def reply(self, example: Preference, answer: Mapping[str, Any]) -> dict[str, Any]:
        """Return what was ``written`` and whether it ``stopped`` by itself; or the preferred answer of a pair, its
        ``probability``, and the ``rewards`` of both."""
        names = ("predicted", "probability", "rewards") if example.answers else ("written", "stopped")
        return {name: answer[name] for name in names}

    def text_key(self, example: Preference) -> str:
        """Return prompt and answers, in an order of their own: a pair that is turned round is a conflict."""
        return "\x1f".join((text_of(example.prompt), *sorted(example.answers)))

    def gold(self, example: Preference) -> str | None:
        """Return the preferred answer."""
        return example.chosen


def _asked(example: Preference) -> dict[str, Any]:
    """Return the fields of an answer that say what was asked."""
    texts = dict(zip((CHOSEN, REJECTED), example.answers, strict=False))
    return {
        "id": example.id,
        "input": {"prompt": text_of(example.prompt), **texts},
        "gold": CHOSEN if example.answers else None,
    }


def _preferred(rewards: Mapping[str, float]) -> dict[str, Any]:
    """Return the fields of an answer that follow from its rewards: the probability is that of equation 1."""
    margin = rewards[CHOSEN] - rewards[REJECTED]
    predicted = CHOSEN if margin > 0 else REJECTED if margin < 0 else None
    probability = 1 / (1 + math.exp(-abs(margin))) if math.isfinite(margin) else margin
    return {"predicted": predicted, "probability": probability, "rewards": dict(rewards)}


def _of_answer(row: Rendered) -> np.ndarray:
    """Return which tokens of a row are of its last answer, shape (tokens,)."""
    return np.asarray(row.learnt, dtype=bool) & (np.arange(len(row.tokens)) >= row.prompt)


def _over_examples(of: np.ufunc, values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Return the values of rows, reduced to one for each example."""
    return of.reduceat(values, starts[:-1]) if len(values) else values
