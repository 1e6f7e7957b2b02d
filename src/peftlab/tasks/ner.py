"""Named-entity recognition: a BIO tag for every word, predicted at its first subword token."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from peftlab.scores.bio import Entity, Repair, bio_labels, entities
from peftlab.scores.entity_scores import EntityScores
from peftlab.tasks.batch import Batch
from peftlab.tasks.inputs.editable import EditableText, Span
from peftlab.tasks.inputs.entity_types import learn_types
from peftlab.tasks.inputs.words import NO_WORD, Sentence, encode_words
from peftlab.tasks.inputs.words_in_rows import batch_of_words
from peftlab.tasks.labelled import LabelledTask
from peftlab.tasks.limits import Limits
from peftlab.tasks.networks.heads import TOKEN_CLASSIFICATION, Head
from peftlab.tasks.outputs.distributions import Distributions
from peftlab.tasks.processor import Processor
from peftlab.tasks.sentence_task import SentenceTask
from peftlab.tasks.task import IGNORED, Encoded, Random, spec


@spec
class Ner(LabelledTask, SentenceTask):
    """Word-level tagging with the label on the first subword (Devlin et al. 2019), scored on whole entities."""

    repair: Repair = "conlleval"
    """How a predicted tag sequence that violates BIO is read."""
    types: list[str] = field(default_factory=list, init=False)
    """The entity types, in the order of `labels`."""
    head: ClassVar[Head] = TOKEN_CLASSIFICATION
    example: ClassVar[type] = Sentence
    pointers: ClassVar[frozenset[str] | None] = frozenset({"rows", "examples"})
    host_work: ClassVar[str | None] = None

    def learn_labels(self, splits: Mapping[str, Sequence[Sentence]], declared: Sequence[str] | None) -> None:
        """Set `labels` as `Task.learn_labels` does; `declared` names entity types."""
        self.types = learn_types(splits, declared)
        self.labels = bio_labels(self.types)

    @property
    def declared_labels(self) -> list[str]:
        """Return the entity types."""
        return list(self.types)

    @property
    def label_names(self) -> dict[str, list[str]]:
        """The labels behind each name a user may write: a tag, or an entity type for its two tags."""
        of_type = {type_: [f"B-{type_}", f"I-{type_}"] for type_ in self.types}
        return of_type | {label: [label] for label in self.labels}

    def label_counts(self, examples: Sequence[Sentence], encoded: Encoded) -> Counter[str]:
        """Return the number of words with each tag, among those that have a token."""
        word, rows, starts = (encoded.arrays[name] for name in ("word", "rows", "examples"))
        counts: Counter[str] = Counter()
        for sentence, start, end in zip(examples, starts[:-1], starts[1:], strict=True):
            positions = word[rows[start] : rows[end]]
            counts.update(sentence.tags[position] for position in positions[positions != NO_WORD].tolist())
        return counts

    def encode(self, examples: Sequence[Sentence], processor: Processor, limits: Limits) -> Encoded:
        """Tokenise as `encode_words` does."""
        return encode_words(examples, processor.tokenizer, *limits)

    def collate(
        self, examples: Sequence[Sentence], encoded: Encoded, indices: Sequence[int], random: Random | None = None
    ) -> Batch:
        """Return inputs and ``labels`` of shape (rows, tokens), and the words that have a token, in order.

        ``words[i]`` of `Batch.host` lists the positions of the words of the i-th sentence that have a token; their
        first tokens, sentence by sentence, are at ``labels != IGNORED``.
        """
        batch = batch_of_words(examples, encoded, indices, self.labels)
        weights = list(map(self._weight, batch.examples, batch.host["words"]))
        return replace(batch, weights=torch.tensor(weights, dtype=torch.float64))

    def weights(self, examples: Sequence[Sentence], encoded: Encoded, indices: Sequence[int]) -> np.ndarray:
        """Return the number of labelled tokens of each sentence, or the sum of their weights."""
        word, rows, starts = (encoded.arrays[name] for name in ("word", "rows", "examples"))
        positions = [word[rows[starts[i]] : rows[starts[i + 1]]] for i in indices]
        words = [of_sentence[of_sentence != NO_WORD].tolist() for of_sentence in positions]
        return np.asarray([self._weight(examples[i], own) for i, own in zip(indices, words, strict=True)], dtype=float)

    def _weight(self, sentence: Sentence, words: Sequence[int]) -> float:
        """Return the weight of a sentence in which the words at positions `words` have a token."""
        return len(words) if self.class_weights is None else sum(self.weight_of(sentence.tags[word]) for word in words)

    def losses(self, outputs: Any, batch: Batch) -> Tensor:
        """Return the weighted cross-entropy of each sentence, summed over its labelled tokens."""
        return batch.by_example(self._cross_entropy(outputs, batch, "none").view_as(batch.targets["labels"]).sum(-1))

    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        """Return the weighted mean cross-entropy over labelled tokens, 0 without any.

        It is the mean of `losses`, in one kernel.
        """
        if not any(batch.host["words"]):  # only emptied words: the mean over no token would be NaN
            return outputs.logits.sum() * 0.0
        return self._cross_entropy(outputs, batch, "mean")

    def distributions(self, outputs: Any, batch: Batch) -> Distributions:
        """Return the distribution over the labels for each labelled token."""
        labels = batch.targets["labels"]
        labelled = (labels != IGNORED).float()
        weights, gold = self.label_weights(labels), labels.clamp(min=0)
        return Distributions(outputs.logits.float(), gold, labelled if weights is None else labelled * weights[gold])

    def _cross_entropy(self, outputs: Any, batch: Batch, reduction: str) -> Tensor:
        """Return the cross-entropy of the logits, (rows, tokens, labels), flat in their order if not reduced."""
        return F.cross_entropy(
            outputs.logits.flatten(0, 1).float(),
            batch.targets["labels"].flatten(),
            weight=self.label_weights(outputs.logits),
            ignore_index=IGNORED,
            reduction=reduction,
            label_smoothing=self.label_smoothing,
        )

    def answers(self, outputs: Any, batch: Batch, model: Any, final: bool) -> list[dict[str, Any]]:
        """Return the tags of each sentence; a word without a token is predicted O with probability None.

        An entity's probability is the product of its words' probabilities, as if they were independent. Final answers
        have the ``probabilities`` of all tags for each word, None for a word without a token.
        """
        probabilities = outputs.logits[batch.targets["labels"] != IGNORED].float().softmax(-1)
        best, tags = probabilities.max(-1)
        of_all_tags = probabilities.tolist() if final else [None] * len(tags)
        read = iter(zip(tags.tolist(), best.tolist(), of_all_tags, strict=True))
        answers = []
        for sentence, words in zip(batch.examples, batch.host["words"], strict=True):
            predicted = ["O"] * len(sentence.words)
            probability: list[float | None] = [None] * len(sentence.words)
            of_all: list[list[float] | None] = [None] * len(sentence.words)
            for word in words:
                label, probability[word], of_all[word] = next(read)
                predicted[word] = self.labels[label]
            answer = {
                "id": sentence.id,
                "input": sentence.words,
                "gold": sentence.tags,
                "predicted": predicted,
                "probability": probability,
                "gold_entities": [_entity(e, sentence) for e in entities(sentence.tags, self.repair)],
                "predicted_entities": [_entity(e, sentence, probability) for e in entities(predicted, self.repair)],
            }
            answers.append(answer | {"probabilities": of_all} if final else answer)
        return answers

    def reply(self, example: Sentence, answer: Mapping[str, Any]) -> dict[str, Any]:
        """Return the ``entities``; a word without a token does not end one.

        ``start`` and ``end`` count characters, and ``text`` is that slice, if the input was a text; else they count
        words.
        """
        predicted, probability = list(answer["predicted"]), answer["probability"]
        _bridge(predicted, probability)
        spans = entities(predicted, self.repair)
        return {"entities": [_entity(e, example, probability) | _slice(e, example) for e in spans]}

    @property
    def scorer(self) -> EntityScores:
        """Return the scorer of entities."""
        return EntityScores(self.types, self.repair)

    def editable(self, example: Sentence) -> list[EditableText]:
        """Return the words, with the entities as mentions of their types."""
        spans = [Span(start, end, label) for label, start, end in entities(example.tags)]
        return [EditableText.of_words(example.words, spans)]

    def edited(self, example: Sentence, texts: Sequence[EditableText]) -> Sentence:
        """Return a sentence of the words, tagged by the mentions."""
        (text,) = texts
        tags = ["O"] * len(text.words)
        for start, end, label in text.spans:
            tags[start:end] = [f"B-{label}", *[f"I-{label}"] * (end - start - 1)]
        return Sentence(example.id, list(text.words), tags, example.file, group=example.group)

    def without_gold(self, example: Sentence) -> Sentence:
        """Return the words, none of which is part of an entity."""
        return replace(example, tags=["O"] * len(example.words))

    def text_key(self, example: Sentence) -> str:
        """Return the words of the sentence."""
        return "\x1f".join(example.words)

    def gold(self, example: Sentence) -> list[str]:
        """Return the tags."""
        return example.tags

    def classes(self, example: Sentence) -> Counter[str]:
        """Return the number of entities of each type."""
        return Counter(entity.type for entity in entities(example.tags, self.repair))


def _bridge(predicted: list[str], probability: Sequence[float | None]) -> None:
    """Tag words without a token, which have no probability, as part of the entity around them."""
    tagged = [word for word, p in enumerate(probability) if p is not None]
    for before, after in pairwise(tagged):
        if predicted[after][:2] == "I-" and predicted[before][2:] == predicted[after][2:]:
            predicted[before + 1 : after] = [predicted[after]] * (after - before - 1)


def _entity(entity: Entity, sentence: Sentence, probability: Sequence[float | None] = ()) -> dict[str, Any]:
    described: dict[str, Any] = {
        "type": entity.type,
        "start": entity.start,
        "end": entity.end,
        "text": " ".join(sentence.words[entity.start : entity.end]),
    }
    if probability:
        product = 1.0
        for p in probability[entity.start : entity.end]:
            product *= 1.0 if p is None else p
        described["probability"] = product
    return described


def _slice(entity: Entity, sentence: Sentence) -> dict[str, Any]:
    """Return the slice of `entity` in the text of `sentence`; empty if the input was words."""
    if sentence.text is None:
        return {}
    start, end = sentence.spans[entity.start][0], sentence.spans[entity.end - 1][1]
    return {"start": start, "end": end, "text": sentence.text[start:end]}
