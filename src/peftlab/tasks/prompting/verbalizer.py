"""Verbalizers: the scores of labels, read off what a language model computes at the place of the answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from peftlab.tasks.prompting.rows import Prompt

VerbalizerKind = Literal["manual", "soft", "prototypical"]
"""What scores a label: its words; a trained vector in their place; or a trained prototype, by the cosine to it."""

_SHARPNESS = 20.0
"""The factor on cosines from which training starts."""


def described(
    prompts: Sequence[Prompt], labels: Sequence[str], kind: VerbalizerKind, is_calibrated: bool
) -> dict[str, Any]:
    """Return what a verbalizer needs to know of the prompts, as JSON values for a model's configuration.

    ``rows`` is the number of rows of an example; ``places`` lists the row, the template and the token of the word that
    each of its places is for; ``scored`` for each place the words, and ``tokens`` their tokens, that are scored there;
    ``label_of`` the label of each word; ``words`` the tokens of all words of each label in the first template.
    """
    places, scored, tokens, first = list[list[int]](), list[list[int]](), list[list[int]](), 0
    for number, prompt in enumerate(prompts):
        for n, row in enumerate(prompt.rows):
            for k in range(len(row.inserted) + 1):
                places.append([first + n, number, k])
                scored.append(list(row.words))
                tokens.append([prompt.words[word].tokens[k] for word in row.words])
        first += len(prompt.rows)
    words = prompts[0].words
    return {
        "kind": kind,
        "rows": first,
        "places": places,
        "scored": scored,
        "tokens": tokens,
        "label_of": [labels.index(word.label) for word in words],
        "words": [[id for word in words if word.label == label for id in word.tokens] for label in labels],
        "calibrated": is_calibrated,
    }


class Verbalizer(nn.Module):
    """Makes a score for each label of what is computed at the places of an example's answers.

    A manual verbalizer scores a word by the log probability of its tokens, the mean of several; a label by the log of
    the mean probability of its words. Trained ones score each label by one vector. Over several templates, the log
    probabilities of the labels are averaged.

    Args:
        about: what `described` returns.
        size: the size of the states that the output embeddings are multiplied with.
        labels: the number of labels.
    """

    row_of: Tensor
    label_of: Tensor
    ids: Tensor
    shares: Tensor

    def __init__(self, about: Mapping[str, Any], size: int, labels: int) -> None:
        super().__init__()
        self.kind: VerbalizerKind = about["kind"]
        self.rows: int = about["rows"]
        self.places = [(row, token) for row, _, token in about["places"]]
        """The row, and the token of a word from 0, of each place."""
        self.template_of = [template for _, template, _ in about["places"]]
        self.labels = labels
        rows = [row for row, _ in self.places]
        self.several = max(map(rows.count, rows)) > 1
        """Whether a word has several tokens: its score and those of others then need one scale, log probabilities."""
        self.one_each = about["label_of"] == list(range(labels))
        """Whether each label has one word."""
        for name, table in self._tables(about).items():
            self.register_buffer(name, table, persistent=False)
        if self.kind != "manual":
            self.vectors = nn.Linear(size, labels, bias=False)
        if self.kind == "prototypical":
            self.sharpness = nn.Parameter(torch.empty(()))
        if about["calibrated"]:
            self.shift = nn.Parameter(torch.empty(labels))

    def _tables(self, about: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return the row of each place, and by place and word the token and its share in the score of the word."""
        rows, count = [row for row, _ in self.places], len(about["label_of"])
        ids, shares = torch.zeros(len(rows), count, dtype=torch.long), torch.zeros(len(rows), count)
        for n, (words, tokens) in enumerate(zip(about["scored"], about["tokens"], strict=True)):
            for word, token in zip(words, tokens, strict=True):
                ids[n, word], shares[n, word] = token, 1 / rows.count(rows[n])
        return {"row_of": torch.tensor(rows), "ids": ids, "shares": shares, "label_of": torch.tensor(about["label_of"])}

    @torch.no_grad()
    def fill(self, about: Mapping[str, Any]) -> None:
        """Set the tables, which weights do not hold: transformers makes a model without any values."""
        for name, table in self._tables(about).items():
            self.get_buffer(name).copy_(table)

    @torch.no_grad()
    def begin(self, embeddings: Tensor, words: Sequence[Sequence[int]]) -> None:
        """Set what is trained as training begins: vectors to the mean output embeddings of each label's words.

        Args:
            embeddings: of the whole vocabulary, (vocabulary, size).
            words: the tokens of each label.
        """
        if self.kind != "manual":
            self.vectors.weight.copy_(torch.stack([embeddings[list(ids)].mean(0) for ids in words]))
        if self.kind == "prototypical":
            self.sharpness.fill_(math.log(_SHARPNESS))
        if hasattr(self, "shift"):
            self.shift.zero_()

    def forward(self, states: Tensor, logits_of: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the scores of the labels, logits of shape (examples, labels).

        Args:
            states: the inputs of the output embeddings at each place of each example, (examples, places, size).
            logits_of: the output embeddings: the logits over the vocabulary of such states.
        """
        of_places = self._of_words(logits_of(states).float()) if self.kind == "manual" else self._of_vectors(states)
        scores = torch.stack([of_places[:, self._of(template)].sum(1) for template in self._templates], 1)
        if self.kind == "manual" and not self.one_each:
            scores = self._of_labels(scores)
        scores = scores[:, 0] if scores.shape[1] == 1 else scores.log_softmax(-1).mean(1)
        return scores - self.shift if hasattr(self, "shift") and not self.training else scores

    @property
    def _templates(self) -> range:
        return range(self.template_of[-1] + 1)

    def _of(self, template: int) -> slice:
        """Return the places of a template."""
        first = self.template_of.index(template)
        return slice(first, first + self.template_of.count(template))

    def _of_words(self, logits: Tensor) -> Tensor:
        """Return the shares that places, of `logits` (examples, places, vocabulary), have in the scores of words."""
        values = logits.log_softmax(-1) if self.several else logits
        own = values.gather(-1, self.ids.expand(len(values), -1, -1))
        return torch.where(self.shares > 0, own * self.shares, 0)

    def _of_labels(self, scores: Tensor) -> Tensor:
        """Return the log of the mean probability of each label's words, of `scores` (examples, templates, words)."""
        of_label = self.label_of == torch.arange(self.labels, device=scores.device).unsqueeze(-1)
        listed = scores.unsqueeze(-2).masked_fill(~of_label, -torch.inf)
        return listed.logsumexp(-1) - of_label.sum(-1).log()

    def _of_vectors(self, states: Tensor) -> Tensor:
        if self.kind == "soft":
            scores: Tensor = self.vectors(states)
            return scores.float()
        with torch.autocast(states.device.type, enabled=False):  # bf16 would round cosines, which are then magnified
            cosines = F.linear(F.normalize(states.float(), dim=-1), F.normalize(self.vectors.weight.float(), dim=-1))
            return cosines * self.sharpness.exp()
