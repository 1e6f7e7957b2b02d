"""Extractive question answering: the piece of a text that answers a question, or that there is none."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import override

from peftlab.errors import DataError, UserError
from peftlab.scores.squad import Language, SquadScores, answer_scores, null_threshold
from peftlab.tasks.batch import Batch
from peftlab.tasks.inputs.cut_texts import CutTexts
from peftlab.tasks.inputs.editable import EditableText
from peftlab.tasks.inputs.questions import NO_TEXT, Question, answer_regions, encode_questions, moved, token_bounds
from peftlab.tasks.limits import Limits
from peftlab.tasks.networks.heads import QUESTION_ANSWERING, Head
from peftlab.tasks.outputs.distributions import Distributions
from peftlab.tasks.outputs.kept_answers import Decisions
from peftlab.tasks.outputs.mixing import Mixture, like
from peftlab.tasks.outputs.spans import OUTSIDE, best_spans
from peftlab.tasks.processor import Processor
from peftlab.tasks.task import IGNORED, Encoded, Random, spec

_OF_ANSWER = ("start", "end", "probability")
"""The fields of an answer besides its text."""

_ACTS_WITH = {"stride": ("data.long", "split"), "null_threshold": ("task.no_answer", True)}

_EXPORTED = (
    "transformers has no pipeline for it any more. The answer is the span of at most {task.max_answer_tokens} tokens "
    "of the text with the largest sum of the start logit of its first and the end logit of its last token, the best "
    "one of all windows that a long text is read through. With `task.no_answer` there is none where the sum of both "
    "logits of the token that stands for no answer, the least of all windows, exceeds that of the span by more than "
    "the `null_threshold`."
)


@spec
class ExtractiveQa(CutTexts):
    """The first and the last token of the answer, each by cross-entropy over the tokens of the text (Devlin et al.
    2019, section 4.2 and 4.3).

    A long text is read through windows that overlap; the windows of a question are the rows of one example. A window
    counts in the loss with weight 1 if it holds the whole answer. With `no_answer`, the classification token is a
    candidate beside the tokens of the text, and the target of every other window; without, these have no weight.
    """

    stride: int = Field(default=128, ge=0)
    """Tokens of the text that neighbouring windows share, at most half a window."""
    max_answer_tokens: int = Field(default=30, ge=1)
    """The most tokens of an answer."""
    n_best: int = Field(default=5, ge=1)
    """Number of answers, the most probable ones, that predictions keep."""
    no_answer: bool = False
    """Whether a text may hold no answer, as in SQuAD 2.0."""
    null_threshold: Literal["auto"] | float = "auto"
    """There is no answer where its score, the least of all windows, exceeds that of the best span by more than this;
    ``auto``: what gives the best score on the validation split, see `decide`, and 0 before that."""
    language: Language = "en"
    """The language of the answers, by which they are scored."""
    head: ClassVar[Head] = QUESTION_ANSWERING
    example: ClassVar[type] = Question
    encoded_by: ClassVar[frozenset[str]] = frozenset({"stride"})
    acts_with: ClassVar[Mapping[str, tuple[str, Any]]] = _ACTS_WITH
    exported: ClassVar[str] = _EXPORTED
    pointers: ClassVar[frozenset[str] | None] = frozenset({"rows", "examples"})
    host_work: ClassVar[str | None] = None

    @property
    def scorer(self) -> SquadScores:
        """Return the scorer of answers."""
        return SquadScores(self.language, self.no_answer)

    def learn_labels(self, splits: Mapping[str, Sequence[Question]], declared: Sequence[str] | None) -> None:
        """Check that questions without an answer are wanted; the task has no labels.

        Raises:
            ConfigError: labels are declared.
            DataError: without `no_answer`, a question has none.
        """
        super().learn_labels(splits, declared)
        if self.no_answer:
            return
        for questions in splits.values():
            for one in questions:
                if one.answers == ():
                    raise DataError(
                        f"{one.place or one.id}: the text has no answer to this question. Set task.no_answer=true to "
                        "learn when there is none, or leave such questions out"
                    )

    def from_input(self, fields: Mapping[str, Any], id: str) -> Question:
        """Return the question of ``question`` and ``context``."""
        question, context = fields.get("question"), fields.get("context")
        if not isinstance(question, str) or not isinstance(context, str):
            raise DataError("expected `question` and `context`, both strings")
        return Question(id, question, context)

    def encode(self, examples: Sequence[Question], processor: Processor, limits: Limits) -> Encoded:
        """Tokenise as `encode_questions` does."""
        return encode_questions(examples, processor.tokenizer, limits.max_tokens, self.stride, limits.long)

    def collate(
        self, examples: Sequence[Question], encoded: Encoded, indices: Sequence[int], random: Random | None = None
    ) -> Batch:
        """Return the windows of all questions.

        Returns:
            inputs of shape (windows, tokens); targets ``bounds`` of shape (windows, 2), the first and the last token
            of the answer, ``candidates`` of shape (windows, tokens), whether a token may be one of them, and ``null``
            of shape (windows,), the token that stands for no answer. In `Batch.host`, ``characters`` has the place in
            the text of each token, window by window.
        """
        rows, starts = encoded.arrays["rows"], encoded.arrays["examples"]
        windows = [row for i in indices for row in range(starts[i], starts[i + 1])]
        fill = {"input_ids": encoded.padding, "attention_mask": 0}
        flat = {"input_ids": encoded.arrays["tokens"]}
        if len(encoded.arrays["types"]):
            fill["token_type_ids"], flat["token_type_ids"] = 0, encoded.arrays["types"]
        width = max(int(rows[row + 1] - rows[row]) for row in windows)
        inputs = {name: np.full((len(windows), width), value, dtype=np.int64) for name, value in fill.items()}
        candidates = np.zeros((len(windows), width), dtype=bool)
        places = [np.asarray(encoded.arrays["characters"][rows[row] : rows[row + 1]]) for row in windows]
        null = encoded.arrays["null"][windows].astype(np.int64)
        for n, row in enumerate(windows):
            length = len(places[n])
            for name, values in flat.items():
                inputs[name][n, :length] = values[rows[row] : rows[row + 1]]
            inputs["attention_mask"][n, :length] = 1
            candidates[n, :length] = places[n][:, 0] != NO_TEXT
        if self.no_answer:
            candidates[np.arange(len(windows)), null] = True
        bounds = np.concatenate([token_bounds(examples[i], encoded, i, self.no_answer) for i in indices])
        owners = np.repeat(np.arange(len(indices)), [starts[i + 1] - starts[i] for i in indices])
        weights = np.bincount(owners, bounds[:, 0] != IGNORED, len(indices))
        return Batch(
            inputs={name: torch.from_numpy(values) for name, values in inputs.items()},
            targets={
                "bounds": torch.from_numpy(bounds),
                "candidates": torch.from_numpy(candidates),
                "null": torch.from_numpy(null),
            },
            weights=torch.from_numpy(weights),
            rows=torch.from_numpy(owners),
            examples=[examples[i] for i in indices],
            tokens=int(inputs["attention_mask"].sum()),
            host={"characters": places},
            padding={**fill, "candidates": 0},
        )

    def weights(self, examples: Sequence[Question], encoded: Encoded, indices: Sequence[int]) -> np.ndarray:
        """Return the number of windows of each question that count in the loss."""
        counted = [(token_bounds(examples[i], encoded, i, self.no_answer)[:, 0] != IGNORED).sum() for i in indices]
        return np.asarray(counted, dtype=float)

    def losses(self, outputs: Any, batch: Batch) -> Tensor:
        """Return the mean of the two cross-entropies of each window, summed over the windows of a question."""
        logits, bounds = _logits(outputs, batch), batch.targets["bounds"]
        of_both = F.cross_entropy(logits.flatten(0, 1), bounds.flatten(), ignore_index=IGNORED, reduction="none")
        return batch.by_example(of_both.view_as(bounds).mean(1))

    def distributions(self, outputs: Any, batch: Batch) -> Distributions:
        """Return the distributions of the first and of the last token over the tokens of each window."""
        bounds = batch.targets["bounds"]
        return Distributions(_logits(outputs, batch), bounds.clamp(min=0), (bounds != IGNORED).float() / 2)

    @override
    def mixed(self, outputs: Sequence[Any], mixture: Mixture, batch: Batch | None = None) -> Any:
        """Return the mixture of the distributions of both ends over all windows of a question, or over each window.

        Raises:
            UserError: a vote on each end would give spans that no model has found.
        """
        if mixture.how == "vote":
            raise UserError(f"task={self.name}: spans are not voted on, since their ends are: average, --how average")
        if batch is None:
            return super().mixed(outputs, mixture)
        logits = [_logits(each, batch) for each in outputs]
        start, end = mixture.mixed(logits[0], [one - _partitions(one, batch) for one in logits]).unbind(1)
        return like(outputs[0], {"start_logits": start, "end_logits": end})

    def answers(self, outputs: Any, batch: Batch, model: Any, final: bool) -> list[dict[str, Any]]:
        """Return the best answer to each question over all its windows.

        Answers are compared by the sum of the logits of their first and last tokens. The probability of one is the
        product of both softmax probabilities over the candidates of all windows. Answers have their ``start`` and
        ``end`` in the text, in characters; with `no_answer`, ``null_margin`` is by how much the score of no answer
        exceeds that of the best span. Final answers have the ``n_best``.
        """
        number = len(batch.host["characters"])  # without the windows that fill up a batch
        logits = _logits(outputs, batch)[:number]
        null = batch.targets["null"][:number, None, None].expand(-1, 2, 1)
        of_text = logits.scatter(2, null, OUTSIDE)
        spans = best_spans(of_text[:, 0], of_text[:, 1], self.max_answer_tokens, self.n_best if final else 1)
        windows = _Windows(
            batch.host["characters"],
            spans.first.tolist(),
            spans.last.tolist(),
            spans.score.tolist(),
            logits.gather(2, null).sum((1, 2)).tolist(),
            logits.logsumexp(2).tolist(),
        )
        rows: list[list[int]] = [[] for _ in batch.examples]
        for row, owner in enumerate(batch.rows[:number].tolist()):
            rows[owner].append(row)
        return [self._answer(one, windows, own, final) for one, own in zip(batch.examples, rows, strict=True)]

    def _answer(self, one: Question, windows: _Windows, rows: Sequence[int], final: bool) -> dict[str, Any]:
        """Return the answer to a question from its windows, which are `rows` of all of a batch."""
        partition = sum(_log_sum([windows.sums[row][end] for row in rows]) for end in (0, 1))
        spans = sorted(windows.spans(one.context, rows).items(), key=lambda item: (-item[1], item[0]))[: self.n_best]
        n_best = [_described(one.context, span, math.exp(score - partition)) for span, score in spans]
        answer: dict[str, Any] = {"id": one.id, "input": [one.question, one.context], "gold": self.gold(one)}
        if self.no_answer:
            null = min(windows.null[row] for row in rows)
            n_best.append(_described(one.context, None, math.exp(null - partition)))
            answer["null_margin"] = null - spans[0][1] if spans else None
        answer["n_best"] = sorted(n_best, key=lambda each: -each["probability"])
        answer = self.decided(answer, self.decisions)
        return answer if final else {key: value for key, value in answer.items() if key != "n_best"}

    @property
    def decides(self) -> bool:
        """Whether the threshold of no answer is learnt."""
        return self.no_answer and self.null_threshold == "auto"

    def decide(self, answers: Iterable[Mapping[str, Any]]) -> Decisions:
        """Return the ``null_threshold`` with the best mean of the score that selects the checkpoint, or of F1."""
        by = 0 if self.selection.metric == "exact_match" else 1
        pairs = list(_margins_and_gains(answers, self.language, by))
        margins, gains = np.asarray(pairs, float).reshape(-1, 2).T
        return {"null_threshold": null_threshold(margins, gains)}

    def decided(self, answer: Mapping[str, Any], decisions: Decisions) -> dict[str, Any]:
        """Return an answer that is the best of its ``n_best``, or that there is none, by the threshold."""
        best = _chosen(answer["n_best"], answer.get("null_margin"), self._threshold(decisions))
        return {**answer, "predicted": best["answer"], **{key: best[key] for key in _OF_ANSWER}}

    def _threshold(self, decisions: Decisions) -> float:
        """Return the threshold of no answer; before it is learnt it is 0."""
        learnt: float = decisions.get("null_threshold", 0.0)
        return learnt if self.null_threshold == "auto" else self.null_threshold

    def is_consistent(self, answer: Mapping[str, Any], decisions: Decisions) -> bool:
        """Return whether the answer is the best of its ``n_best``, or that there is none, by the threshold."""
        return self.decided(answer, decisions) == dict(answer)

    def agree(self, one: Mapping[str, Any], other: Mapping[str, Any], tolerance: float) -> bool:
        """Return whether two answers are equal up to rounding, which may also tip one that is at the threshold."""
        if super().agree(one, other, tolerance):
            return True
        if "" not in (one["predicted"], other["predicted"]):
            return False
        # a probability that is off by the tolerance is that of a logit that is off by four times as much, or more
        margins, threshold = (one.get("null_margin"), other.get("null_margin")), self._threshold(self.decisions)
        return all(each is not None and abs(each - threshold) <= 4 * tolerance for each in margins)

    def kept(self, example: Question, answer: Mapping[str, Any]) -> dict[str, Any]:
        """Return a final answer with the ``group`` of the question, and its id in its file, where it has one."""
        own = {} if example.source_id is None else {"source_id": example.source_id}
        return super().kept(example, answer) | own

    def reply(self, example: Question, answer: Mapping[str, Any]) -> dict[str, Any]:
        """Return the ``answer``, its ``start`` and ``end`` in the text, its ``probability``, and the ``n_best``."""
        return {
            "answer": answer["predicted"],
            **{key: answer[key] for key in ("start", "end", "probability", "n_best")},
        }

    def editable(self, example: Question) -> list[EditableText]:
        """Return the question, and the text with its answers protected."""
        return [EditableText.of_text(example.question), EditableText.of_text(example.context, answer_regions(example))]

    def edited(self, example: Question, texts: Sequence[EditableText]) -> Question:
        """Return the question with other texts; the answers are the same, and stand where they have moved to."""
        return moved(example, texts)

    def text_key(self, example: Question) -> str:
        """Return question and text."""
        return f"{example.question}\x1f{example.context}"

    def gold(self, example: Question) -> list[str] | None:
        """Return the texts of the answers."""
        return None if example.answers is None else [answer.text for answer in example.answers]


def _logits(outputs: Any, batch: Batch) -> Tensor:
    """Return the logits of first and last tokens, shape (windows, 2, tokens), `OUTSIDE` but for the candidates."""
    both = torch.stack([outputs.start_logits, outputs.end_logits], 1).float()
    return both.masked_fill(~batch.targets["candidates"][:, None], OUTSIDE)


def _partitions(logits: Tensor, batch: Batch) -> Tensor:
    """Return the logarithm of the partition function over all windows of an example, at each window.

    Args:
        logits: of first and last tokens, shape (windows, 2, tokens).
        batch: where the windows come from.

    Returns:
        shape (windows, 2, 1).
    """
    of_windows, rows = logits.logsumexp(-1), batch.rows
    most = of_windows.new_full((len(batch.weights), 2), -torch.inf)
    most = most.scatter_reduce(0, rows.unsqueeze(-1).expand_as(of_windows), of_windows, "amax")
    sums = torch.zeros_like(most).index_add(0, rows, (of_windows - most[rows]).exp())
    return (sums.log() + most)[rows].unsqueeze(-1)


class _Windows(NamedTuple):
    """What the model says of the windows of a batch; lists of one entry a window."""

    characters: Sequence[np.ndarray]
    """The start and end in the text of each token."""
    first: Sequence[Sequence[int]]
    """The first token of each of its best spans."""
    last: Sequence[Sequence[int]]
    score: Sequence[Sequence[float]]
    null: Sequence[float]
    """The score of no answer."""
    sums: Sequence[Sequence[float]]
    """The logarithms of the partition functions of first and last tokens."""

    def spans(self, text: str, rows: Sequence[int]) -> dict[tuple[int, int], float]:
        """Return the score of each of the best spans in some windows of a text, by its characters."""
        scores: dict[tuple[int, int], float] = {}
        for row in rows:
            places = self.characters[row]
            for first, last, score in zip(self.first[row], self.last[row], self.score[row], strict=True):
                if score > OUTSIDE / 2:
                    span = _stripped(text, int(places[first][0]), int(places[last][1]))
                    scores[span] = max(score, scores.get(span, score))
        return scores


def _stripped(text: str, start: int, end: int) -> tuple[int, int]:
    """Return a span without the white space at its ends, which some tokenizers count to a token."""
    piece = text[start:end]
    return start + len(piece) - len(piece.lstrip()), start + len(piece.rstrip())


def _margins_and_gains(
    answers: Iterable[Mapping[str, Any]], language: Language, by: int
) -> Iterator[tuple[float, float]]:
    """Yield how far no answer exceeds the best span, and how much better it scores, of each kept answer with gold."""
    for answer in answers:
        spans = [each["answer"] for each in answer["n_best"] if each["start"] is not None]
        if answer["gold"] is not None and spans:
            of_none, of_span = (answer_scores(text, answer["gold"], language)[by] for text in ("", spans[0]))
            yield answer["null_margin"], of_none - of_span


def _chosen(n_best: Sequence[dict[str, Any]], margin: float | None, threshold: float) -> dict[str, Any]:
    """Return the best span of some answers, or that there is none."""
    spans = [each for each in n_best if each["start"] is not None]
    nothing = next((each for each in n_best if each["start"] is None), _described("", None, None))
    return spans[0] if spans and (margin is None or margin <= threshold) else nothing


def _described(text: str, span: tuple[int, int] | None, probability: float | None) -> dict[str, Any]:
    start, end = span or (None, None)
    return {"answer": text[start:end] if span else "", "start": start, "end": end, "probability": probability}


def _log_sum(logarithms: Sequence[float]) -> float:
    most = max(logarithms)
    return most + math.log(sum(math.exp(each - most) for each in logarithms))
