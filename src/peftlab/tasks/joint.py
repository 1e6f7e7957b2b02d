"""Intents and slots together: what an utterance is meant for, and which of its words fill in the details."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import override

from peftlab.errors import ConfigError, DataError
from peftlab.scores.bio import Repair, bio_labels, entities
from peftlab.scores.joint_scores import INTENT, JointScores
from peftlab.seams.transformers import kind_of
from peftlab.tasks.batch import Batch
from peftlab.tasks.inputs.editable import EditableText, Span
from peftlab.tasks.inputs.entity_types import learn_types
from peftlab.tasks.inputs.labels import check_declared, check_found, is_name, nearest, shown, where
from peftlab.tasks.inputs.texts import special_tokens
from peftlab.tasks.inputs.utterances import Utterance
from peftlab.tasks.inputs.words import encode_words
from peftlab.tasks.inputs.words_in_rows import batch_of_words
from peftlab.tasks.limits import Limits
from peftlab.tasks.networks.heads import TOKEN_CLASSIFICATION, Head
from peftlab.tasks.outputs.distributions import Distributions
from peftlab.tasks.outputs.mixing import Mixture, like
from peftlab.tasks.processor import Processor
from peftlab.tasks.sentence_task import SentenceTask
from peftlab.tasks.task import IGNORED, Encoded, Random, spec

SLOT = "slot/"
"""Begins the name of a slot among declared labels; that of an intent begins with `INTENT`."""

_OUTSIDE = -1e9
"""The logit of a label of the other kind: its probability is exactly 0, and differences of logarithms are numbers."""


@spec
class Joint(SentenceTask):
    """An intent for each utterance, and a BIO tag for each word (Chen, Zhuo and Wang 2019, section 3.2).

    Both heads are rows of one layer over the encoder's last hidden states: the rows of the intents are read at the
    first token, those of the tags at the first token of each word. That is a layer for each, side by side, so that
    every method and every architecture with a head for tokens has both. Deviating from the paper, no pooler lies
    between the first token and the intents.

    The loss of an utterance is the cross-entropy of its intent, plus `slot_weight` times the mean of those of its
    words.
    """

    slot_weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """The weight of the slots beside the intent."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of the target's probability that is spread over all intents, or all tags (Szegedy et al. 2016)."""
    repair: Repair = "conlleval"
    """How a predicted tag sequence that violates BIO is read."""
    types: list[str] = field(default_factory=list, init=False)
    """The slots, in order."""
    intents: list[str] = field(default_factory=list, init=False)
    """The intents, in order; `labels` has the tags of the slots, and then these."""
    head: ClassVar[Head] = TOKEN_CLASSIFICATION
    example: ClassVar[type] = Utterance
    pointers: ClassVar[frozenset[str] | None] = frozenset({"rows", "examples"})
    host_work: ClassVar[str | None] = None
    exported: ClassVar[str] = (
        f"At the first token of a text, its intent is the label with the highest logit among those that begin with "
        f"`{INTENT}`; at the first token of each word, its tag is the one among the others. A pipeline of transformers "
        "does not keep them apart."
    )

    @property
    def scorer(self) -> JointScores:
        """Return the scorer of intents and slots."""
        return JointScores(self.types, self.intents, self.repair)

    @property
    def _tags(self) -> int:
        """The number of tags, which are the first labels."""
        return 2 * len(self.types) + 1

    def learn_labels(self, splits: Mapping[str, Sequence[Utterance]], declared: Sequence[str] | None) -> None:
        """Set `labels` as `Task.learn_labels` does; `declared` names intents, ``intent/NAME``, and ``slot/NAME``s."""
        names = list(declared or [])
        if odd := [name for name in names if not name.startswith((INTENT, SLOT))]:
            raise ConfigError(
                f"data.labels: '{odd[0]}' is neither an intent nor a slot. Write {INTENT}{odd[0]} or {SLOT}{odd[0]}"
            )
        slots, intents = ([name[len(kind) :] for name in names if name.startswith(kind)] for kind in (SLOT, INTENT))
        if declared and not (slots and intents):
            raise ConfigError(f"data.labels: declare intents and slots, {INTENT}NAME and {SLOT}NAME, or neither")
        self.types = learn_types(splits, slots)
        self.intents = _learn_intents(splits, intents)
        self.labels = [*bio_labels(self.types), *(f"{INTENT}{intent}" for intent in self.intents)]

    @property
    def declared_labels(self) -> list[str]:
        """Return the intents and the slots, each with its kind."""
        return [*(f"{INTENT}{intent}" for intent in self.intents), *(f"{SLOT}{slot}" for slot in self.types)]

    def classes(self, example: Utterance) -> dict[str, int]:
        """Return the intent."""
        return {} if example.intent is None else {example.intent: 1}

    def encode(self, examples: Sequence[Utterance], processor: Processor, limits: Limits) -> Encoded:
        """Tokenise as `encode_words` does.

        Raises:
            ConfigError: the model's texts begin with no special token, where the intent is read.
        """
        before, _ = special_tokens(processor.tokenizer)
        if not before:
            raise ConfigError(
                f"task={self.name}: the model's texts begin with no special token, such as [CLS], where the intent is "
                "read. Choose another model=..., such as BERT or RoBERTa"
            )
        return encode_words(examples, processor.tokenizer, *limits)

    @override
    def check_model(self, model: Any) -> None:
        if kind_of(model.config) == "decoder":
            raise ConfigError(
                f"task={self.name}: the intent is read at the first token of a text, and that of a "
                f"{model.config.model_type} is a decoder's, which sees none of the rest. Choose another model=..., "
                "such as BERT or RoBERTa"
            )

    def collate(
        self, examples: Sequence[Utterance], encoded: Encoded, indices: Sequence[int], random: Random | None = None
    ) -> Batch:
        """Return inputs and ``labels`` of shape (rows, tokens), see `batch_of_words`, and further targets by row.

        ``intent`` is the intent's number in the first row of an utterance, else `IGNORED`; ``is_first`` is 1 for these
        rows; ``word_weight`` is the weight of each of the utterance's words. All have the shape (rows,).
        """
        batch = batch_of_words(examples, encoded, indices, self.labels)
        number = {intent: n for n, intent in enumerate(self.intents)}
        golds = [IGNORED if one.intent is None else number[one.intent] for one in batch.examples]
        weights = [
            self.slot_weight / len(words) if words and gold != IGNORED else 0.0
            for words, gold in zip(batch.host["words"], golds, strict=True)
        ]
        is_first = torch.cat([torch.ones(1, dtype=torch.bool), batch.rows[1:] != batch.rows[:-1]])
        targets = {
            "intent": torch.where(is_first, torch.tensor(golds)[batch.rows], IGNORED),
            "is_first": is_first.long(),
            "word_weight": torch.tensor(weights)[batch.rows],
        }
        own = torch.from_numpy(self.weights(examples, encoded, indices))
        return replace(batch, targets=batch.targets | targets, weights=own)

    def weights(self, examples: Sequence[Utterance], encoded: Encoded, indices: Sequence[int]) -> np.ndarray:
        """Return 1 for each utterance with gold, else 0."""
        return np.asarray([examples[i].intent is not None for i in indices], dtype=float)

    def losses(self, outputs: Any, batch: Batch) -> Tensor:
        """Return the loss of each utterance: that of its intent, plus the weighted mean of those of its words."""
        logits, labels = outputs.logits.float(), batch.targets["labels"]
        intents = F.cross_entropy(
            logits[:, 0, self._tags :],
            batch.targets["intent"],
            ignore_index=IGNORED,
            reduction="none",
            label_smoothing=self.label_smoothing,
        )
        words = F.cross_entropy(
            logits[..., : self._tags].flatten(0, 1),
            labels.flatten(),
            ignore_index=IGNORED,
            reduction="none",
            label_smoothing=self.label_smoothing,
        )
        return batch.by_example(intents + words.view_as(labels).sum(-1) * batch.targets["word_weight"])

    def distributions(self, outputs: Any, batch: Batch) -> Distributions:
        """Return the distribution over the intents, and over the tags of each word, (rows, 1 + tokens, labels)."""
        labels, intent = batch.targets["labels"], batch.targets["intent"]
        logits = torch.cat([outputs.logits[:, :1], outputs.logits], 1).float()
        of_intents = torch.arange(logits.shape[-1], device=logits.device) >= self._tags
        at_intent = torch.arange(logits.shape[1], device=logits.device).unsqueeze(-1) == 0
        gold = torch.cat([(intent.clamp(min=0) + self._tags).unsqueeze(1), labels.clamp(min=0)], 1)
        words = (labels != IGNORED) * batch.targets["word_weight"].unsqueeze(1)
        weights = torch.cat([(intent != IGNORED).to(words.dtype).unsqueeze(1), words], 1)
        return Distributions(logits.masked_fill(of_intents != at_intent, _OUTSIDE), gold, weights)

    @override
    def mixed(self, outputs: Sequence[Any], mixture: Mixture, batch: Batch | None = None) -> Any:
        """Return the mixture of the distributions over the tags, and of those over the intents."""
        tags, intents = (slice(self._tags), slice(self._tags, None))
        both = [mixture.softmax([each.logits[..., own] for each in outputs]) for own in (tags, intents)]
        return like(outputs[0], {"logits": torch.cat(both, -1)})

    def answers(self, outputs: Any, batch: Batch, model: Any, final: bool) -> list[dict[str, Any]]:
        """Return the intent and the tags of each utterance; a word without a token is predicted O.

        ``probability`` lists that of the intent, and of each word's tag, None for a word without a token. Final answers
        have the ``probabilities`` of all intents, and of all tags for each word.
        """
        intents = outputs.logits[batch.targets["is_first"].bool(), 0, self._tags :].float().softmax(-1)
        tags = outputs.logits[batch.targets["labels"] != IGNORED][:, : self._tags].float().softmax(-1)
        read = iter(tags.tolist())
        answers = []
        for example, words, of_intent in zip(batch.examples, batch.host["words"], intents.tolist(), strict=False):
            of_words: list[list[float] | None] = [None] * len(example.words)
            for word in words:
                of_words[word] = next(read)
            intent = _best(of_intent)
            predicted = ["O" if own is None else self.labels[_best(own)] for own in of_words]
            probability = [None if own is None else max(own) for own in of_words]
            answer = {
                "id": example.id,
                "input": example.words,
                "gold": self.gold(example),
                "predicted": {"intent": self.intents[intent], "tags": predicted},
                "probability": [of_intent[intent], *probability],
                "slots": [_slot(e, example) for e in entities(predicted, self.repair)],
            }
            answers.append(answer | {"probabilities": [of_intent, *of_words]} if final else answer)
        return answers

    def kept(self, example: Utterance, answer: Mapping[str, Any]) -> dict[str, Any]:
        """Return a final answer with ``probabilities`` by name, with the seven digits that fp32 holds."""
        of_intent, *of_words = answer["probabilities"]
        tags = self.labels[: self._tags]
        named = [None if own is None else _named(tags, own) for own in of_words]
        return super().kept(example, {**answer, "probabilities": [_named(self.intents, of_intent), *named]})

    def is_consistent(self, answer: Mapping[str, Any], decisions: Mapping[str, Any]) -> bool:
        """Return whether the predicted intent and tags are the most probable ones."""
        return super().is_consistent(_listed(answer), dict(decisions))

    def agree(self, one: Mapping[str, Any], other: Mapping[str, Any], tolerance: float) -> bool:
        """Return whether two answers have the same intent and tags up to rounding."""
        return super().agree(_listed(one), _listed(other), tolerance)

    def reply(self, example: Utterance, answer: Mapping[str, Any]) -> dict[str, Any]:
        """Return the ``intent`` with its ``probability``, those of all intents, and the ``slots``.

        ``start`` and ``end`` count characters, and ``text`` is that slice, if the input was a text; else they count
        words.
        """
        return {
            "intent": answer["predicted"]["intent"],
            "probability": answer["probability"][0],
            "intents": dict(zip(self.intents, answer["probabilities"][0], strict=True)),
            "slots": answer["slots"],
        }

    def editable(self, example: Utterance) -> list[EditableText]:
        """Return the words, with the slots as mentions of their types, about the intent."""
        spans = [Span(start, end, label) for label, start, end in entities(example.tags)]
        return [EditableText.of_words(example.words, spans, example.intent)]

    def edited(self, example: Utterance, texts: Sequence[EditableText]) -> Utterance:
        """Return an utterance of the words, tagged by the mentions, with the same intent."""
        (text,) = texts
        tags = ["O"] * len(text.words)
        for start, end, label in text.spans:
            tags[start:end] = [f"B-{label}", *[f"I-{label}"] * (end - start - 1)]
        return Utterance(example.id, list(text.words), tags, example.file, group=example.group, intent=example.intent)

    def text_key(self, example: Utterance) -> str:
        """Return the words of the utterance."""
        return "\x1f".join(example.words)

    def gold(self, example: Utterance) -> dict[str, Any]:
        """Return the intent and the tags."""
        return {"intent": example.intent, "tags": example.tags}


def _learn_intents(splits: Mapping[str, Sequence[Utterance]], declared: Sequence[str]) -> list[str]:
    """Return the intents in order: the declared ones, else those of the training split, sorted.

    Raises:
        ConfigError: a declared name is none.
        DataError: there are fewer than two, or an utterance of any split has another.
    """
    occurring = {one.intent for one in splits["train"] if one.intent is not None}
    check_declared(declared)
    intents = list(declared) or sorted(occurring)
    if len(intents) < 2:
        raise DataError(f"{where(splits['train'])}the training split has fewer than two intents; is it data for this?")
    check_found(intents, occurring)
    allowed = {intent for intent in intents if is_name(intent)}
    for members in splits.values():
        for one in members:
            if one.intent not in allowed:
                intent = str(one.intent)
                if not is_name(intent):
                    raise DataError(f"{one.place}: {shown(intent)} is no name of an intent. Mend it.")
                raise DataError(
                    f"{one.place}: unknown intent {shown(intent)}.{nearest(intent, allowed)} Intents "
                    f"{'declared' if declared else 'in the training split'}: {', '.join(intents[:10])}"
                    f"{', ...' if len(intents) > 10 else ''}; name them all with data.labels=[...]"
                )
    return intents


def _best(probabilities: Sequence[float]) -> int:
    """Return the place of the largest, the first of several."""
    return max(range(len(probabilities)), key=probabilities.__getitem__)


def _named(names: Sequence[str], probabilities: Sequence[float]) -> dict[str, float]:
    return {name: float(f"{p:.7g}") for name, p in zip(names, probabilities, strict=True)}


def _listed(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return an answer whose predictions are a list, the intent and then the tags."""
    predicted = answer["predicted"]
    return {**answer, "predicted": [predicted["intent"], *predicted["tags"]]}


def _slot(slot: Any, example: Utterance) -> dict[str, Any]:
    """Return a slot as JSON: its name, its place and its text."""
    if example.text is None:
        start, end, text = slot.start, slot.end, " ".join(example.words[slot.start : slot.end])
    else:
        start, end = example.spans[slot.start][0], example.spans[slot.end - 1][1]
        text = example.text[start:end]
    return {"slot": slot.type, "start": start, "end": end, "text": text}
