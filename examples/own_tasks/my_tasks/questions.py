"""Extractive question answering: where in a text the answer to a question stands (Devlin et al. 2019, section 4.2)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from torch import Tensor
from torch.nn import functional as F

from peftlab.errors import ConfigError, DataError
from peftlab.scores.scorer import Direction, Scorer
from peftlab.tasks.batch import Batch
from peftlab.tasks.inputs.editable import EditableText
from peftlab.tasks.limits import Limits
from peftlab.tasks.networks.heads import Head
from peftlab.tasks.processor import Processor
from peftlab.tasks.task import IGNORED, Encoded, Random, Task, spec


@dataclass(frozen=True)
class Question:
    """A question about a text, and where the answer stands in it; no answer where that is not known."""

    id: str
    question: str
    context: str
    answer: str | None = None
    start: int | None = None
    """The character at which the answer begins."""
    place: str = ""
    """The file and the line, for messages."""


@dataclass(kw_only=True, frozen=True, config=ConfigDict(extra="forbid"))
class QuestionLines:
    """Reads JSON Lines with the keys ``question``, ``context``, ``answer`` and ``start``."""

    def read(self, files: Mapping[str, Path]) -> dict[str, list[Question]]:
        """Return the questions of each split.

        Raises:
            DataError: a line is no such object, or the answer does not stand where it says.
        """
        return {split: list(map(self._question, *_lines(split, path))) for split, path in files.items()}

    def _question(self, id: str, place: str, line: str) -> Question:
        try:
            return _checked(Question(id, place=place, **json.loads(line)))
        except (TypeError, ValueError) as error:
            raise DataError(f"{place}: expected question, context, answer and start ({error})") from error


def _lines(split: str, path: Path) -> tuple[list[str], list[str], list[str]]:
    lines = path.read_text(encoding="utf-8").splitlines()
    numbers = range(len(lines))
    return [f"{split}:{n}" for n in numbers], [f"{path}:{n + 1}" for n in numbers], lines


def _checked(one: Question) -> Question:
    if one.answer is None or one.start is None or not one.context.startswith(one.answer, one.start):
        raise ValueError(f"at character {one.start} stands no {one.answer!r}")
    return one


class AnswerScores(Scorer):
    """Exact match and F1 of words, means over the questions (Rajpurkar et al. 2016, section 6.1), case and all."""

    directions: ClassVar[Mapping[str, Direction]] = {"exact_match": "max", "answer_f1": "max"}
    dtype = np.float64
    name = "mean over questions, words apart at spaces"
    width = 3

    def counts(self, answer: Mapping[str, Any]) -> dict[int, float]:
        """Return 1 for an exact match, the F1, and 1 for the question."""
        predicted, gold = (Counter(answer[key].split()) for key in ("predicted", "gold"))
        number = predicted.total() + gold.total()
        f1 = 2 * (predicted & gold).total() / number if number else 1.0
        return {0: float(answer["predicted"] == answer["gold"]), 1: f1, 2: 1.0}

    def scores(self, total: np.ndarray) -> dict[str, float]:
        """Return both means, 0 without a question."""
        exact, f1, questions = total.tolist()
        return {"exact_match": exact / max(questions, 1), "answer_f1": f1 / max(questions, 1)}


@spec
class ExtractiveAnswers(Task):
    """The first and the last token of the answer, each by cross-entropy over the tokens of the text."""

    longest: int = Field(default=30, ge=1)
    """The most tokens of an answer."""
    head: ClassVar[Head] = Head(
        "AutoModelForQuestionAnswering", "QUESTION_ANS", "question-answering", outputs="span", size=2
    )
    example: ClassVar[type] = Question

    @property
    def scorer(self) -> AnswerScores:
        """Return exact match and F1."""
        return AnswerScores()

    def from_input(self, fields: Mapping[str, Any], id: str) -> Question:
        """Return the question of ``question`` and ``context``."""
        question, context = fields.get("question"), fields.get("context")
        if not isinstance(question, str) or not isinstance(context, str):
            raise DataError("expected `question` and `context`, both strings")
        return Question(id, question, context)

    def encode(self, examples: Sequence[Question], processor: Processor, limits: Limits) -> Encoded:
        """Tokenise question and text to one row; the end of a long text is lost.

        Returns:
            arrays ``tokens``, ``types`` and ``spans`` of all tokens: the ids, which text each is of, and which
            characters of the text it stands for, (-1, -1) of all others; ``starts``: where each row begins in them.
        """
        if limits.long == "split":
            raise ConfigError("data.long=split: a question is one row; set data.long=truncate")
        rows = processor.tokenizer(
            [one.question for one in examples],
            [one.context for one in examples],
            truncation="only_second",
            max_length=limits.max_tokens,
            return_offsets_mapping=True,
            return_token_type_ids=True,
        )
        lengths = np.asarray([len(ids) for ids in rows["input_ids"]])
        spans = [
            span if text == 1 else (-1, -1)
            for n in range(len(examples))
            for span, text in zip(rows["offset_mapping"][n], rows.sequence_ids(n), strict=True)
        ]
        arrays = {
            "tokens": np.concatenate(rows["input_ids"]),
            "types": np.concatenate(rows["token_type_ids"]),
            "spans": np.asarray(spans),
            "starts": np.concatenate([[0], np.cumsum(lengths)]),
        }
        return Encoded(arrays, lengths, processor.tokenizer.pad_token_id, {})

    def collate(
        self, examples: Sequence[Question], encoded: Encoded, indices: Sequence[int], random: Random | None = None
    ) -> Batch:
        """Return inputs of shape (questions, tokens), and as targets the tokens of the answer and those of the text."""
        width = int(encoded.lengths[list(indices)].max())
        fill = {"input_ids": encoded.padding, "token_type_ids": 0, "attention_mask": 0}
        inputs = {name: np.full((len(indices), width), value) for name, value in fill.items()}
        spans = np.full((len(indices), width, 2), -1)
        for row, i in enumerate(indices):
            own, length = slice(*encoded.arrays["starts"][i : i + 2]), encoded.lengths[i]
            inputs["input_ids"][row, :length] = encoded.arrays["tokens"][own]
            inputs["token_type_ids"][row, :length] = encoded.arrays["types"][own]
            inputs["attention_mask"][row, :length] = 1
            spans[row, :length] = encoded.arrays["spans"][own]
        chosen = [examples[i] for i in indices]
        bounds = [_tokens_of(one, of_row) for one, of_row in zip(chosen, spans, strict=True)]
        return Batch(
            inputs={name: torch.from_numpy(values) for name, values in inputs.items()},
            targets={"bounds": torch.tensor(bounds), "is_text": torch.from_numpy(spans[..., 0] >= 0)},
            weights=torch.from_numpy(self.weights(examples, encoded, indices)),
            rows=torch.arange(len(chosen)),
            examples=chosen,
            tokens=int(inputs["attention_mask"].sum()),
            host={"spans": spans.tolist()},
            padding={**fill, "is_text": 0},
        )

    def weights(self, examples: Sequence[Question], encoded: Encoded, indices: Sequence[int]) -> np.ndarray:
        """Return 1 for each question whose answer is in the row, else 0."""
        starts, spans = encoded.arrays["starts"], encoded.arrays["spans"]
        found = [_tokens_of(examples[i], spans[starts[i] : starts[i + 1]]) != (IGNORED, IGNORED) for i in indices]
        return np.asarray(found, dtype=float)

    def losses(self, outputs: Any, batch: Batch) -> Tensor:
        """Return the mean of the two cross-entropies of each question."""
        start, end = self._logits(outputs, batch)
        first, last = batch.targets["bounds"].T
        of_start = F.cross_entropy(start, first, ignore_index=IGNORED, reduction="none")
        return (of_start + F.cross_entropy(end, last, ignore_index=IGNORED, reduction="none")) / 2

    def _logits(self, outputs: Any, batch: Batch) -> list[Tensor]:
        """Return the logits of starts and of ends, (questions, tokens), those of the text alone."""
        outside = ~batch.targets["is_text"]
        return [logits.float().masked_fill(outside, -1e4) for logits in (outputs.start_logits, outputs.end_logits)]

    def answers(self, outputs: Any, batch: Batch, model: Any, final: bool) -> list[dict[str, Any]]:
        """Return the most probable answer to each question."""
        start, end = (logits.softmax(-1) for logits in self._logits(outputs, batch))
        # (questions, first, last): not backwards, and not too long
        both = (start[:, :, None] * end[:, None, :]).triu().tril(self.longest - 1)
        probabilities, best = both.flatten(1).max(-1)
        found = []
        for n, one in enumerate(batch.examples):
            first, last = divmod(int(best[n]), both.shape[-1])
            spans = batch.host["spans"][n]
            characters = slice(max(spans[first][0], 0), max(spans[last][1], 0))
            found.append(
                {
                    "id": one.id,
                    "input": [one.question, one.context],
                    "gold": one.answer,
                    "predicted": one.context[characters],
                    "probability": float(probabilities[n]),
                    "start": characters.start,
                }
            )
        return found

    def reply(self, example: Question, answer: Mapping[str, Any]) -> dict[str, Any]:
        """Return the ``answer``, where it ``start``s, and how probable it is."""
        return {"answer": answer["predicted"], "start": answer["start"], "probability": answer["probability"]}

    def editable(self, example: Question) -> list[EditableText]:
        """Return the question, and the text with its answer protected."""
        answer = (
            [(example.start, example.start + len(example.answer))]
            if example.answer and example.start is not None
            else []
        )
        return [EditableText.of_text(example.question), EditableText.of_text(example.context, answer)]

    def edited(self, example: Question, texts: Sequence[EditableText]) -> Question:
        """Return the example with other texts; the answer is the same, and stands where it has moved to."""
        question, context = texts
        start = context.offset(context.spans[0].start) if context.spans else example.start
        return replace(example, question=question.text, context=context.text, start=start)

    def text_key(self, example: Question) -> str:
        """Return question and text."""
        return f"{example.question}\x1f{example.context}"

    def gold(self, example: Question) -> str | None:
        """Return the answer."""
        return example.answer


def _tokens_of(one: Question, spans: np.ndarray) -> tuple[int, int]:
    """Return the first and the last token of the answer, twice `IGNORED` where it is not in the row."""
    if one.answer is None or one.start is None:
        return IGNORED, IGNORED
    end = one.start + len(one.answer)
    inside = np.flatnonzero((spans[:, 0] >= one.start) & (spans[:, 1] <= end) & (spans[:, 0] >= 0))
    is_whole = len(inside) and spans[inside[0], 0] == one.start and spans[inside[-1], 1] == end
    return (int(inside[0]), int(inside[-1])) if is_whole else (IGNORED, IGNORED)
