"""Base of tasks whose answers are texts that a language model writes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Generator, Mapping, Sequence
from dataclasses import field
from typing import Any, ClassVar

from torch import Tensor
from typing_extensions import override

from peftlab.errors import ConfigError
from peftlab.generation.options import Generation
from peftlab.generation.writing import UNSEEN, Asked, Heard, Written, stream, write
from peftlab.scores.masked_scores import rounded
from peftlab.scores.written_texts import AnswerPerplexity, Language, Tokens, WrittenTexts, check_extra, consensus
from peftlab.tasks.batch import LEARNT, Batch
from peftlab.tasks.inputs.cut_texts import CutTexts
from peftlab.tasks.losses.token_losses import token_losses
from peftlab.tasks.outputs.distributions import Distributions
from peftlab.tasks.outputs.kept_answers import Decisions
from peftlab.tasks.outputs.mixing import Members
from peftlab.tasks.processor import Processor
from peftlab.tasks.task import IGNORED, spec
from peftlab.tasks.writer import Writer

ROUGHLY = 1e-2
"""A tolerance of probabilities from which on rounding decides on tokens, as in 16 bits."""


@spec
class WritingTask(Writer, CutTexts):
    """Scores the probability of gold answers, and the texts that the model writes in their place.

    Texts are written in evaluations that are kept, and in validations during training if the options say so.
    """

    generate: Generation = field(default_factory=Generation)
    """How texts are written, and when."""
    generates: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check that every validation has the score that selects.

        Raises:
            ConfigError: it does not; says what to set.
        """
        metric = self.selection.metric
        if metric in self.scorer_of_texts.directions and metric not in self.watched:
            raise ConfigError(
                f"task.selection.metric = '{metric}' is a score of written texts, and task.generate.at="
                f"{self.generate.at}: no validation during training writes any. Set task.generate.at=always, or select "
                f"by {' or '.join(self.watched)}"
            )
        super().__post_init__()

    @property
    def scorer(self) -> AnswerPerplexity:
        """Return the perplexity of the gold, with the scores of texts unless none is written."""
        never = self.generate.at == "never"
        return AnswerPerplexity(self.scored) if never else self.scorer_of_texts

    @property
    @abstractmethod
    def scorer_of_texts(self) -> AnswerPerplexity:
        """Return the perplexity of the gold with the scores of texts."""

    @property
    def scored(self) -> Tokens:
        """Return which tokens the perplexity is of."""
        return "answer tokens"

    @property
    def watched(self) -> list[str]:
        """Return the scores of every validation during training: those of texts only if it writes some."""
        return list(self.directions) if self.generate.at == "always" else [*AnswerPerplexity.directions, "loss"]

    def losses(self, outputs: Any, batch: Batch) -> Tensor:
        """Return the cross-entropy of each gold answer, summed over its learnt tokens."""
        return batch.by_token(token_losses(outputs.logits, batch.targets["labels"], batch.host.get(LEARNT)))

    @override
    def distributions(self, outputs: Any, batch: Batch) -> Distributions:
        """Return the distribution over the vocabulary at each token before a learnt one."""
        labels = batch.targets["labels"]
        return Distributions(outputs.logits.float(), labels.clamp(min=0), (labels != IGNORED).float())

    def bind(self, processor: Processor) -> None:
        """Keep the tokenizer."""
        self._tokenizer = processor.tokenizer

    @abstractmethod
    def prompts(self, batch: Batch) -> Sequence[list[int] | None]:
        """Return the tokens that each answer is written after: a decoder's prompt, or an encoder-decoder's source.

        None: nothing is asked, and nothing is written.
        """

    def asked(self, batch: Batch) -> Asked:
        """Return all that the model writes after: the prompts that ask for something."""
        return [prompt for prompt in self.prompts(batch) if prompt is not None]

    def log_probabilities(self, outputs: Any, batch: Batch) -> tuple[Tensor, Sequence[int]]:
        """Return the log probability of each gold answer, summed over its tokens, shape (examples,), and their
        numbers."""
        return -self.losses(outputs, batch), batch.weights.long().tolist()

    @abstractmethod
    def shown(self, example: Any) -> Any:
        """Return the ``input`` of an answer, a JSON value; None where nothing is asked."""

    @override
    def answers(self, outputs: Any, batch: Batch, model: Any, final: bool) -> list[dict[str, Any]]:
        """Return the log probability of the gold's ``tokens``, and the text that the model writes, else None.

        ``written_tokens`` is the length of the text, ``stopped`` whether the model ended it. ``unseen_prompt_tokens``
        counts those that it has no positions for, if any.
        """
        sums, numbers = self.log_probabilities(outputs, batch)
        writes = {"always": True, "final": final, "never": False}[self.generate.at]
        written = self._written(batch, model) if writes else [None] * len(batch.examples)
        logs = zip(sums.tolist(), numbers, strict=True)
        return [
            self._answer(example, text, log, number)
            for example, text, (log, number) in zip(batch.examples, written, logs, strict=False)
        ]

    @override
    def answers_without_gold(self, batch: Batch, model: Any) -> list[dict[str, Any]]:
        """Return the texts that the model writes."""
        return [self._answer(*both) for both in zip(batch.examples, self._written(batch, model), strict=True)]

    @override
    def stream(self, batch: Batch, model: Any) -> Generator[str, None, bool]:
        if isinstance(model, Members):
            raise ConfigError("an ensemble chooses among whole texts, so that none can be streamed: leave --stream out")
        asked, (example,) = self.asked(batch), batch.examples
        only = asked if isinstance(asked, Heard) else asked[0]
        return (yield from stream(model, only, self.generate, self._tokenizer, example.id, self.stops))

    def _written(self, batch: Batch, model: Any) -> list[Written | None]:
        """Return the text for each example; of an ensemble, the one of a member that is most like those of all."""
        if isinstance(model, Members):
            of_each = zip(*(self._written(batch, member) for member in model.members), strict=True)
            return [_chosen(texts, model.mixture.weights) for texts in of_each]
        prompts = self.prompts(batch)
        keys = [one.id for prompt, one in zip(prompts, batch.examples, strict=True) if prompt is not None]
        if not keys:
            return [None] * len(prompts)
        texts = iter(write(model, self.asked(batch), self.generate, self._tokenizer, keys, self.stops))
        return [None if prompt is None else next(texts) for prompt in prompts]

    def _answer(self, example: Any, written: Written | None, log: float = 0.0, tokens: int = 0) -> dict[str, Any]:
        gold = self.gold(example)
        answer = {
            "id": example.id,
            "input": self.shown(example),
            "gold": gold,
            "predicted": None if written is None else written.text,
            "probability": None,
            "log_probability": None if gold is None else min(rounded(log), 0.0),
            "tokens": tokens,
            "written_tokens": None if written is None else len(written.tokens),
            "stopped": None if written is None else written.stopped,
        }
        return answer | ({} if written is None else written.unseen)

    @override
    def reply(self, example: Any, answer: Mapping[str, Any]) -> dict[str, Any]:
        """Return the ``written`` text, and whether the model ``stopped`` by itself."""
        unseen = {key: answer[key] for key in (UNSEEN,) if key in answer}
        return {"written": answer["predicted"], "stopped": answer["stopped"]} | unseen

    @override
    def is_consistent(self, answer: Mapping[str, Any], decisions: Decisions) -> bool:
        """Return whether a text is as long as one that was stopped, or was not, can be."""
        if answer["predicted"] is None:
            return self.generate.at == "never" or answer["input"] is None
        length, most = answer["written_tokens"], self.generate.max_new_tokens
        return bool(length < most if answer["stopped"] else length == most)

    @override
    def agree(self, one: Mapping[str, Any], other: Mapping[str, Any], tolerance: float) -> bool:
        """Return whether the probabilities of the gold are near, by the mean over its tokens, and the texts equal."""
        apart = abs(one["log_probability"] - other["log_probability"]) > tolerance * max(one["tokens"], 1)
        texts = {answer["predicted"] for answer in (one, other)} - {None}
        return one["tokens"] == other["tokens"] and not apart and (len(texts) < 2 or tolerance >= ROUGHLY)


@spec
class LanguageTask(WritingTask):
    """Writes texts whose likeness to the gold is that of the words of a language."""

    language: Language = "en"
    """The language of the answers, which decides what BLEU and ROUGE take for a word."""

    def __post_init__(self) -> None:
        """Check that texts can be scored.

        Raises:
            ConfigError: they cannot; or as the base raises it.
        """
        if self.generate.at != "never":
            check_extra()
        super().__post_init__()

    @property
    def scorer_of_texts(self) -> AnswerPerplexity:
        """Return the scorer of words and characters."""
        return WrittenTexts(self.language, self.scored)


def _chosen(texts: Sequence[Written | None], weights: Sequence[float]) -> Written | None:
    written = [text for text in texts if text is not None]
    return written[consensus([text.text for text in written], weights)] if written else None
