"""Masked language modelling: hidden tokens are predicted from the others (Devlin et al. 2019, section 3.1)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from peftlab.errors import ConfigError, DataError
from peftlab.scores.masked_scores import MaskedScores, rounded
from peftlab.tasks.batch import Batch
from peftlab.tasks.inputs.editable import EditableText
from peftlab.tasks.inputs.texts import Text, encode_rows
from peftlab.tasks.limits import Limits
from peftlab.tasks.networks.heads import MASKED_LM, Head
from peftlab.tasks.outputs.distributions import Distributions
from peftlab.tasks.processor import Processor
from peftlab.tasks.task import IGNORED, Encoded, Random, Task, spec

_MASK, _ANOTHER = 0.8, 0.9
"""Of the chosen tokens, 80 % become the mask, 10 % another token, and 10 % stay as they are."""

_NO_TEXT, _TEXT, _MASKED_ALREADY = 0, 1, 2
"""The kinds of tokens: special ones, those of the text, and masks that stand in the text itself."""

_SHOWN = 5
"""Tokens that a reply lists for each mask."""


@spec
class MaskedLm(Task):
    """Predicts the tokens behind masks, over the vocabulary, with the model's pretrained head.

    In training, the tokens of a text are drawn from the seed, the epoch and the text's position in the data, so that
    they are the same for any batch size, number of devices or processes, and after a resume. In evaluations they are a
    function of the text alone. A text in which masks stand already is not masked further: what they hide is asked for,
    and has no gold.
    """

    masked: float = Field(default=0.15, gt=0, le=1)
    """The share of a text's tokens that are predicted, rounded to whole tokens, at least one."""
    head: ClassVar[Head] = MASKED_LM
    example: ClassVar[type] = Text
    pointers: ClassVar[frozenset[str] | None] = frozenset({"rows", "examples"})
    host_work: ClassVar[str | None] = None
    draws_inputs: ClassVar[bool] = True

    @property
    def scorer(self) -> MaskedScores:
        """Return perplexity and accuracy of the masked tokens."""
        return MaskedScores()

    def bind(self, processor: Processor) -> None:
        """Keep the vocabulary.

        Raises:
            ConfigError: it has no mask.
        """
        tokenizer = processor.tokenizer
        if tokenizer.mask_token_id is None:
            raise ConfigError(
                f"task={self.name}: the model's tokenizer has no mask token, so it is no masked language model. Choose "
                "another model=..., such as BERT or RoBERTa"
            )
        self._tokenizer, self._mask_id = tokenizer, int(tokenizer.mask_token_id)
        special = processor.special_ids
        self._others = np.setdiff1d(np.fromiter(tokenizer.get_vocab().values(), dtype=np.int64), special)

    def from_input(self, fields: Mapping[str, Any], id: str) -> Text:
        """Return a text; masks in it are written as the tokenizer's mask token, such as ``[MASK]``."""
        text = fields.get("text")
        if not isinstance(text, str):
            raise DataError(
                f"expected `text`, a string, in which {self._tokenizer.mask_token} stands for a hidden token"
            )
        return Text(id, text, None)

    def all_lost(self, encoded: Encoded) -> dict[str, int]:
        """Return the numbers of truncated texts, of truncated tokens, and of texts without a token."""
        return {
            "truncated texts": encoded.counts["truncated_texts"],
            "truncated tokens": encoded.counts["truncated_tokens"],
            "texts without a token": int((self._counts(encoded, range(len(encoded.lengths))) == 0).sum()),
        }

    def lost(self, encoded: Encoded, index: int) -> dict[str, Any]:
        """Return ``truncated`` and the number of ``lost_tokens``, or ``empty``, where they apply."""
        truncated = int(encoded.arrays["truncated"][index])
        empty = not self._counts(encoded, [index])[0]
        return ({"truncated": True, "lost_tokens": truncated} if truncated else {}) | ({"empty": True} if empty else {})

    def encode(self, examples: Sequence[Text], processor: Processor, limits: Limits) -> Encoded:
        """Tokenise as `encode_rows` does; the array ``kind`` says which tokens are special, and which are masks."""
        tokenizer = processor.tokenizer
        encoded = encode_rows([self.text_key(one) for one in examples], tokenizer, *limits)
        tokens = encoded.arrays["tokens"]
        kinds = np.where(np.isin(tokens, processor.special_ids), _NO_TEXT, _TEXT).astype(np.int8)
        kinds[tokens == tokenizer.mask_token_id] = _MASKED_ALREADY
        return replace(encoded, arrays={**encoded.arrays, "kind": kinds})

    def collate(
        self, examples: Sequence[Text], encoded: Encoded, indices: Sequence[int], random: Random | None = None
    ) -> Batch:
        """Return inputs of shape (rows, tokens) in which tokens are masked, and targets of the same shape.

        ``labels`` has the tokens that are predicted, else `IGNORED`; ``asked`` is 1 for those, and for masks that stand
        in the text itself.
        """
        rows, starts = encoded.arrays["rows"], encoded.arrays["examples"]
        bounds = [(row, place) for place, i in enumerate(indices) for row in range(starts[i], starts[i + 1])]
        shape = (len(bounds), max(int(rows[row + 1] - rows[row]) for row, _ in bounds))
        names = {"input_ids": encoded.padding, "attention_mask": 0, "labels": IGNORED, "asked": 0}
        filled = {name: np.full(shape, fill, dtype=np.int64) for name, fill in names.items()}
        n = 0
        for i in indices:
            begin = rows[starts[i]]
            ids, labels, asked = self._masked(encoded, i, random)
            for row in range(starts[i], starts[i + 1]):
                span, length = slice(rows[row] - begin, rows[row + 1] - begin), int(rows[row + 1] - rows[row])
                filled["input_ids"][n, :length], filled["attention_mask"][n, :length] = ids[span], 1
                filled["labels"][n, :length], filled["asked"][n, :length] = labels[span], asked[span]
                n += 1
        tensors = {name: torch.from_numpy(values) for name, values in filled.items()}
        return Batch(
            inputs={name: tensors[name] for name in ("input_ids", "attention_mask")},
            targets={name: tensors[name] for name in ("labels", "asked")},
            weights=torch.from_numpy(self.weights(examples, encoded, indices)),
            rows=torch.tensor([place for _, place in bounds]),
            examples=[examples[i] for i in indices],
            tokens=int(filled["attention_mask"].sum()),
            padding=names,
        )

    def _masked(self, encoded: Encoded, index: int, random: Random | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the tokens of a text with masks, those that are predicted, and which are asked for, over its rows."""
        span = _span(encoded, index)
        tokens, kinds = (encoded.arrays[name][span].astype(np.int64) for name in ("tokens", "kind"))
        labels, asked = np.full_like(tokens, IGNORED), (kinds == _MASKED_ALREADY).astype(np.int64)
        (number,) = self._numbers(encoded, [index])
        if number:
            generator = _of_text(tokens) if random is None else random(index)
            places = np.flatnonzero(kinds == _TEXT)
            chosen = np.sort(places[generator.permutation(len(places))[:number]])
            fates = generator.random(number)
            others = self._others[generator.integers(len(self._others), size=number)]
            labels[chosen], asked[chosen] = tokens[chosen], 1
            tokens[chosen[fates < _MASK]] = self._mask_id
            another = (fates >= _MASK) & (fates < _ANOTHER)
            tokens[chosen[another]] = others[another]
        return tokens, labels, asked

    def _counts(self, encoded: Encoded, indices: Sequence[int]) -> np.ndarray:
        """Return the number of tokens of each text, without special ones, shape (examples,)."""
        kinds = (encoded.arrays["kind"][_span(encoded, i)] for i in indices)
        return np.asarray([np.count_nonzero(of_text) for of_text in kinds], dtype=np.int64)

    def _numbers(self, encoded: Encoded, indices: Sequence[int]) -> np.ndarray:
        """Return how many tokens of each text are masked: none where masks stand in it, shape (examples,)."""
        has_masks = [bool((encoded.arrays["kind"][_span(encoded, i)] == _MASKED_ALREADY).any()) for i in indices]
        counts = self._counts(encoded, indices)
        numbers = np.minimum(np.maximum(np.rint(self.masked * counts).astype(np.int64), 1), counts)
        return np.where(has_masks, 0, numbers)

    def weights(self, examples: Sequence[Text], encoded: Encoded, indices: Sequence[int]) -> np.ndarray:
        """Return the number of tokens that are masked in each text, which is the same in every epoch."""
        return self._numbers(encoded, indices).astype(float)

    def losses(self, outputs: Any, batch: Batch) -> Tensor:
        """Return the cross-entropy of each text, summed over its masked tokens."""
        labels = batch.targets["labels"]
        losses = F.cross_entropy(
            outputs.logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED, reduction="none"
        )
        return batch.by_example(losses.view_as(labels).sum(-1))

    def distributions(self, outputs: Any, batch: Batch) -> Distributions:
        """Return the distribution over the vocabulary at each masked token."""
        labels = batch.targets["labels"]
        return Distributions(outputs.logits.float(), labels.clamp(min=0), (labels != IGNORED).float())

    def answers(self, outputs: Any, batch: Batch, model: Any, final: bool) -> list[dict[str, Any]]:
        """Return the most probable token for each mask of a text, and what the hidden ones were given.

        ``masked`` has the hidden tokens, ``log_probability`` the logarithms of their probabilities; both are None for a
        mask that stands in the text itself. Final answers have the most probable tokens of each mask as ``fills``.
        """
        asked = batch.targets["asked"].bool()
        logits, labels = outputs.logits[asked].float(), batch.targets["labels"][asked]
        log_p = logits.log_softmax(-1)
        best, tokens = log_p.topk(min(_SHOWN, log_p.shape[-1]) if final else 1, -1)
        own = log_p.gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)
        counts = batch.by_example(asked.sum(-1)).tolist()
        of_masks = zip(best.exp().tolist(), tokens.tolist(), labels.tolist(), own.tolist(), strict=True)
        return [
            self._answer(example, [next(of_masks) for _ in range(count)], final)
            for example, count in zip(batch.examples, counts, strict=False)
        ]

    def _answer(self, example: Text, masks: Sequence[Any], final: bool) -> dict[str, Any]:
        """Return the answer to a text: probabilities and tokens, best first, the gold and its logarithm by mask."""
        answer = {
            "id": example.id,
            "input": self.text_key(example),
            "gold": None,
            "predicted": [self._token(tokens[0]) for _, tokens, _, _ in masks],
            "probability": [best[0] for best, _, _, _ in masks],
            "masked": [None if label == IGNORED else self._token(label) for _, _, label, _ in masks],
            "log_probability": [None if label == IGNORED else rounded(log_p) for _, _, label, log_p in masks],
        }
        if not final:
            return answer
        fills = [
            {self._token(token): float(f"{p:.7g}") for p, token in zip(best, tokens, strict=True)}
            for best, tokens, _, _ in masks
        ]
        return answer | {"fills": fills}

    def _token(self, id: int) -> str:
        return str(self._tokenizer.convert_ids_to_tokens(id))

    def is_consistent(self, answer: Mapping[str, Any], decisions: Mapping[str, Any]) -> bool:
        """Return whether each predicted token is the most probable one."""
        masks = zip(answer["predicted"], answer["probability"], answer["fills"], strict=True)
        return all(fills[token] == max(fills.values()) and abs(fills[token] - p) <= 1e-6 for token, p, fills in masks)

    def reply(self, example: Text, answer: Mapping[str, Any]) -> dict[str, Any]:
        """Return the ``fills``, the most probable tokens of each mask with their probabilities.

        A text without masks is masked as in an evaluation; ``masked`` has the tokens that were hidden.
        """
        hidden = {"masked": answer["masked"]} if any(answer["masked"]) else {}
        return {"fills": answer["fills"]} | hidden

    def editable(self, example: Text) -> list[EditableText]:
        """Return the text, or both texts of a pair, whose words may all change."""
        return [EditableText.of_text(text) for text in (example.text, example.pair) if text is not None]

    def edited(self, example: Text, texts: Sequence[EditableText]) -> Text:
        """Return the example with its other texts."""
        first, *second = [text.text for text in texts]
        return replace(example, text=first, pair=second[0] if second else None)

    def text_key(self, example: Text) -> str:
        """Return the text; both texts of a pair, one after the other."""
        return example.text if example.pair is None else f"{example.text}\n{example.pair}"

    def gold(self, example: Text) -> None:
        """Return None: what is to be predicted is the text itself. A label that it has plays no part."""
        return None


def _span(encoded: Encoded, index: int) -> slice:
    """Return where the tokens of a text are among all."""
    rows, starts = encoded.arrays["rows"], encoded.arrays["examples"]
    return slice(int(rows[starts[index]]), int(rows[starts[index + 1]]))


def _of_text(tokens: np.ndarray) -> np.random.Generator:
    """Return random numbers that depend on these tokens alone."""
    digest = hashlib.blake2b(tokens.astype("<i8").tobytes(), digest_size=8).digest()
    return np.random.default_rng(int.from_bytes(digest, "little"))
