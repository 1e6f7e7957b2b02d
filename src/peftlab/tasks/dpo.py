"""Preference optimisation: the better of two answers becomes more probable than the other (Rafailov et al. 2023)."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import field
from itertools import chain
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import override

from peftlab.errors import ConfigError, DataError
from peftlab.generation.conversations import refuse_system
from peftlab.generation.options import Generation
from peftlab.generation.template import MODEL, Template, read_template
from peftlab.generation.writing import UNSEEN, stream, write
from peftlab.scores.masked_scores import rounded
from peftlab.scores.preference_scores import CHOSEN, REJECTED, PreferenceScores
from peftlab.tasks.batch import LEARNT, Batch
from peftlab.tasks.causal_lm import CausalLm
from peftlab.tasks.general_text import MeasuresForgetting
from peftlab.tasks.inputs.cut_texts import CutTexts
from peftlab.tasks.inputs.preferences import Preference, answer_of, messages_of, text_of
from peftlab.tasks.limits import Limits
from peftlab.tasks.losses.token_losses import token_losses
from peftlab.tasks.networks.heads import CAUSAL_LM, Head
from peftlab.tasks.processor import Processor
from peftlab.tasks.reference import REFERENCE
from peftlab.tasks.task import IGNORED, Encoded, Random, check_size, spec
from peftlab.tasks.writer import Writer


@spec
class Dpo(MeasuresForgetting, Writer, CutTexts):
    """Direct preference optimisation, the sigmoid loss of equation 7, without a reward model.

    Each answer is one row with its prompt. What counts of it is the sum of the log probabilities of its own tokens, its
    end included; earlier answers within the prompt are read, not scored. The reference is the model that training
    starts from, see `peftlab.tasks.reference`.
    """

    beta: float = Field(default=0.1, gt=0)
    """How much the model is held to the reference: the factor of the log ratios of their probabilities."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """The share of pairs that are expected to be labelled the wrong way round (conservative DPO, Mitchell 2023)."""
    template: str = MODEL
    """The chat template: the model's, one of peftlab's (chatml, plain), or the path of a Jinja file."""
    generate: Generation = field(default_factory=lambda: Generation(at="never"))
    """How answers to prompts are written, and whether evaluations keep one for each prompt."""
    head: ClassVar[Head] = CAUSAL_LM
    example: ClassVar[type] = Preference
    pointers: ClassVar[frozenset[str] | None] = frozenset({"rows", "examples"})
    encoded_by: ClassVar[frozenset[str]] = frozenset({"template"})
    host_work: ClassVar[str | None] = None
    couples_rows: ClassVar[bool] = True
    generates: ClassVar[bool] = True
    refers: ClassVar[bool] = True

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
        self._processor, self._tokenizer = processor, processor.tokenizer
        self._template = Template(self._tokenizer, self.template)

    @property
    @override
    def stops(self) -> Sequence[int]:
        return self._template.stops

    @override
    def prepare_export(self, model: Any, processor: Processor) -> None:
        super().prepare_export(model, processor)
        self._template.put_into(processor.tokenizer)

    def settled(self) -> dict[str, Any]:
        """Return the template itself: a run keeps it, not the place of its file."""
        return {"template": self.template}

    def from_input(self, fields: Mapping[str, Any], id: str) -> Preference:
        """Return a prompt, ``text`` or ``messages``, to be answered; or a pair, with ``chosen`` and ``rejected``."""
        refuse_system(fields)
        given = {name: fields[name] for name in (CHOSEN, REJECTED) if fields.get(name) is not None}
        prompt = fields.get("text") if fields.get("messages") is None else fields["messages"]
        if prompt is None or len(given) == 1:
            raise DataError(
                "expected a prompt, `text` or `messages`, and, to compare two answers, both `chosen` and `rejected`"
            )
        messages = messages_of(prompt, "user", "the prompt")
        answers = (answer_of(messages_of(one, "assistant", name), messages, name) for name, one in given.items())
        return Preference(id, messages, *(answers if given else (None, None))).checked()

    def all_lost(self, encoded: Encoded) -> dict[str, int]:
        """Return the numbers of truncated pairs, of truncated tokens over both answers, and of pairs that are not
        learnt from, as nothing is left of an answer."""
        truncated, tokens, without = super().all_lost(encoded).values()
        return {"truncated pairs": truncated, "truncated tokens": tokens, "pairs whose answer is cut away": without}

    def encode(self, examples: Sequence[Preference], processor: Processor, limits: Limits) -> Encoded:
        """Render each answer with its prompt to one row, which loses its end if it is longer than the limit.

        A prompt without answers stays whole: what does not fit of it is cut where it is answered.

        Returns:
            arrays ``tokens`` and ``learnt`` of shape (all tokens,): the ids, and whether each is of the answer;
            ``rows`` of shape (rows + 1,): where each row starts in them; ``examples`` of shape (examples + 1,): where
            each example starts among the rows, two of a pair and one of a prompt; ``truncated`` and ``empty`` of shape
            (examples,): the tokens that are lost, and whether nothing is left of an answer. The counts are
            ``truncated_texts`` and ``truncated_tokens``.
        """
        if limits.long == "split":
            raise ConfigError("data.long=split: an answer needs all that comes before it; set data.long=truncate")
        for one in examples:
            check_size(sum(map(len, (text_of(one.prompt), *one.answers))), one.place or one.id)
        template = Template(processor.tokenizer, self.template)
        rows = [template.rendered(conversation) for one in examples for conversation in one.conversations]
        starts = np.concatenate([[0], np.cumsum([len(one.answers) or 1 for one in examples])]).astype(np.int64)
        is_pair = np.diff(starts) == 2
        lengths = np.asarray([len(row.tokens) for row in rows], dtype=np.int64)
        kept = np.where(np.repeat(is_pair, np.diff(starts)), np.minimum(lengths, limits.max_tokens), lengths)
        cut = list(zip(rows, kept.tolist(), strict=True))
        is_empty = np.asarray([row.prompt >= length for row, length in cut], dtype=bool)
        truncated = _over_examples(np.add, lengths - kept, starts)
        arrays: dict[str, np.ndarray] = {
            "tokens": np.asarray([id for row, length in cut for id in row.tokens[:length]], dtype=np.int32),
            "learnt": np.asarray(
                [learnt and n >= row.prompt for row, length in cut for n, learnt in enumerate(row.learnt[:length])],
                dtype=np.int8,
            ),
            "rows": np.concatenate([[0], np.cumsum(kept)]).astype(np.int64),
            "examples": starts,
            "truncated": truncated,
            "empty": (_over_examples(np.logical_or, is_empty, starts) & is_pair).astype(np.int64),
        }
        counts = {"truncated_texts": int((truncated > 0).sum()), "truncated_tokens": int(truncated.sum())}
        longest = _over_examples(np.maximum, kept, starts)
        return Encoded(arrays, longest, processor.tokenizer.pad_token_id or 0, counts)

    def encoded_text(self, example: Preference) -> Any:
        """Return all messages."""
        return [[*map(list, example.prompt)], *example.answers]

    def collate(
        self, examples: Sequence[Preference], encoded: Encoded, indices: Sequence[int], random: Random | None = None
    ) -> Batch:
        """Return inputs of shape (rows, tokens), and targets: ``labels`` of the same shape, the token after each, or
        `IGNORED` outside answers; ``sign`` of shape (rows,), 1 for a chosen answer, -1 for a rejected one, 0 for a
        prompt; and ``reference`` of shape (rows,)."""
        rows, starts = encoded.arrays["rows"], encoded.arrays["examples"]
        bounds = [(row, place) for place, i in enumerate(indices) for row in range(starts[i], starts[i + 1])]
        shape = (len(bounds), max(int(rows[row + 1] - rows[row]) for row, _ in bounds))
        fills = {"input_ids": encoded.padding, "attention_mask": 0, "labels": IGNORED}
        filled = {name: np.full(shape, fill, dtype=np.int64) for name, fill in fills.items()}
        for n, (row, _) in enumerate(bounds):
            span, length = slice(rows[row], rows[row + 1]), int(rows[row + 1] - rows[row])
            tokens, learnt = (encoded.arrays[name][span] for name in ("tokens", "learnt"))
            filled["input_ids"][n, :length], filled["attention_mask"][n, :length] = tokens, 1
            filled["labels"][n, : length - 1] = np.where(learnt[1:], tokens[1:], IGNORED)
        tensors = {name: torch.from_numpy(values) for name, values in filled.items()}
        signs = chain.from_iterable((1.0, -1.0) if starts[i + 1] - starts[i] == 2 else (0.0,) for i in indices)
        targets = {"labels": tensors.pop("labels"), "sign": torch.tensor(list(signs))}
        if REFERENCE in encoded.arrays:
            targets[REFERENCE] = torch.from_numpy(encoded.arrays[REFERENCE][[row for row, _ in bounds]])
        return Batch(
            inputs=tensors,
            targets=targets,
            weights=torch.from_numpy(self.weights(examples, encoded, indices)),
            rows=torch.tensor([place for _, place in bounds]),
            examples=[examples[i] for i in indices],
            tokens=int(filled["attention_mask"].sum()),
            host={LEARNT: int((filled["labels"] != IGNORED).sum())},
            padding=fills,
        )

    def weights(self, examples: Sequence[Preference], encoded: Encoded, indices: Sequence[int]) -> np.ndarray:
        """Return 1 for each pair of whose two answers something is left, else 0."""
        empty, starts = encoded.arrays["empty"], encoded.arrays["examples"]
        return np.asarray([starts[i + 1] - starts[i] == 2 and not empty[i] for i in indices], dtype=float)

    def reference(self, outputs: Any, batch: Batch) -> Tensor:
        """Return the log probability of each answer, summed over its tokens, shape (rows,)."""
        return -token_losses(outputs.logits, batch.targets["labels"], batch.host.get(LEARNT)).sum(-1)

    def _rewards(self, outputs: Any, batch: Batch) -> Tensor:
        """Return beta times the log ratio of each answer to the reference, shape (rows,); 0 without weight."""
        ratios = self.reference(outputs, batch) - batch.targets[REFERENCE]
        return self.beta * ratios * (batch.weights > 0)[batch.rows]

    def losses(self, outputs: Any, batch: Batch) -> Tensor:
        """Return the loss of each pair, equation 7; 0 without weight."""
        margins = batch.by_example(self._rewards(outputs, batch) * batch.targets["sign"])
        losses = -(1 - self.label_smoothing) * F.logsigmoid(margins)
        if self.label_smoothing:
            losses = losses - self.label_smoothing * F.logsigmoid(-margins)
        return losses * batch.weights.to(losses.dtype)

    def answers(self, outputs: Any, batch: Batch, model: Any, final: bool) -> list[dict[str, Any]]:
        """Return which answer of each pair is preferred, with both ``rewards``; and an answer ``written`` to each
        prompt, where evaluations keep one. A pair of which an answer is cut away has no rewards."""
        weights = batch.weights.tolist()
        rewards = list(map(rounded, self._rewards(outputs, batch).tolist())) if any(weights) else []
        answers = [
            _preferred(
                _asked(one), dict(zip((CHOSEN, REJECTED), rewards[2 * n :], strict=False)) if weights[n] else None
            )
            for n, one in enumerate(batch.examples)
        ]
        if self.generate.at == "always" or (final and self.generate.at == "final"):
            written = self._written(batch.examples, model)
            answers = [answer | text for answer, text in zip(answers, written, strict=True)]
        return answers

    def answers_without_gold(self, batch: Batch, model: Any) -> list[dict[str, Any]]:
        """Return what is written to each prompt, or which answer of each pair is preferred.

        Raises:
            DataError: the batch has both.
        """
        pairs = [bool(one.answers) for one in batch.examples]
        if all(pairs):
            return self.answers(self.outputs(model, batch), batch, model, final=True)
        if any(pairs):
            raise DataError("answers are written and compared in batches of their own")
        return [
            {**_asked(example), "predicted": text["written"], "probability": None, **text}
            for example, text in zip(batch.examples, self._written(batch.examples, model), strict=True)
        ]

    def stream(self, batch: Batch, model: Any) -> Generator[str, None, bool]:
        """Yield the answer to a prompt, piece by piece; return whether the model ended it."""
        (example,) = batch.examples
        return stream(model, self._prompt(example), self.generate, self._tokenizer, example.id, self.stops)

    def _written(self, examples: Sequence[Preference], model: Any) -> list[dict[str, Any]]:
        prompts, keys = map(self._prompt, examples), [one.id for one in examples]
        texts = write(model, list(prompts), self.generate, self._tokenizer, keys, self.stops)
        return [{"written": text.text, "stopped": text.stopped} | text.unseen for text in texts]

    def _prompt(self, example: Preference) -> list[int]:
        """Return the tokens that an answer follows."""
        row = self._template.rendered(example.conversations[0])
        return row.tokens[: row.prompt]

    def is_consistent(self, answer: Mapping[str, Any], decisions: Mapping[str, Any]) -> bool:
        """Return whether the preferred answer has the larger reward, and its probability follows from both."""
        expected = _preferred(answer, answer["rewards"])
        names = ("predicted", "probability")
        return all(answer[name] == expected[name] for name in names)

    def reply(self, example: Preference, answer: Mapping[str, Any]) -> dict[str, Any]:
        """Return what was ``written``, whether it ``stopped`` by itself, and any ``unseen_prompt_tokens``; or the
        preferred answer of a pair, its ``probability``, and the ``rewards`` of both."""
        names = ("predicted", "probability", "rewards") if example.answers else ("written", "stopped", UNSEEN)
        return {name: answer[name] for name in names if name in answer}

    def text_key(self, example: Preference) -> str:
        """Return prompt and answers, in an order of their own: a pair that is turned round is a conflict."""
        return "\x1f".join((text_of(example.prompt), *sorted(example.answers)))

    def gold(self, example: Preference) -> str | None:
        """Return the preferred answer."""
        return example.chosen

    @property
    @override
    def general_task(self) -> CausalLm:
        """Return the task of predicting each token, for no text is preferred to another."""
        selection, generate = {"metric": "loss"}, Generation(at="never")
        options: dict[str, Any] = {"name": "causal_lm", "selection": selection, "packing": "off", "generate": generate}
        task = CausalLm(**options)
        task.bind(self._processor)
        return task


def _asked(example: Preference) -> dict[str, Any]:
    """Return the fields of an answer that say what was asked."""
    texts = dict(zip((CHOSEN, REJECTED), example.answers, strict=False))
    return {"id": example.id, "input": {"prompt": text_of(example.prompt), **texts}, "gold": example.chosen}


def _preferred(asked: Mapping[str, Any], rewards: Mapping[str, float] | None) -> dict[str, Any]:
    """Return the answer that follows from the rewards of a pair; its probability is that of equation 1."""
    if rewards is None:
        return {**asked, "predicted": None, "probability": None, "rewards": None}
    margin = rewards[CHOSEN] - rewards[REJECTED]
    preferred = CHOSEN if margin > 0 else REJECTED if margin < 0 else None
    return {
        **asked,
        "predicted": asked["input"].get(preferred),
        "probability": 1 / (1 + math.exp(-abs(margin))) if math.isfinite(margin) else margin,
        "rewards": dict(rewards),
    }


def _over_examples(of: np.ufunc, values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Return the values of rows, reduced to one for each example."""
    return of.reduceat(values, starts[:-1]) if len(values) else values
