"""Perplexity of reference answers, and the likeness of what a model writes to them: exact match, chrF, BLEU, ROUGE.

chrF and BLEU are counted by sacreBLEU and ROUGE by rouge-score, which the extra ``generation`` brings.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import metadata, util
from itertools import product
from typing import Any, ClassVar, Literal, NamedTuple, Self, get_args

import numpy as np
from typing_extensions import override

from peftlab.errors import ConfigError
from peftlab.scores.masked_scores import rounded
from peftlab.scores.scorer import Direction, Scorer
from peftlab.seams.absl import leave_streams_open
from peftlab.seams.sacrebleu import statistics

Language = Literal["en", "zh", "ja", "other"]
"""The language of the texts, which decides what BLEU and ROUGE take for a word."""

Tokens = Literal["answer tokens", "all tokens"]
"""What a perplexity is of: the answers, or whole conversations."""

_CHARACTER = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Chinese characters and kana."""


class _Words(NamedTuple):
    """What is a word."""

    bleu: str
    """The tokenizer of sacreBLEU."""
    rouge: re.Pattern[str]
    """The tokens of ROUGE in a text in lower case."""
    called: str
    """What those are called in the name of a scorer."""


_CHARACTERS = re.compile(rf"[{_CHARACTER}]|[^\W_{_CHARACTER}]+")
_WORDS: Mapping[Language, _Words] = {
    "en": _Words("13a", re.compile("[a-z0-9]+"), "[a-z0-9]+"),
    "zh": _Words("zh", _CHARACTERS, "characters"),
    "ja": _Words("char", _CHARACTERS, "characters"),
    "other": _Words("13a", re.compile(r"[^\W_]+"), "Unicode words"),
}

_ROUGE = ("rouge1", "rouge2", "rougeL")
_STEPS = 2**30
"""ROUGE is kept in steps of one over this, so that sums are exact in whatever order they are added."""
_LARGEST = 80.0
"""The largest mean whose exponential fp32 holds."""
_BLEU_ORDERS, _CHRF_ORDERS = 4, 6

_ALL = slice(0, 3)
"""Of all answers: their number, the tokens of the gold, and the sum of their negative log probabilities."""
_TEXTS = slice(3, 10)
"""Of answers with a text: their number, exact matches, those that the model ended, their tokens, and sums of ROUGE."""
_LENGTHS, _MATCHED, _WRITTEN = slice(10, 12), slice(12, 16), slice(16, 20)
"""BLEU's words of texts and gold, its n-grams in both by order, and those of texts."""
_CHRF = slice(20, 20 + 3 * _CHRF_ORDERS)
"""By order, chrF's n-grams of texts, of gold, and in both."""


class AnswerPerplexity(Scorer):
    """The perplexity of the gold answers, the exponential of the mean negative log probability of their tokens.

    The mean is over the tokens of all answers. Perplexities of models with different vocabularies do not compare, nor
    do those of answers and of whole conversations.

    Args:
        of: the tokens.
    """

    directions: ClassVar[Mapping[str, Direction]] = {"perplexity": "min"}
    dtype: ClassVar[type[np.number[Any]]] = np.float64

    def __init__(self, of: Tokens = "answer tokens") -> None:
        self.of = of

    @override
    @classmethod
    def named(cls, name: str, labels: Sequence[str]) -> Self | None:
        return next((cls(of) for of in get_args(Tokens) if name == of), None)

    @property
    def name(self) -> str:
        """Return what the perplexity is of."""
        return self.of

    @property
    def width(self) -> int:
        """Return 3: answers, their gold tokens, and the sum of the negative log probabilities."""
        return _ALL.stop

    @override
    def counts(self, answer: Mapping[str, Any]) -> dict[int, float]:
        """Return the counts of an answer by its number of gold ``tokens`` and their ``log_probability``.

        A logarithm that is NaN, as those of a model that diverged are, makes the sum and the perplexity NaN.

        Raises:
            ValueError: there is no gold, or no logarithm of a probability.
        """
        tokens, log = answer["tokens"], answer["log_probability"]
        if answer["gold"] is None:
            raise ValueError("the answer has no gold")
        if not isinstance(log, float) or log > 0 or isinstance(tokens, bool) or not isinstance(tokens, int):
            raise ValueError(f"log_probability={log!r} of tokens={tokens!r} is no logarithm of a probability")
        return {0: 1.0, 1: float(tokens), 2: -rounded(log)}

    @override
    def scores(self, total: np.ndarray) -> dict[str, float]:
        """Return the scores with the digits that fp32 holds; without a token, the perplexity is NaN."""
        return {name: float(np.float32(value[0])) for name, value in self.batched(total[None]).items()}

    @override
    def batched(self, totals: np.ndarray) -> dict[str, np.ndarray]:
        _, tokens, negative = totals.astype(np.float64)[:, _ALL].T
        mean = np.divide(negative, tokens, out=np.full_like(negative, np.nan), where=tokens > 0)
        return {"perplexity": np.exp(np.minimum(mean, _LARGEST))}

    @override
    def report(self, total: np.ndarray) -> str:
        lines = [f"{name:11}  {value:.4f}" for name, value in self.details(total).items()]
        return "\n".join([*lines, f"over {int(total[0]):,} answers, {int(total[1]):,} tokens of gold"])


class WrittenTexts(AnswerPerplexity):
    """The perplexity of gold answers, and how like them the texts are that the model writes.

    ``exact_match`` is the share of texts that equal the gold up to white space; ``chrf`` (Popović 2015) and ``bleu``
    (Papineni et al. 2002) are of the corpus, from 0 to 100, equal to sacreBLEU's; ``rouge1``, ``rouge2`` and ``rougeL``
    (Lin 2004) are means of F1 over the texts, without stemming. Answers without a text, as validations during training
    have them, give a perplexity alone.

    Args:
        language: that of the texts.
        of: the tokens of the perplexity.
        versions: of sacreBLEU and of rouge-score; None: those installed.
    """

    directions: ClassVar[Mapping[str, Direction]] = {
        "perplexity": "min",
        **dict.fromkeys(("exact_match", "chrf", "bleu", *_ROUGE), "max"),
    }

    def __init__(
        self,
        language: Language = "en",
        of: Tokens = "answer tokens",
        versions: tuple[str, str] | None = None,
    ) -> None:
        super().__init__(of)
        self.language, self._versions = language, versions

    @override
    @classmethod
    def named(cls, name: str, labels: Sequence[str]) -> Self | None:
        if (found := re.search(r"version:(\S+); .*rouge-score (\S+),", name)) is None:
            return None
        kinds = product(get_args(Language), get_args(Tokens))
        scorers = (cls(language, of, (found[1], found[2])) for language, of in kinds)
        return next((scorer for scorer in scorers if scorer.name == name), None)

    @property
    def name(self) -> str:
        """Return how the scores are computed, with sacreBLEU's signatures.

        Raises:
            ConfigError: the extra ``generation`` is missing.
        """
        sacrebleu, rouge = self._versions or _installed()
        words = _WORDS[self.language]
        return (
            f"written texts, language={self.language}: "
            f"{'' if self.of == 'answer tokens' else f'perplexity of {self.of}; '}exact match up to white space; "
            f"chrF nrefs:1|case:mixed|eff:yes|nc:{_CHRF_ORDERS}|nw:0|space:no|version:{sacrebleu}; "
            f"BLEU nrefs:1|case:mixed|eff:no|tok:{words.bleu}|smooth:exp|version:{sacrebleu}; "
            f"ROUGE F1, rouge-score {rouge}, tokens {words.called}"
        )

    @property
    def width(self) -> int:
        """Return the number of counts: those of the perplexity, of texts, of BLEU and of chrF."""
        return _CHRF.stop

    @override
    def counts(self, answer: Mapping[str, Any]) -> dict[int, float]:
        """Return the counts of an answer, and those of the text that is ``predicted``, if any.

        Raises:
            ValueError: the answer lacks gold, or what belongs to a text.
            ConfigError: the extra ``generation`` is missing.
        """
        counts, text = super().counts(answer), answer["predicted"]
        if text is None:
            return counts
        written, stopped, gold = answer["written_tokens"], answer["stopped"], answer["gold"]
        if not isinstance(text, str) or isinstance(written, bool) or not isinstance(written, int):
            raise ValueError(f"{text!r} of written_tokens={written!r} is no text")
        exact = float(text.split() == gold.split())
        of_text = [1.0, exact, float(stopped), float(written), *self._rouge(text, gold)]
        bleu, chrf = _metrics(_WORDS[self.language].bleu)
        numbers = [*of_text, *statistics(bleu, text, gold), *statistics(chrf, text, gold)]
        return counts | {_TEXTS.start + n: float(number) for n, number in enumerate(numbers) if number}

    def _rouge(self, text: str, gold: str) -> list[float]:
        scores = _rouge_scorer(self.language).score(gold, text)
        return [round(scores[name].fmeasure * _STEPS) / _STEPS for name in _ROUGE]

    @override
    def scores(self, total: np.ndarray) -> dict[str, float]:
        """Return the scores; of answers none of which has a text, the perplexity alone."""
        scores = super().scores(total)
        return scores if total[_TEXTS.start] or not total[0] else {"perplexity": scores["perplexity"]}

    @override
    def batched(self, totals: np.ndarray) -> dict[str, np.ndarray]:
        totals = totals.astype(np.float64)
        texts, exact, _, _, *rouge = totals[:, _TEXTS].T
        number = np.maximum(texts, 1)
        scores = {"exact_match": exact / number, "chrf": _chrf(totals[:, _CHRF]), "bleu": _bleu(totals)}
        return super().batched(totals) | scores | {n: one / number for n, one in zip(_ROUGE, rouge, strict=True)}

    @override
    def details(self, total: np.ndarray) -> dict[str, float]:
        """Return the scores, the share of texts that the model ended, and the mean length of texts in tokens."""
        scores = self.scores(total)
        if len(scores) < len(self.directions):
            return scores
        texts, _, stopped, tokens, *_ = total[_TEXTS]
        means = {"stop_rate": stopped / max(texts, 1), "mean_length": tokens / max(texts, 1)}
        return scores | {name: float(np.float32(value)) for name, value in means.items()}


def consensus(texts: Sequence[str], weights: Sequence[float]) -> int:
    """Return the place of the text that is most like all of `texts`: it has the highest weighted mean of chrF.

    Each text stands for a model. This is the least expected loss under their mixture (Kumar & Byrne 2004, "Minimum
    Bayes-Risk Decoding"); of several such texts it is the first.

    Raises:
        ConfigError: the extra ``generation`` is missing, and the texts differ.
    """
    if len(set(texts)) == 1:
        return 0
    _, chrf = _metrics(_WORDS["en"].bleu)
    likeness = {(text, other): _chrf(np.array([statistics(chrf, text, other)])) for text in texts for other in texts}
    means = np.array([[float(likeness[text, other][0]) for other in texts] for text in texts]) @ np.array(weights)
    return int(means.argmax())


def _bleu(totals: np.ndarray) -> np.ndarray:
    """Return BLEU of sums of counts: orders without a match are smoothed as mteval-v13a.pl does (``exp``)."""
    matched, written = totals[:, _MATCHED], totals[:, _WRITTEN]
    own, gold = totals[:, _LENGTHS].T
    brevity = np.where(own < gold, np.exp(1 - gold / np.maximum(own, 1)), 1.0)
    smoothing = 2.0 ** np.cumsum(matched == 0, axis=1)
    precisions = np.where(matched > 0, matched, 1 / smoothing) / np.maximum(written, 1)
    defined = matched.any(axis=1) & written.all(axis=1)
    mean = np.log(100 * precisions).sum(axis=1) / _BLEU_ORDERS
    return np.where(defined, brevity * np.exp(mean), 0.0)


def _chrf(counts: np.ndarray) -> np.ndarray:
    """Return chrF2 of sums of counts: the F score, beta 2, of means over the orders that both sides have."""
    written, gold, matched = np.moveaxis(counts.reshape(-1, _CHRF_ORDERS, 3), -1, 0)
    both = (written > 0) & (gold > 0)
    orders = np.maximum(both.sum(axis=1), 1)
    precision, recall = (
        np.where(both, matched / np.maximum(side, 1), 0).sum(axis=1) / orders for side in (written, gold)
    )
    return 100 * 5 * precision * recall / np.where(precision + recall > 0, 4 * precision + recall, 1)


def check_extra() -> None:
    """Check that the extra ``generation`` is installed.

    Raises:
        ConfigError: it is not; says how to install it.
    """
    if missing := [name for name in ("sacrebleu", "rouge_score") if util.find_spec(name) is None]:
        raise ConfigError(
            f"scores of written texts need {' and '.join(missing)}: pip install 'peftlab[generation]', or write no "
            "texts, task.generate.at=never"
        )


@cache
def _installed() -> tuple[str, str]:
    check_extra()
    return metadata.version("sacrebleu"), metadata.version("rouge-score")


@cache
def _metrics(words: str) -> tuple[Any, Any]:
    """Return sacreBLEU's metrics, BLEU with these words and chrF."""
    check_extra()
    from sacrebleu.metrics import BLEU, CHRF

    return BLEU(tokenize=words, force=True), CHRF()


@cache
def _rouge_scorer(language: Language) -> Any:
    check_extra()
    from rouge_score.rouge_scorer import RougeScorer

    leave_streams_open()

    class Tokens:
        def tokenize(self, text: str) -> list[str]:
            return _WORDS[language].rouge.findall(text.lower())

    return RougeScorer(list(_ROUGE), tokenizer=Tokens())
